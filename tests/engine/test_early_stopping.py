"""A training whose evaluations no longer get better ends, saved, wherever it was interrupted before."""

import json

import pytest
import torch
from detectron2.config import LazyConfig

from helpers.distributed import end_early
from helpers.tiny_training import CallAt, Killed, assert_same, tiny_training
from smca import model_zoo
from smca.engine import launch
from smca.engine.early_stopping import EarlyStoppingHook, evaluations_without_gain
from smca.engine.run.record import RecordHook
from smca.engine.settings.setting_checks import check_settings
from smca.evaluation import EvaluationHook
from smca.experiments import load_experiment

AP = {2: 10.0, 4: 30.0, 6: 30.5, 8: 20.0, 10: 40.0, 12: 5.0, 14: 5.0, 16: 50.0, 18: 5.0, 20: 5.0}
"""After so many iterations."""


def kill():
    raise Killed


@pytest.mark.parametrize(
    ("values", "min_delta", "count"),
    [
        ([], 0, 0),
        ([1.0], 0, 0),
        ([1.0, 1.0], 0, 1),
        ([1.0, 2.0, 1.0, 2.0], 0, 2),
        ([1.0, 1.4, 1.8], 0.5, 0),
        ([1.0, 1.4, 1.5], 0.5, 2),
        ([-1.0, -2.0, 0.0], 0, 0),
    ],
)
def test_count(values, min_delta, count):
    """A gain is one over the best before; small steps add up."""
    assert evaluations_without_gain(values, min_delta) == count


def training(directory, *, patience=2, min_delta=1.0):
    made = tiny_training(directory)
    trainer = made.trainer
    evaluations = []

    def evaluate():
        done = int(trainer.storage.iter) + 1
        evaluations.append(done)
        return {"bbox": {"AP": AP[done]}}

    hook = EvaluationHook(
        period=2, evaluate=evaluate, iters_per_epoch=2, output_dir=str(directory),
        save_best=made.checkpointer.save_best,
    )  # fmt: skip
    stopping = EarlyStoppingHook(
        evaluation=hook, checkpointer=made.checkpointer, patience=patience, min_delta=min_delta
    )
    record = RecordHook(output_dir=str(directory), max_iter=20, period=1)
    trainer.register_hooks([hook, stopping, record])
    return made, evaluations


def last_line(directory):
    return json.loads((directory / "metrics.json").read_text().splitlines()[-1])


def final_state(directory):
    return torch.load(directory / "model_final.pth", weights_only=True)


def test_it_ends_with_a_final_state_and_the_best(tmp_path):
    """30.5 and 20 are no gain of more than 1 over 30."""
    made, evaluations = training(tmp_path)
    made.run(0, 20)
    assert evaluations == [2, 4, 6, 8]
    assert made.trainer.iter == 7
    assert final_state(tmp_path)["iteration"] == 7
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["iteration"] == 5
    assert (last_line(tmp_path)["iteration"], last_line(tmp_path)["bbox/AP"]) == (7, 20.0)


@pytest.mark.parametrize(
    ("patience", "min_delta", "last"), [(1, 1.0, 6), (1, 0.0, 8), (3, 1.0, 20)]
)
def test_patience_and_least_gain(tmp_path, patience, min_delta, last):
    made, evaluations = training(tmp_path, patience=patience, min_delta=min_delta)
    made.run(0, 20)
    assert evaluations[-1] == last


@pytest.mark.parametrize("at", [2, 6, 7])
@pytest.mark.parametrize("when", ["before the evaluation", "after it"])
def test_a_resumed_one_ends_where_an_undisturbed_one_does(tmp_path, at, when):
    """Also where the kill came between the last checkpoint and the evaluation that ends the training."""
    whole, _ = training(tmp_path / "whole")
    whole.run(0, 20)
    folder = tmp_path / "stopped"
    made, _ = training(folder)
    # Behind the checkpoint's hook, in front of the evaluation's, or behind it.
    position = 2 if when == "before the evaluation" else 3
    call = CallAt(at, after=kill)
    made.trainer.register_hooks([call])
    made.trainer._hooks.insert(position, made.trainer._hooks.pop())
    with pytest.raises(Killed):
        made.run(0, 20)
    assert not (folder / "model_final.pth").exists()
    again, _ = training(folder)
    again.resume(20)
    assert_same(again.everything(), whole.everything())
    ours, theirs = final_state(folder), final_state(tmp_path / "whole")
    assert ours["iteration"] == theirs["iteration"] == 7
    assert ours["trainer"]["iteration"] == theirs["trainer"]["iteration"]
    hooks = [content["trainer"]["hooks"]["EvaluationHook"] for content in (ours, theirs)]
    assert hooks[0] == hooks[1]
    assert last_line(folder).items() >= {"iteration": 7, "bbox/AP": 20.0}.items()


def test_one_that_has_ended_takes_no_step_more_until_it_may(tmp_path):
    made, _ = training(tmp_path)
    made.run(0, 20)
    before = (tmp_path / "metrics.json").read_text()
    again, evaluations = training(tmp_path)
    again.resume(20)
    assert evaluations == []
    assert final_state(tmp_path)["iteration"] == 7
    assert (tmp_path / "metrics.json").read_text() == before
    patient, evaluations = training(tmp_path, patience=3)
    patient.resume(20)
    assert evaluations == [10, 12, 14, 16, 18, 20]
    whole, _ = training(tmp_path / "whole", patience=3)
    whole.run(0, 20)
    assert_same(patient.everything(), whole.everything())


def test_all_processes_end_together(tmp_path):
    launch(end_early, args=(str(tmp_path),), device="cpu", num_processes=2)
    assert [(tmp_path / f"rank{rank}.txt").read_text() for rank in range(2)] == ["7", "7"]
    assert final_state(tmp_path)["iteration"] == 7


def test_fields_are_checked():
    cfg = load_experiment("digits/smca_single_scale", ["train.early_stopping.patience=0"])
    with pytest.raises(
        ValueError, match=r"train\.early_stopping\.patience=0 must be a whole number, at least 1"
    ):
        check_settings(cfg, training=True)
    cfg = load_experiment(
        "digits/smca_single_scale",
        ["train.early_stopping.patience=3", "train.evaluation.period_epochs=0"],
    )
    with pytest.raises(
        ValueError, match=r"only the one at the end: set train\.evaluation\.period_epochs"
    ):
        check_settings(cfg, training=True)


def test_configs_of_the_first_version_lack_the_fields(tmp_path):
    cfg = model_zoo.get_config("digits/smca_single_scale")
    del cfg.train.early_stopping
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    again = load_experiment(str(tmp_path / "config.yaml"), ["train.early_stopping.patience=3"])
    check_settings(again, training=True)
    assert again.train.early_stopping == {"patience": 3, "min_delta": 0.0}
