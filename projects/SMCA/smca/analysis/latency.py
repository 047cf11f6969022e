"""Time per image of several models in turns, so that a machine's drift meets all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import nn

from smca.errors import InputError

WARM_UP_ROUNDS = 2


def measure_in_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    repeat: int,
    warm_up: int = WARM_UP_ROUNDS,
    synchronize: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call, one of every call per round, after a few rounds that do not count.

    Args:
        calls: what to time, by name.
        repeat: rounds.
        warm_up: rounds before them.
        synchronize: waits for the device before the clock is read.
        clock: seconds.

    Raises:
        InputError: if ``repeat`` is below 1.
    """
    if repeat < 1:
        raise InputError(f"latency needs at least one repetition, got {repeat}")
    wait = synchronize or (lambda: None)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(warm_up + repeat):
        for name, call in calls.items():
            wait()
            start = clock()
            call()
            wait()
            if round_number >= warm_up:
                seconds[name].append(clock() - start)
    return seconds


def ratio_of_rounds(seconds: list[float], reference: list[float]) -> float:
    """Median over the rounds of a time over the reference's time in the same round."""
    return statistics.median(a / b for a, b in zip(seconds, reference, strict=True))


def detection_call(
    model: nn.Module, size: tuple[int, int], device: torch.device, *, seed: int = 0
) -> Callable[[], object]:
    """One image of noise through the whole detector, pixels to detections, batch 1.

    Args:
        model: a detector of Detectron2's interface; it is moved to the device and set to inference.
        size: (height, width) in pixels.
        device: where to run.
    """
    model.eval().to(device)
    height, width = size
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(256, (3, height, width), generator=generator).float().to(device)
    inputs = [{"image": image, "height": height, "width": width}]

    @torch.inference_mode()
    def call() -> object:
        return model(inputs)

    return call
