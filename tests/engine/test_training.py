"""From a config to a training: what the engine makes of the fields of ``train``."""

import json
import logging
import math

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.engine import HookBase
from omegaconf import OmegaConf

from smca import model_zoo
from smca.data import DigitsSpec, register_digits
from smca.engine import RunInputs, evaluate_only, iteration_of_epoch, prepare_training
from smca.engine.schedule import learning_rate_factor
from smca.engine.training import FLOAT16_SKIPS, _tolerated_skips


@pytest.fixture(scope="module", autouse=True)
def digits(tmp_path_factory):
    register_digits(
        tmp_path_factory.mktemp("datasets"), spec=DigitsSpec(train_images=8, val_images=2)
    )
    yield
    register_digits()


@pytest.fixture
def cfg(tmp_path):
    """Four iterations of two images with a model of nothing."""
    cfg = model_zoo.get_config("digits/smca_single_scale")
    cfg.model.backbone.stem_channels = 8
    cfg.model.neck.embed_dim = 16
    cfg.model.encoder.ffn_dim = 16
    cfg.model.encoder.num_heads = 4
    cfg.model.encoder.blocks = "Intra"
    cfg.model.decoder.num_layers = 1
    cfg.model.decoder.num_queries = 5
    cfg.dataloader.train.total_batch_size = 2
    cfg.dataloader.train.num_workers = cfg.dataloader.test.num_workers = 0
    cfg.train.update(device="cpu", output_dir=str(tmp_path), max_iter=4, log_period=1)
    cfg.train.checkpointer.period = 1
    cfg.train.evaluation.period = 0
    return cfg


def train(cfg, *, resume=False):
    trainer, start, stop = prepare_training(RunInputs(cfg, training=True), resume=resume)
    trainer.train(start, stop)
    return trainer


@pytest.mark.parametrize(
    ("rule", "images", "reference", "factor"),
    [
        (None, 64, 8, 1.0),
        ("linear", 64, 8, 8.0),
        ("linear", 4, 8, 0.5),
        ("sqrt", 32, 8, 2.0),
        ("sqrt", 4, 16, 0.5),
        ("linear", 8, 8, 1.0),
    ],
)
def test_learning_rate_rules(cfg, rule, images, reference, factor):
    cfg.dataloader.train.total_batch_size = images
    cfg.train.lr_scaling.update(rule=rule, reference_batch_size=reference)
    assert learning_rate_factor(cfg) == pytest.approx(factor)


@pytest.mark.parametrize("rule", [None, "sqrt"])
def test_every_group_is_scaled_alike(cfg, rule):
    cfg.train.lr_scaling.update(rule=rule, reference_batch_size=8)
    trainer, _, _ = prepare_training(RunInputs(cfg, training=True), resume=False)
    factor = 0.5 if rule else 1.0
    rates = {group["lr"] for group in trainer.optimizer.param_groups}
    assert sorted(rates) == pytest.approx(
        [cfg.optimizer.lr * factor, cfg.optimizer.params.backbone_lr * factor]
    )


@pytest.mark.parametrize(
    ("enabled", "dtype", "given", "tolerated"),
    [
        (False, "float16", None, 0),
        (True, "bfloat16", None, 0),
        (True, "float16", None, FLOAT16_SKIPS),
        (True, "float16", 0, 0),
        (True, "float16", 3, 3),
        (False, "bfloat16", 2, 2),
    ],
)
def test_tolerated_skips(cfg, enabled, dtype, given, tolerated):
    cfg.train.amp.update(enabled=enabled, dtype=dtype)
    cfg.train.skip_nonfinite = given
    assert _tolerated_skips(cfg.train) == tolerated


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_epochs_are_the_unit_whatever_the_batch_size(cfg, batch_size):
    cfg.train.max_iter = None
    cfg.train.epochs = 3
    cfg.dataloader.train.total_batch_size = batch_size
    _, start, stop = prepare_training(RunInputs(cfg, training=True), resume=False)
    assert (start, stop) == (0, iteration_of_epoch(3, 8 / batch_size))
    assert stop * batch_size == 24


