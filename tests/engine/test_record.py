"""metrics.json and TensorBoard's files: every iteration once, whatever happens in between."""

import errno
import json
import os
from types import SimpleNamespace

import pytest
from detectron2.engine import HookBase
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from helpers.tiny_training import KillAfter, Killed, tiny_training
from smca.engine.run import lines as lines_module
from smca.engine.run import record as record_module
from smca.engine.run.record import RecordHook, cut_back


class Note(HookBase):
    """A number of each iteration that says which one it was."""

    def after_step(self):
        self.trainer.storage.put_scalar("number", self.trainer.iter, smoothing_hint=False)


class CutOff(RecordHook):
    """What a killed process does at its end."""

    __qualname__ = RecordHook.__qualname__  # under which the state is saved

    def after_train(self):
        pass


def training(folder, *, stop=8, period=1, before=(), **options):
    kind = CutOff if before else RecordHook
    hooks = [*before, kind(output_dir=str(folder), max_iter=stop, period=period)]
    # The checkpoint of Note's iteration is written before Note's turn, as with an evaluation.
    return tiny_training(folder, extra_hooks=[Note(), *hooks], **options)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def iterations(folder):
    return [line["iteration"] for line in lines(folder)]


@pytest.mark.parametrize("period", [1, 2, 3])
@pytest.mark.parametrize("kill", [2, 3, 4])
def test_a_killed_training_has_each_line_once(tmp_path, period, kill):
    with pytest.raises(Killed):
        training(tmp_path, period=period, before=[KillAfter(kill)]).run(0, 8)
    training(tmp_path, period=period).resume(8)
    assert iterations(tmp_path) == [i for i in range(8) if (i + 1) % period == 0 or i == 7]
    assert all({"total_loss", "loss_fit", "grad_norm"} <= set(line) for line in lines(tmp_path))


def test_tensorboard_shows_each_iteration_once(tmp_path, monkeypatch):
    # Files of one second are read in the order of a number that each new process begins at 0.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    for kill in (3, 6):
        run = training(tmp_path, before=[KillAfter(kill)])
        with pytest.raises(Killed):
            run.run(0, 8) if kill == 3 else run.resume(8)
        for file in run.trainer._hooks[-1]._files:
            file.close()
    training(tmp_path).resume(8)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("total_loss")] == list(range(8))


def test_what_an_evaluation_wrote_into_the_last_line_stays(tmp_path):
    path = tmp_path / "metrics.json"
    entries = [
        {"iteration": 0, "total_loss": 3.0},
        {"iteration": 1, "total_loss": 2.0},
        {"iteration": 1, "bbox/AP": 20.0},
        {"iteration": 2, "total_loss": 1.0},
        {"iteration": 0, "total_loss": 2.5},
    ]
    path.write_text("\n".join(map(json.dumps, entries)) + '\n{"iteration": 1, "total_')

    last = cut_back(path, 2)

    assert last == {"total_loss": 2.0, "bbox/AP": 20.0}
    assert lines(tmp_path) == [{"iteration": 0, "total_loss": 2.5}]
    assert cut_back(tmp_path / "other.json", 2) == {}


def test_a_full_disk_does_not_end_the_training(tmp_path, monkeypatch, caplog):
    """From iteration 2 to 4 half of what is to be written finds room."""
    run = training(tmp_path, period=1)
    real = os.fsync

    def full(descriptor):
        if 2 <= run.trainer.iter <= 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(lines_module, "os", SimpleNamespace(fsync=full, ftruncate=os.ftruncate))
    run.run(0, 8)
    assert iterations(tmp_path) == list(range(8))
    told = [r.message for r in caplog.records if "metrics.json" in r.message]
    assert len(told) == 2
    assert "cannot be written (No space left on device)" in told[0]
    assert "can be written again" in told[1]


def test_memory_is_bounded(tmp_path):
    run = training(tmp_path, stop=6)
    run.run(0, 6)
    history = run.trainer.storage.history("total_loss")
    assert history._max_length == 1000


def test_the_first_step_may_be_the_last_and_the_time_left_counts_hooks_in(tmp_path, monkeypatch):
    """Detectron2's estimate divides by zero where two lines are of one iteration."""
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr(record_module, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    run = training(tmp_path, stop=5, period=1)
    run.run(0, 1)
    # It looks at the start, after the step and at the end; four more of those ten seconds are left.
    assert lines(tmp_path)[0]["eta_seconds"] == 40.0


def test_a_step_that_fails_has_no_line(tmp_path):
    """It may have come to know numbers before."""

    class Fails(HookBase):
        def before_step(self):
            if self.trainer.iter == 5:
                self.trainer.storage.put_scalar("early", 1.0)
                raise ValueError("gone")

    hooks = [Note(), Fails(), RecordHook(output_dir=str(tmp_path), max_iter=8, period=3)]
    with pytest.raises(ValueError, match="gone"):
        tiny_training(tmp_path, extra_hooks=hooks).run(0, 8)
    assert iterations(tmp_path) == [2, 4]
