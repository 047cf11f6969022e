"""Several processes give what one gives: gradients, evaluations, weights."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog

from helpers.distributed import (
    evaluate_jittered_boxes,
    fail_in_one_process,
    fail_to_load_in_one_process,
    save_gradients,
    skip_a_bad_pass,
    train_with_norm_and_dropout,
)
from smca.data import register_digits
from smca.engine import launch
from smca.experiments import load_config_file

ROOT = Path(__file__).parents[2]
CONFIG = """
from smca import model_zoo
from smca.data import DigitsSpec, register_digits

register_digits({root!r}, spec=DigitsSpec(train_images=12, val_images=7))
_cfg = model_zoo.get_config("digits/smca_single_scale")
dataloader, lr_multiplier, model = _cfg.dataloader, _cfg.lr_multiplier, _cfg.model
optimizer, train = _cfg.optimizer, _cfg.train

model.backbone.stem_channels = 8
model.backbone.norm = "FrozenBN"
model.neck.embed_dim = 32
model.encoder.ffn_dim = 64
model.encoder.blocks = "Intra"
model.decoder.num_layers = 2
model.decoder.num_queries = 10
dataloader.train.total_batch_size = 4
dataloader.train.num_workers = dataloader.test.num_workers = 0
dataloader.test.batch_size = 1
train.init_checkpoint = {weights!r}
train.device = "cpu"
train.max_iter = 2
train.log_period = 1
train.evaluation.period = 0
train.checkpointer.period = 1
train.output_dir = {output!r}
"""


def gradients(tmp_path, name, processes, accumulate_steps, counts):
    path = tmp_path / f"{name}.pth"
    launch(
        save_gradients,
        args=(str(path), counts, accumulate_steps),
        device="cpu",
        num_processes=processes,
    )
    return torch.load(path)


@pytest.mark.parametrize("counts", [[1, 4], [0, 3]])
def test_two_processes_and_accumulation_give_the_gradients_of_one_batch(tmp_path, counts):
    whole = gradients(tmp_path, "whole", 1, 1, counts)
    assert sum(g.abs().max() > 0 for g in whole["gradients"].values()) > 100
    for name, processes, steps in (("two", 2, 1), ("accumulated", 1, 2)):
        other = gradients(tmp_path, name, processes, steps, counts)
        # Two processes report the mean of their losses, each over the mean number of boxes.
        assert other["loss"] == pytest.approx(whole["loss"], rel=1e-5)
        scale = max(g.abs().max() for g in whole["gradients"].values())
        for key, expected in whole["gradients"].items():
            difference = (other["gradients"][key] - expected).abs().max()
            assert difference <= 1e-5 * max(expected.abs().max(), 1e-3 * scale), (name, key)


def test_a_failure_in_one_process_ends_all(capfd):
    with pytest.raises(SystemExit) as stopped:
        launch(fail_in_one_process, args=(1,), device="cpu", num_processes=2)
    assert stopped.value.code == 7


def test_a_pass_that_fails_in_one_process_is_skipped_in_all(tmp_path):
    launch(skip_a_bad_pass, args=(str(tmp_path), 2), device="cpu", num_processes=2)
    first, second = (torch.load(tmp_path / f"rank{rank}.pth") for rank in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.ones(3))


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        (
            "broken",
            1,
            r"rank 1: train: iteration 2 .its images. cannot be done: broken.jpg: it is cut off;",
        ),
        ("killed", 137, r"the process of rank 1 was ended by SIGKILL, perhaps for lack of memory"),
    ],
)
def test_a_failure_of_another_rank_is_told_and_what_was_trained_is_saved(
    tmp_path, capfd, how, status, said
):
    with pytest.raises(SystemExit) as stopped:
        launch(
            fail_to_load_in_one_process, args=(str(tmp_path), how), device="cpu", num_processes=2
        )
    assert stopped.value.code == status
    errors = [line for line in capfd.readouterr().err.splitlines() if "Warning" not in line]
    told = [line for line in errors if not line.startswith("  ")]
    assert len(told) == 1, told
    assert re.match(said, told[0])
    saved = torch.load(tmp_path / "model_0000001.pth", weights_only=True)
    assert saved["iteration"] == 1


def test_processes_agree_on_averages_and_statistics_but_not_on_dropout(tmp_path):
    launch(train_with_norm_and_dropout, args=(str(tmp_path),), device="cpu", num_processes=2)
    first, second = (
        torch.load(tmp_path / f"rank{rank}.pth", weights_only=True) for rank in range(2)
    )
    for part in ("model", "ema"):
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), (part, name)
    # Each has seen other images: neither's own statistics, but their mean.
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert torch.equal(saved["model"]["norm.running_mean"], first["model"]["norm.running_mean"])
    # The average has followed the parameters from where all processes started.
    assert not torch.equal(first["ema"]["scale"], first["model"]["scale"])
    assert not torch.equal(first["kept"], second["kept"])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    path = folder / "experiment.py"
    text = CONFIG.format(
        root=str(folder / "data"), weights=str(folder / "start.pth"), output=str(folder / "run")
    )
    path.write_text(text)
    state = instantiate(load_config_file(str(path)).model).state_dict()
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.fill_(0.01)  # loaded, not as constructed
    torch.save({"model": state}, folder / "start.pth")
    # Made here, so that no process has to wait for another to make it.
    DatasetCatalog.get("digits_train")
    yield path
    register_digits()


def command(*words):
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        text=True,
        capture_output=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_train_evaluate_and_resume_as_one(config, tmp_path):
    script = str(ROOT / "train_net.py")
    two, one = tmp_path / "two", tmp_path / "one"
    arguments = ["--config-file", str(config)]
    command(script, *arguments, "--num-gpus", "2", f"train.output_dir={two}", "train.max_iter=1")
    command(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script),
        *arguments,
        "--resume",
        f"train.output_dir={two}",
    )
    command(script, *arguments, f"train.output_dir={one}", "train.accumulate_steps=2")

    ours, theirs = (torch.load(run / "model_final.pth", weights_only=True) for run in (two, one))
    assert ours["iteration"] == theirs["iteration"] == 1
    for name, weight in theirs["model"].items():
        torch.testing.assert_close(ours["model"][name], weight, rtol=1e-3, atol=1e-5, msg=name)


def test_an_evaluation_over_two_processes_equals_that_of_one(tmp_path):
    """Seven images are no multiple of two; the boxes are good, but not perfect."""
    results = []
    for processes in (1, 2):
        path = tmp_path / f"{processes}.json"
        launch(
            evaluate_jittered_boxes,
            args=(str(path), str(tmp_path / "data")),
            device="cpu",
            num_processes=processes,
        )
        results.append(json.loads(path.read_text()))
    register_digits()
    assert results[0] == results[1]
    assert 10 < results[0]["AP"] < 90