CALLS = []


class Recorder(HookBase):
    def __init__(self, word):
        self.word = word

    def before_train(self):
        CALLS.append((self.word, "start"))

    def after_step(self):
        self.trainer.storage.put_scalar("recorded", self.trainer.iter, smoothing_hint=False)
        CALLS.append((self.word, self.trainer.iter))


def probe():
    return {"probe": 3.0}


def test_hooks_of_the_config_plug_in(cfg, tmp_path):
    CALLS.clear()
    cfg.train.hooks = [
        L(Recorder)(word="mine"),
        {"_target_": "detectron2.engine.hooks.EvalHook", "eval_period": 2, "eval_function": probe},
    ]
    cfg = OmegaConf.create(cfg, flags={"allow_objects": True})
    train(cfg)
    assert [("mine", "start"), *(("mine", i) for i in range(4))] == CALLS
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    # Detectron2's own evaluates last of all, when the last step's line is written.
    assert [line["recorded"] for line in lines if "recorded" in line] == [0, 1, 2, 3]
    assert next(line["iteration"] for line in lines if "probe" in line) == 1
    assert lines[-1]["probe"] == 3.0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_everything_at_once(cfg, tmp_path, dtype):
    cfg.train.update(accumulate_steps=2)
    cfg.train.amp.update(enabled=True, dtype=dtype)
    cfg.train.ema.update(enabled=True, decay=0.5)
    cfg.model.encoder.activation_checkpointing = cfg.model.decoder.activation_checkpointing = True
    trainer = train(cfg)
    assert trainer.iter == 4
    content = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert ("scale" in content["trainer"]["precision"]) == (dtype == "float16")
    assert content["trainer"]["hooks"].keys() >= {"EvaluationHook"}
    last = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    # Both kinds of weights are evaluated, and the averaged ones choose the best.
    assert {"bbox/AP", "bbox_ema/AP"} <= last.keys()
    if math.isfinite(last["bbox_ema/AP"]):
        best = torch.load(tmp_path / "model_best.pth", weights_only=True)
        metrics = json.loads(best["smca"])["metrics"]
        assert metrics["bbox_ema/AP"] == pytest.approx(last["bbox_ema/AP"])


def test_an_evaluation_takes_the_newest_that_is_whole(cfg, tmp_path, monkeypatch, caplog):
    """Also after a kill between a checkpoint and the file that names it."""
    train(cfg)
    (tmp_path / "last_checkpoint").unlink()
    (tmp_path / "model_final.pth").write_bytes(b"")
    evaluated = []
    monkeypatch.setattr(
        RunInputs, "evaluate", lambda _, model: evaluated.append(model.state_dict()) or {}
    )
    with caplog.at_level(logging.WARNING, "smca"):
        evaluate_only(RunInputs(cfg, training=False), resume=True)
    expected = torch.load(tmp_path / "model_0000002.pth", weights_only=True)["model"]
    assert [k for k, v in expected.items() if not torch.equal(evaluated[0][k], v)] == []
    assert "model_final.pth is damaged" in caplog.text


def test_a_resume_of_another_model_is_one_sentence(cfg):
    train(cfg)
    cfg.model.decoder.num_queries = 6
    for call in (
        lambda: prepare_training(RunInputs(cfg, training=True), resume=True),
        lambda: evaluate_only(RunInputs(cfg, training=False), resume=True),
    ):
        with pytest.raises(ValueError, match="does not fit this config") as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("asked", [True, False, None])
def test_parts_are_compiled_where_it_is_asked_for(cfg, monkeypatch, asked):
    compiled = []
    monkeypatch.setattr("smca.engine.training.compile_parts", compiled.append)
    if asked is None:
        # As in a config.yaml of before.
        del cfg.train["compile"]
    else:
        cfg.train.compile = asked
    inputs = RunInputs(cfg, training=True)
    prepare_training(inputs, resume=False)
    assert compiled == ([inputs.model] if asked else [])
