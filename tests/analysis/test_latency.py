import pytest
import torch
from torch import nn

from smca.analysis.latency import (
    WARM_UP_ROUNDS,
    detection_call,
    measure_in_turns,
    ratio_of_rounds,
)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_calls_take_turns_and_warm_up_does_not_count():
    clock, order = Clock(), []

    def call(name, seconds):
        def run():
            order.append(name)
            # The first rounds are slow, later ones drift.
            clock.now += seconds * (100 if len(order) <= 2 * WARM_UP_ROUNDS else len(order))

        return run

    waits = []
    seconds = measure_in_turns(
        {"a": call("a", 1.0), "b": call("b", 2.0)},
        repeat=3,
        synchronize=lambda: waits.append(clock.now),
        clock=clock,
    )

    assert order == ["a", "b"] * (WARM_UP_ROUNDS + 3)
    assert seconds == {"a": [5.0, 7.0, 9.0], "b": [12.0, 16.0, 20.0]}
    assert len(waits) == 2 * len(order)


def test_the_clock_is_read_after_the_device_is_done():
    clock = Clock()
    pending = []

    def wait():
        clock.now += sum(pending)
        pending.clear()

    seconds = measure_in_turns(
        {"queued": lambda: pending.append(3.0)}, repeat=2, synchronize=wait, clock=clock
    )

    assert seconds == {"queued": [3.0, 3.0]}


def test_the_ratio_is_of_the_same_round():
    """A machine that turns ten times slower half-way changes no ratio."""
    assert ratio_of_rounds([2.0, 20.0, 20.0], [1.0, 10.0, 10.0]) == 2.0
    assert ratio_of_rounds([2.0, 3.0, 9.0], [1.0, 1.0, 1.0]) == 3.0


def test_no_repetition_is_an_error():
    with pytest.raises(ValueError, match="at least one repetition, got 0"):
        measure_in_turns({}, repeat=0)


def test_a_detection_is_one_image_in_inference():
    seen = []

    class Detector(nn.Module):
        def forward(self, inputs):
            seen.append((inputs, self.training, torch.is_grad_enabled()))

    call = detection_call(Detector(), (32, 48), torch.device("cpu"))
    call()

    ((inputs, training, grad),) = seen
    assert len(inputs) == 1
    assert inputs[0]["image"].shape == (3, 32, 48)
    assert 200 < inputs[0]["image"].max() <= 255
    assert (inputs[0]["height"], inputs[0]["width"]) == (32, 48)
    assert (training, grad) == (False, False)
