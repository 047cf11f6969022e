#!/usr/bin/env python
"""Time and memory of full and single-scale SMCA as work grows, with the lines that theory predicts, as JSON and a plot.

    python benchmarks/scaling.py --threads 2 --clock wall --rounds 3
    python benchmarks/scaling.py --draw     # the plot of the stored numbers alone

Image sides from 480 to 1333, 100 to 900 queries, batches of 1 to 8 in prediction; 1 to 300 objects in a training step
of single-scale SMCA at 480x640. Theory: with the operations of a prediction as :func:`flops` counts them, time is
proportional to them; memory of what is not parameters is to the batch and to the cells. Every point is measured in
a process of its own, so memory is its peak.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
from pathlib import Path

import matplotlib
from contestants import prediction, training_step
from speed_harness import CLOCKS, RESULTS, benchmark_arguments, peak_memory_mb, store
from torch.utils.flop_counter import FlopCounterMode

matplotlib.use("Agg")
from matplotlib import pyplot as plt

MODELS = ("SMCA single-scale", "SMCA")
# Of each series the models, what is called, and by the value on the axis how.
SERIES = {
    "longer side (pixels)": (MODELS, prediction, {s: {"size": (s * 3 // 4, s)} for s in (480, 640, 800, 1066, 1333)}),
    "queries": (MODELS, prediction, {q: {"size": (480, 640), "num_queries": q} for q in (100, 300, 600, 900)}),
    "batch": (MODELS, prediction, {b: {"size": (480, 640), "batch": b} for b in (1, 2, 4, 8)}),
    "objects, training step": (
        MODELS[:1],
        training_step,
        {n: {"size": (480, 640), "batch": 1, "objects": n} for n in (1, 10, 100, 300)},
    ),
}  # fmt: skip
PLOT = RESULTS / "scaling.png"


def main() -> None:
    if "--draw" in sys.argv:
        draw(RESULTS / "scaling.json")
        return
    args = benchmark_arguments(__doc__, "scaling.json")
    settings = {"rounds": args.rounds, "clock": args.clock}
    report: dict[str, dict] = {}
    for axis, (models, make_call, points) in SERIES.items():
        report[axis] = {}
        for model in models:
            rows = report[axis][model] = []
            for value, options in points.items():
                row = measure(args, make_call, model, options) | {"at": value}
                rows.append(row)
                print(axis, model, row, flush=True)
        store(args.output, {"series": report}, **settings)
    draw(args.output)


def measure(args: argparse.Namespace, make_call, model: str, options: dict) -> dict[str, float]:
    seconds, gflops = in_new_process(timed, make_call, model, options, args.rounds, args.clock)
    peak = peak_memory_mb(keyword_call, make_call, model, options)
    return {
        "ms": round(1000 * statistics.median(seconds), 1),
        "peak_mb": round(peak, 1),
        "gflops": gflops,
    }


def keyword_call(make_call, model: str, options: dict):
    return make_call(model, **options)


def timed(make_call, model: str, options: dict, rounds: int, clock: str) -> tuple[list, float]:
    """Seconds of each round after a warm-up, and 10^9 multiplications and additions of a call."""
    call, now = make_call(model, **options), CLOCKS[clock]
    with FlopCounterMode(display=False) as counted:
        call()
    seconds = []
    for _ in range(rounds):
        start = now()
        call()
        seconds.append(now() - start)
    return seconds, round(counted.get_total_flops() / 1e9, 1)


def in_new_process(function, *args):
    """So that what one point leaves allocated does not help the next."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def draw(path: Path) -> None:
    """Times above, memory below, measured points and dashed the line of theory through the first of them."""
    series = json.loads(path.read_text())["series"]
    figure, axes = plt.subplots(
        2, len(series), figsize=(4 * len(series), 6.4), layout="constrained"
    )
    for column, (axis, models) in zip(axes.T, series.items(), strict=True):
        for color, (model, rows) in zip(("C0", "C1"), models.items(), strict=False):
            at = [row["at"] for row in rows]
            for plot, field in zip(column, ("ms", "peak_mb"), strict=True):
                plot.plot(at, [row[field] for row in rows], "o-", color=color, label=model)
            work = [rows[0]["ms"] * row["gflops"] / rows[0]["gflops"] for row in rows]
            column[0].plot(at, work, "--", color=color, label="in proportion to operations")
        column[1].set_xlabel(axis)
        for plot in column:
            plot.set_ylim(bottom=0)
            plot.grid(alpha=0.3)
    axes[0, 0].set_ylabel("milliseconds")
    axes[1, 0].set_ylabel("peak MiB over inputs")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(PLOT, dpi=90)


if __name__ == "__main__":
    main()
