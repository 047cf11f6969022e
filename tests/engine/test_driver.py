"""A run from its config on: what is built how often, what is said, and how it ends."""

import collections
import logging
import os
import subprocess
import sys

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from helpers.builders import ROOT
from helpers.custom_data import TINY_MODEL, data_overrides, write_data_set
from helpers.logs import logging_as_before
from smca.data import TrainLoader
from smca.data.sources import coco_json, coco_source
from smca.engine import RunInputs, evaluate_only, prepare_training, start_run
from smca.engine.run.log import held_back, tell
from smca.evaluation import CocoEvaluator
from smca.experiments import load_experiment
from smca.modeling import SMCA

CONFIG = str(ROOT / "configs" / "digits" / "custom_coco.py")


@pytest.fixture
def overrides(tmp_path):
    data = [write_data_set(tmp_path, name=name) for name in ("train", "val")]
    yield [*TINY_MODEL, *data_overrides(*data), f"train.output_dir={tmp_path / 'run'}"]
    for name in ("custom_train", "custom_val"):
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.fixture
def counted(monkeypatch):
    """How often parts are made, and which annotation files are read."""
    counts = collections.Counter()

    def count(owner, name, key):
        real = getattr(owner, name)

        def call(*args, **options):
            counts[key(args)] += 1
            return real(*args, **options)

        monkeypatch.setattr(owner, name, call)

    for cls in (SMCA, TrainLoader, CocoEvaluator):
        count(cls, "__init__", lambda _, name=cls.__name__: name)
    count(coco_source, "find_sizes", lambda args: "images")
    count(coco_json, "load_coco_json", lambda args: os.path.basename(args[0]))
    return counts


def test_each_part_is_made_once(overrides, counted):
    """By the checks, a training and its two evaluations, each of the weights and of their average."""
    cfg = load_experiment(
        CONFIG,
        [*overrides, "train.max_iter=2", "train.evaluation.period=1", "train.ema.enabled=True"],
    )
    with logging_as_before():
        inputs = RunInputs(cfg, training=True)
        start_run(inputs, resume=False)
        trainer, start, stop = prepare_training(inputs, resume=False)
        trainer.train(start, stop)
    # Images are looked at in both data sets.
    assert counted == {
        "SMCA": 1, "TrainLoader": 1, "CocoEvaluator": 1, "images": 2, "train.json": 1, "val.json": 1,
    }  # fmt: skip


def test_an_evaluation_builds_each_part_once(overrides, counted, tmp_path):
    with logging_as_before():
        inputs = RunInputs(load_experiment(CONFIG, overrides), training=True)
        prepare_training(inputs, resume=False)[0].train(0, 1)
    counted.clear()
    weights = f"train.init_checkpoint={tmp_path / 'run' / 'model_final.pth'}"
    with logging_as_before():
        inputs = RunInputs(load_experiment(CONFIG, [*overrides, weights]), training=False)
        start_run(inputs, resume=False)
        first = evaluate_only(inputs, resume=False)
        assert repr(inputs.evaluate(inputs.model)) == repr(first)
    assert (counted["SMCA"], counted["CocoEvaluator"], counted["images"]) == (1, 1, 1)
    assert counted["TrainLoader"] == 0


def test_the_config_stays_as_it_was_given(overrides):
    cfg = load_experiment(CONFIG, overrides)
    inputs = RunInputs(cfg, training=True)
    given = str(cfg)
    inputs.check()
    prepare_training(inputs, resume=False)
    assert str(cfg) == given


def say():
    logging.getLogger("smca").info("a number")
    logging.getLogger("smca.data").warning("a doubt")


def test_what_is_said_before_there_is_a_log_waits_for_it(caplog):
    with held_back() as said:
        say()
    assert caplog.messages == []
    with caplog.at_level(logging.INFO, "smca"):
        tell(said)
    assert caplog.messages == ["a number", "a doubt"]


def test_where_there_will_be_no_log_doubts_are_told_at_once(caplog):
    def refuse():
        with held_back():
            say()
            raise ValueError("refused")

    with caplog.at_level(logging.INFO, "smca"), pytest.raises(ValueError, match="refused"):
        refuse()
    assert caplog.messages == ["a doubt"]


def broken_part(**_):
    _first, _second = (1,)


BROKEN = """
from detectron2.config import LazyCall as L
from engine.test_driver import broken_part
from smca import model_zoo

_cfg = model_zoo.get_config("digits/custom_coco")
model, train, optimizer, lr_multiplier, dataloader = (
    _cfg[name] for name in ("model", "train", "optimizer", "lr_multiplier", "dataloader")
)
data = _cfg.data
model.criterion = L(broken_part)()
"""


def test_a_bug_in_a_part_of_ones_own_keeps_its_traceback(overrides, tmp_path):
    """Once, though the main process fails for both; nothing is written before."""
    config = tmp_path / "broken.py"
    config.write_text(BROKEN)
    command = ["--config-file", str(config), "--num-gpus", "2", *overrides]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train_net.py"), *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests")},
        text=True,
        capture_output=True,
        timeout=240,
    )
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.count("not enough values to unpack") == 1
    assert "in broken_part" in done.stderr
    assert "train_net.py: " not in done.stderr
    assert not (tmp_path / "run").exists()
