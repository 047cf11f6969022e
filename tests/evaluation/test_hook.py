import copy
import json
import math

import pytest
import torch
from detectron2.engine import TrainerBase
from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils.events import JSONWriter, TensorboardXWriter

import smca.evaluation.hook as hook_module
from smca.evaluation import EvaluationHook

NAN = float("nan")


class CountingTrainer(TrainerBase):
    """Its model's only weight is the number of steps done."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.model.weight)
        self.fail_at = fail_at

    def run_step(self):
        if self.iter == self.fail_at:
            raise FloatingPointError("loss became NaN")
        with torch.no_grad():
            self.model.weight += 1


class Evaluations:
    """Stands for an evaluation: gives the values in turn, keeps when it was called."""

    def __init__(self, trainer, values=()):
        self.trainer = trainer
        self.values = list(values)
        self.done = []

    def __call__(self):
        self.done.append(int(self.trainer.model.weight))
        ap = self.values.pop(0) if self.values else 10.0
        return {"bbox": {"AP": ap, "AP50": ap + 20, "AP75": ap - 5, "APl": NAN, "AP-cat": ap}}


def make_hook(trainer, tmp_path, values=(), **kwargs):
    evaluations = Evaluations(trainer, values)
    arguments = {"period": 2, "iters_per_epoch": 4, "output_dir": str(tmp_path), **kwargs}
    hook = EvaluationHook(evaluate=evaluations, **arguments)
    trainer.register_hooks([hook])
    return hook, evaluations


@pytest.mark.parametrize(
    ("period", "expected"), [(3, [3, 6, 9, 10]), (5, [5, 10]), (0, [10]), (50, [10])]
)
def test_when_it_evaluates(tmp_path, period, expected):
    trainer = CountingTrainer()
    _, evaluations = make_hook(trainer, tmp_path, period=period)
    trainer.train(0, 10)
    assert evaluations.done == expected


@pytest.mark.parametrize(("fail_at", "expected"), [(7, [3, 6]), (9, [3, 6, 9]), (0, [])])
def test_no_last_evaluation_after_a_failure(tmp_path, fail_at, expected):
    trainer = CountingTrainer(fail_at)
    _, evaluations = make_hook(trainer, tmp_path, period=3)
    with pytest.raises(FloatingPointError):
        trainer.train(0, 10)
    assert evaluations.done == expected


def test_everything_is_in_the_storage(tmp_path):
    trainer = CountingTrainer()
    make_hook(trainer, tmp_path, values=[10.0, 30.0], period=5)
    trainer.train(0, 10)
    latest = trainer.storage.latest()
    assert latest["bbox/AP"] == (30.0, 9)
    assert latest["bbox/AP50"] == (50.0, 9)
    assert latest["bbox/AP-cat"] == (30.0, 9)
    assert math.isnan(latest["bbox/APl"][0])
    assert latest["epoch"] == (2.5, 9)
    assert not any(trainer.storage.smoothing_hints().values())
    assert trainer.storage.history("bbox/AP").values() == [(10.0, 4), (30.0, 9)]


def test_everything_is_in_metrics_json_and_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = CountingTrainer()
    make_hook(trainer, tmp_path, values=[10.0, 30.0, 20.0], period=4)
    writers = [JSONWriter(str(tmp_path / "metrics.json")), TensorboardXWriter(str(tmp_path))]
    trainer.register_hooks([PeriodicWriter(writers, period=3)])
    trainer.train(0, 10)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    names = {"bbox/AP", "bbox/AP50", "bbox/AP75", "bbox/APl", "bbox/AP-cat", "epoch", "iteration"}
    assert [set(line) for line in lines] == [names] * 3
    assert [(x["iteration"], x["epoch"], x["bbox/AP"]) for x in lines] == [
        (3, 1.0, 10.0),
        (7, 2.0, 30.0),
        (9, 2.5, 20.0),
    ]
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("bbox/AP")] == [(3, 10), (7, 30), (9, 20)]
    assert set(events.Tags()["scalars"]) == names - {"iteration"}


def test_the_best_model_is_kept(tmp_path, caplog):
    trainer = CountingTrainer()
    kept = []
    hook, _ = make_hook(
        trainer,
        tmp_path,
        values=[10.0, NAN, 30.0, 30.0, 20.0],
        save_best=lambda *best: kept.append((int(trainer.model.weight), *best)),
    )
    with caplog.at_level("INFO", logger="smca"):
        trainer.train(0, 10)
    assert [(weight, iteration, numbers["bbox/AP"]) for weight, iteration, numbers in kept] == [
        (2, 1, 10.0),
        (6, 5, 30.0),
    ]
    assert kept[1][2]["bbox/AP50"] == 50.0
    assert hook.best == (5, 1.5, 30.0)
    assert "best bbox/AP 30.0 at iteration 5 (epoch 1.5)" in caplog.text


def test_nan_only(tmp_path):
    trainer = CountingTrainer()
    kept = []
    hook, evaluations = make_hook(
        trainer, tmp_path, values=[NAN] * 2, save_best=lambda *best: kept.append(best), period=5
    )
    trainer.train(0, 10)
    assert len(evaluations.done) == 2
    assert hook.best is None
    assert kept == []
    assert not list(tmp_path.iterdir())


def test_a_training_that_is_asked_to_stop_evaluates_when_it_goes_on(tmp_path):
    trainer = CountingTrainer(fail_at=4)
    _, evaluations = make_hook(trainer, tmp_path, period=4)
    trainer.stop_signum = 15
    with pytest.raises(FloatingPointError):
        trainer.train(0, 6)
    assert evaluations.done == []
    again, hook, evaluations = resumed(trainer, tmp_path, period=4)
    again.train(4, 6)
    assert evaluations.done == [4, 6]
    assert curve(hook) == [(3, 10.0), (5, 10.0)]


def resumed(trainer, tmp_path, **kwargs):
    """A second process: its trainer and hook know only what a checkpoint holds."""
    torch.save(trainer.state_dict(), tmp_path / "state.pth")
    state = torch.load(tmp_path / "state.pth", weights_only=True)
    other = CountingTrainer()
    other.model.load_state_dict(trainer.model.state_dict())
    hook, evaluations = make_hook(other, tmp_path, **kwargs)
    other.load_state_dict(state)
    return other, hook, evaluations


def curve(hook, name="bbox/AP"):
    return [(p[0], p[2]) for p in hook.state_dict()["curves"][name]]


def test_state_survives_a_resume(tmp_path):
    trainer = CountingTrainer()
    first, _ = make_hook(trainer, tmp_path, values=[10.0, 30.0, 20.0])
    trainer.train(0, 6)
    other, hook, _ = resumed(trainer, tmp_path, values=[25.0, 35.0])
    assert hook.best == (3, 1.0, 30.0)
    assert hook.state_dict() == first.state_dict()
    state = copy.deepcopy(first.state_dict())
    kept = []
    hook._save_best = lambda *best: kept.append(best)
    plot = (tmp_path / "convergence.png").read_bytes()
    other.train(6, 8)
    assert kept == []
    assert (tmp_path / "convergence.png").read_bytes() != plot
    assert curve(hook) == [(1, 10.0), (3, 30.0), (5, 20.0), (7, 25.0)]
    assert curve(hook, "bbox/AP50") == [(1, 30.0), (3, 50.0), (5, 40.0), (7, 45.0)]
    assert first.state_dict() == state
    other.train(8, 10)
    assert hook.best == (9, 2.5, 35.0)
    assert [iteration for iteration, _ in kept] == [9]


def test_resume_without_state_reads_metrics_json(tmp_path):
    """Killed after the evaluation at 7; the checkpoint that is resumed from was written at 5."""
    trainer = CountingTrainer()
    make_hook(trainer, tmp_path, values=[10.0, 30.0, 20.0, 90.0])
    trainer.register_hooks([PeriodicWriter([JSONWriter(str(tmp_path / "metrics.json"))], 1)])
    trainer.train(0, 8)
    other = CountingTrainer()
    hook, _ = make_hook(other, tmp_path, values=[25.0])
    other.train(6, 8)
    assert curve(hook) == [(1, 10.0), (3, 30.0), (5, 20.0), (7, 25.0)]
    assert hook.best == (3, 1.0, 30.0)


def test_best_of_an_evaluation_that_the_checkpoint_precedes(tmp_path):
    """Detectron2 writes the checkpoint of a step before it evaluates that step."""
    trainer = CountingTrainer()
    hook, _ = make_hook(trainer, tmp_path, values=[10.0, 30.0])
    trainer.register_hooks([PeriodicWriter([JSONWriter(str(tmp_path / "metrics.json"))], 1)])
    states = []
    run_step = trainer.run_step
    trainer.run_step = lambda: (states.append(hook.state_dict()), run_step())
    trainer.train(0, 4)
    before = states[3]
    assert before["best"][2] == 10.0
    other = CountingTrainer()
    hook, _ = make_hook(other, tmp_path, values=[25.0])
    hook.load_state_dict(before)
    other.train(4, 6)
    assert hook.best == (3, 1.0, 30.0)
    assert curve(hook) == [(1, 10.0), (3, 30.0), (5, 25.0)]


def test_a_new_training_ignores_what_an_older_one_left(tmp_path):
    (tmp_path / "metrics.json").write_text('{"iteration": 0, "bbox/AP": 99.0}\n')
    trainer = CountingTrainer()
    hook, _ = make_hook(trainer, tmp_path)
    trainer.train(0, 2)
    assert curve(hook) == [(1, 10.0)]


def test_a_metrics_json_that_is_none_does_not_stop_a_resume(tmp_path, caplog):
    (tmp_path / "metrics.json").write_text("hello\n")
    trainer = CountingTrainer()
    hook, _ = make_hook(trainer, tmp_path)
    trainer.train(3, 6)
    assert curve(hook) == [(3, 10.0), (5, 10.0)]
    assert "no metrics.json" in caplog.text


def test_a_finished_training_that_is_resumed(tmp_path):
    trainer = CountingTrainer()
    make_hook(trainer, tmp_path, period=4)
    trainer.train(0, 6)
    again, _, evaluations = resumed(trainer, tmp_path, period=4)
    again.train(6, 6)
    assert evaluations.done == []
    # Its checkpoint was written, then it was killed in the last evaluation.
    trainer._hooks[0]._last_done = 4
    for points in trainer._hooks[0]._curves.values():
        points.pop()
    again, hook, evaluations = resumed(trainer, tmp_path, period=4)
    again.train(6, 6)
    assert evaluations.done == [6]
    assert again.storage.latest()["epoch"][0] == 1.5
    assert curve(hook) == [(3, 10.0), (5, 10.0)]
    assert hook.state_dict()["last_done"] == 6


def test_a_plot_that_fails_does_not_end_the_training(tmp_path, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(hook_module, "draw_curves", fail)
    trainer = CountingTrainer()
    make_hook(trainer, tmp_path)
    trainer.train(0, 4)
    assert trainer.iter == 4
    assert "could not be drawn" in caplog.text


def test_another_data_set_and_metric(tmp_path, caplog):
    trainer = CountingTrainer()
    hook = EvaluationHook(
        period=1,
        evaluate=lambda: {"val": {"bbox": {"AP": 1.0, "AP50": 2.0 + trainer.iter}}},
        iters_per_epoch=0.5,
        output_dir=str(tmp_path),
        metric="val/bbox/AP50",
    )
    trainer.register_hooks([hook])
    trainer.train(0, 2)
    assert list(hook.state_dict()["curves"]) == ["val/bbox/AP50", "val/bbox/AP", "val/bbox/AP75"]
    assert hook.best == (1, 4.0, 3.0)
    assert (tmp_path / "convergence.png").exists()
    wrong, _ = make_hook(trainer, tmp_path, metric="bbox/APfifty")
    trainer.train(0, 2)
    assert wrong.best is None
    assert "has no 'bbox/APfifty'" in caplog.text
    assert "bbox/AP," in caplog.text


@pytest.mark.parametrize("nothing", [None, {}])
def test_ranks_that_get_no_results(tmp_path, nothing):
    trainer = CountingTrainer()
    hook, _ = make_hook(trainer, tmp_path)
    hook._evaluate = lambda: nothing
    trainer.train(0, 4)
    assert trainer.storage.latest() == {}
    assert not list(tmp_path.iterdir())


def test_bad_arguments_and_results(tmp_path):
    trainer = CountingTrainer()
    with pytest.raises(ValueError, match="period is -1"):
        make_hook(trainer, tmp_path, period=-1)
    with pytest.raises(ValueError, match="iters_per_epoch is 0"):
        make_hook(trainer, tmp_path, iters_per_epoch=0)
    hook, _ = make_hook(trainer, tmp_path)
    hook._evaluate = lambda: {"bbox": {"AP": "high"}}
    with pytest.raises(ValueError, match="'high' for 'bbox/AP'"):
        trainer.train(0, 4)
