"""Timing of variants against each other: paired runs in one process, peak memory in processes of their own."""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from surroundings import surroundings
from torch.profiler import ProfilerActivity, profile

from smca.analysis.latency import WARM_UP_ROUNDS, measure_in_turns
from smca.whole_file import replacing

RESULTS = Path(__file__).parent / "results"
CLOCKS = {"process": time.process_time, "wall": time.perf_counter}
KERNELS = "scaled_dot_product"


def benchmark_arguments(
    description: str, output: str, *, names: Sequence[str] = ()
) -> argparse.Namespace:
    """``rounds``, ``threads``, ``clock``, ``memory`` and ``output`` of the command line; the threads are pinned.

    Args:
        description: its first line is told with ``--help``.
        output: the file in :data:`RESULTS`.
        names: of variants; with some, ``only`` chooses of them.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="process",
        help="seconds of the process, all threads summed, which others on the machine disturb less; or of the wall",
    )
    parser.add_argument("--memory", action="store_true", help="peak memory, too, a process each")
    if names:
        parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--output", type=Path, default=RESULTS / output)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    return args


def compare(
    calls: Mapping[str, Callable[[], Any]],
    *,
    baseline: str,
    rounds: int,
    clock: str,
    warm_up: int = WARM_UP_ROUNDS,
) -> dict[str, dict[str, float]]:
    """Time variants in turns, after warm-ups of each.

    Args:
        calls: by name.
        baseline: the name that the others are divided by, round by round, so that what slows a round slows both.
        rounds: at least 2.
        clock: of :data:`CLOCKS`.
        warm_up: rounds that do not count.

    Returns:
        By name: "ms" (median), "ms_low" and "ms_high" (quartiles), and of its time over the baseline's "ratio"
        (median over rounds), "ratio_low" and "ratio_high" (quartiles).
    """
    seconds = measure_in_turns(calls, repeat=rounds, clock=CLOCKS[clock], warm_up=warm_up)
    report = {}
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds[baseline], strict=True)]
        report[name] = {
            **_median_and_quartiles("ms", [1000 * time for time in times]),
            **_median_and_quartiles("ratio", ratios),
        }
        print(f"{name}: {report[name]}", flush=True)
    return report


def _median_and_quartiles(name: str, values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {name: round(middle, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}


def attention_kernels(call: Callable[[], Any]) -> list[str]:
    """The operators that attention ran in during a call, by their names in ATen; empty where it was written out."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        call()
    names = {event.key for event in recorded.key_averages()}
    return sorted(
        name for name in names if KERNELS in name and not name.endswith(KERNELS + "_attention")
    )


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """10^12 operations a second of products of large matrices, which nothing that a model does exceeds."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = timed(lambda: a @ b, device, warm_up=3, rounds=10)
    return round(2 * side**3 / statistics.median(seconds) / 1e12, 3)


def timed(
    call: Callable[[], Any], device: torch.device, *, warm_up: int, rounds: int
) -> list[float]:
    """Seconds of each round by the wall, until the device has done it."""
    seconds = []
    for number in range(warm_up + rounds):
        synchronize(device)
        start = time.perf_counter()
        call()
        synchronize(device)
        if number >= warm_up:
            seconds.append(time.perf_counter() - start)
    return seconds


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_memory_mb(make_call: Callable[..., Callable[[], Any]], *args: Any) -> float:
    """MB that a call adds to what its process held before, at the peak; in a new process.

    Args:
        make_call: of a module's top level; called in the new process, builds the inputs and returns the call.
        args: of ``make_call``.
    """
    return in_new_process(_added_peak, make_call, args)


def in_new_process(function: Callable[..., Any], *args: Any) -> Any:
    """What a function of a module's top level returns in a process of its own, with as many threads."""
    with ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(torch.get_num_threads(),),
    ) as pool:
        return pool.submit(function, *args).result()


def _added_peak(make_call: Callable, args: tuple) -> float:
    return added_peak_mb(make_call(*args))


def added_peak_mb(call: Callable[[], Any]) -> float:
    """MB that a call adds to what this process holds, at the peak; on Linux."""
    # Or the peak would be that of building the model, where that was higher.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_kb()
    call()
    return (_peak_kb() - before) / 1024


def _peak_kb() -> int:
    """Of the resident set. Not of ``getrusage``, which begins with what the parent had."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def store(path: Path, report: Mapping[str, Any], **settings: Any) -> None:
    """Write a report as JSON, with machine, versions and settings first."""
    whole = {**surroundings(), **settings, **report}
    with replacing(path) as new:
        new.write_text(json.dumps(whole, indent=1) + "\n")
