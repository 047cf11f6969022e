import logging
import os
import signal
import threading

import pytest
import torch
from detectron2.engine import HookBase

from helpers.tiny_training import CallAt, assert_same, tiny_training
from smca.engine import TrainingInterrupted
from smca.engine.stop_signal import STOP_SIGNALS, StopSignal
from smca.evaluation import EvaluationHook

STEPS = 6


@pytest.fixture(autouse=True)
def _handlers_as_before():
    """Whatever a test does, the next one finds the handlers that the test run has."""
    before = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
    yield
    after = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
    for signum, handler in before.items():
        signal.signal(signum, handler)
    assert after == before


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny_training(tmp_path_factory.mktemp("whole")).run(0, STEPS)


def send(*signums):
    return lambda: [os.kill(os.getpid(), signum) for signum in signums]


def evaluation(directory, evaluated):
    def evaluate():
        evaluated.append(1)
        return {"bbox": {"AP": 1.0}}

    return EvaluationHook(period=1, evaluate=evaluate, iters_per_epoch=2, output_dir=str(directory))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_and_a_resume_goes_on_bit_identical(tmp_path, whole, signum, num_workers):
    training = tiny_training(
        tmp_path, num_workers=num_workers, extra_hooks=[CallAt(2, before=send(signum))]
    )
    with pytest.raises(TrainingInterrupted, match="stopped as asked after iteration 2") as caught:
        training.run(0, STEPS)
    assert caught.value.signum == signum
    # Between two periodic ones.
    assert (tmp_path / "model_0000002.pth").exists()
    resumed = tiny_training(tmp_path, num_workers=num_workers)
    assert resumed.checkpointer.resume() == 3
    assert_same(resumed.run(3, STEPS).everything(), whole.everything())


def test_a_signal_between_two_steps_ends_the_training_after_the_next(tmp_path):
    training = tiny_training(tmp_path, extra_hooks=[CallAt(1, after=send(signal.SIGTERM))])
    with pytest.raises(TrainingInterrupted, match="after iteration 2"):
        training.run(0, STEPS)
    assert (tmp_path / "model_0000002.pth").exists()


def test_a_signal_in_the_last_step_saves_the_final_checkpoint(tmp_path, whole):
    training = tiny_training(tmp_path, extra_hooks=[CallAt(5, before=send(signal.SIGTERM))])
    with pytest.raises(TrainingInterrupted, match="after iteration 5"):
        training.run(0, STEPS)
    assert (tmp_path / "model_final.pth").exists()
    assert_same(training.everything(), whole.everything())
    # There is nothing left to train, and that is no error.
    assert_same(tiny_training(tmp_path).resume(STEPS).everything(), whole.everything())


def test_no_evaluation_on_the_way_out_but_after_the_resume(tmp_path):
    evaluated = []
    hooks = [CallAt(2, before=send(signal.SIGUSR1)), evaluation(tmp_path, evaluated)]
    with pytest.raises(TrainingInterrupted):
        tiny_training(tmp_path, extra_hooks=hooks).run(0, STEPS)
    assert len(evaluated) == 2
    tiny_training(tmp_path, extra_hooks=[evaluation(tmp_path, evaluated)]).resume(STEPS)
    assert len(evaluated) == STEPS


def test_hooks_have_their_last_turn_and_no_traceback_is_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    ended = []

    class Last(HookBase):
        def after_train(self):
            ended.append(self.trainer.iter)

    hooks = [CallAt(2, before=send(signal.SIGTERM)), Last()]
    with pytest.raises(TrainingInterrupted):
        tiny_training(tmp_path, extra_hooks=hooks).run(0, STEPS)
    assert ended == [2]
    assert "Exception during training" not in caplog.text
    assert "The training was asked to stop: it is saved and ends after this step." in caplog.text


def test_a_step_that_is_left_out_sees_the_signal_too(tmp_path):
    training = tiny_training(
        tmp_path, skip_nonfinite=1, extra_hooks=[CallAt(2, before=send(signal.SIGTERM))]
    )
    training.model.out.register_forward_hook(
        lambda *args: args[-1] * float("nan") if training.trainer.iter == 2 else None
    )
    with pytest.raises(TrainingInterrupted, match="after iteration 2"):
        training.run(0, STEPS)
    assert torch.load(tmp_path / "model_0000002.pth", weights_only=True)["trainer"]["skipped"] == 1


def test_a_second_interrupt_ends_at_once(tmp_path):
    hooks = [CallAt(2, before=send(signal.SIGINT, signal.SIGINT))]
    with pytest.raises(KeyboardInterrupt):
        tiny_training(tmp_path, extra_hooks=hooks).run(0, STEPS)
    assert not (tmp_path / "model_0000002.pth").exists()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_counts(tmp_path, second):
    hooks = [CallAt(2, before=send(signal.SIGINT, second, second))]
    with pytest.raises(TrainingInterrupted) as caught:
        tiny_training(tmp_path, extra_hooks=hooks).run(0, STEPS)
    assert caught.value.signum == signal.SIGINT


def test_the_same_trainer_can_go_on(tmp_path, whole):
    training = tiny_training(tmp_path, extra_hooks=[CallAt(2, before=send(signal.SIGTERM))])
    with pytest.raises(TrainingInterrupted):
        training.run(0, STEPS)
    assert_same(training.run(3, STEPS).everything(), whole.everything())


def test_handlers_of_before_are_back():
    def mine(*_):
        raise AssertionError

    before = {signum: signal.signal(signum, mine) for signum in STOP_SIGNALS}
    stop = StopSignal()

    def fail_while_listening():
        with stop.listening():
            os.kill(os.getpid(), signal.SIGUSR1)
            raise KeyError

    try:
        with pytest.raises(KeyError):
            fail_while_listening()
        assert [signal.getsignal(signum) for signum in STOP_SIGNALS] == [mine] * 3
        assert stop.signum == signal.SIGUSR1
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def test_other_threads_leave_the_handlers_alone(tmp_path, whole):
    before = [signal.getsignal(signum) for signum in STOP_SIGNALS]
    seen, results = [], []

    def look():
        seen.append([signal.getsignal(signum) for signum in STOP_SIGNALS])

    def train():
        training = tiny_training(tmp_path, extra_hooks=[CallAt(2, before=look)])
        results.append(training.run(0, STEPS))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [before]
    assert_same(results[0].everything(), whole.everything())


@pytest.mark.parametrize("failure", [RuntimeError, BaseException])
def test_a_log_that_fails_does_not_lose_the_signal(monkeypatch, failure):
    def fail(*_):
        raise failure("reentrant call")

    monkeypatch.setattr(logging.getLogger("smca.engine.stop_signal"), "warning", fail)
    stop = StopSignal()
    with stop.listening(), pytest.raises(failure, match="reentrant call"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.signum == signal.SIGTERM
