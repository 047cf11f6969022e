#!/usr/bin/env python
"""Time and memory of full and single-scale SMCA as work grows, beside the line of theory, as JSON and a plot.

    python benchmarks/scaling.py --threads 2 --clock wall --rounds 3

Image sides from 480 to 1333, 100 to 900 queries and batches of 1 to 8 in prediction; 1 to 300 objects in a training
step of single-scale SMCA at 480x640. Theory: time is in proportion to the operations of convolutions and matrix
products that a call makes, which are counted. Every point is measured in a process of its own, so that memory is its
peak.
"""

import statistics
from collections.abc import Callable
from pathlib import Path

import matplotlib
from contestants import prediction, training_step
from speed_harness import CLOCKS, added_peak_mb, benchmark_arguments, in_new_process, store
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

matplotlib.use("Agg")
from matplotlib import pyplot as plt

MODELS = ("SMCA single-scale", "SMCA")
SMALL = (480, 640)
# Of each series the models, what is called, and by the value on the axis how.
SERIES = {
    "longer side (pixels)": (
        MODELS,
        prediction,
        {side: {"size": (side * 3 // 4, side)} for side in (480, 640, 800, 1066, 1333)},
    ),
    "queries": (
        MODELS,
        prediction,
        {count: {"size": SMALL, "num_queries": count} for count in (100, 300, 600, 900)},
    ),
    "batch": (
        MODELS,
        prediction,
        {count: {"size": SMALL, "batch": count} for count in (1, 2, 4, 8)},
    ),
    "objects, training step": (
        MODELS[:1],
        training_step,
        {count: {"size": SMALL, "objects": count} for count in (1, 10, 100, 300)},
    ),
}


def main() -> None:
    args = benchmark_arguments(__doc__, "scaling.json")
    settings = {"rounds": args.rounds, "clock": args.clock}
    series: dict[str, dict] = {}
    for axis, (models, make_call, points) in SERIES.items():
        series[axis] = {model: [] for model in models}
        for model, rows in series[axis].items():
            for value, options in points.items():
                row = in_new_process(measure, make_call, model, options, args.rounds, args.clock)
                rows.append({"at": value, **row})
                print(axis, model, rows[-1], flush=True)
        store(args.output, {"series": series}, **settings)
    draw(series, args.output.with_suffix(".png"))


def measure(
    make_call: Callable, model: str, options: dict, rounds: int, clock: str
) -> dict[str, float]:
    """Milliseconds after a warm-up, MB that it adds to what the process held, and 10^9 operations of a call."""
    call, now = make_call(model, **options), CLOCKS[clock]
    peak = added_peak_mb(call)
    # Of a CPU's fused kernel nothing is counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
        call()
    seconds = []
    for _ in range(rounds):
        start = now()
        call()
        seconds.append(now() - start)
    return {
        "ms": round(1000 * statistics.median(seconds), 1),
        "peak_mb": round(peak, 1),
        "gflop": round(counted.get_total_flops() / 1e9, 1),
    }


def draw(series: dict[str, dict], path: Path) -> None:
    """Times above with the line of theory through the first point, dashed; memory below."""
    figure, axes = plt.subplots(
        2, len(series), figsize=(4 * len(series), 6.4), layout="constrained"
    )
    for column, (axis, models) in zip(axes.T, series.items(), strict=True):
        for color, (model, rows) in enumerate(models.items()):
            at, style = [row["at"] for row in rows], {"color": f"C{color}"}
            for plot, field in zip(column, ("ms", "peak_mb"), strict=True):
                plot.plot(at, [row[field] for row in rows], "o-", label=model, **style)
            theory = [rows[0]["ms"] * row["gflop"] / rows[0]["gflop"] for row in rows]
            column[0].plot(at, theory, "--", label="in proportion to operations", **style)
        column[1].set_xlabel(axis)
        for plot in column:
            plot.set_ylim(0, 1.1 * plot.get_ylim()[1])
            plot.grid(alpha=0.3)
    axes[0, 0].set_ylabel("milliseconds")
    axes[1, 0].set_ylabel("peak MB over what was held")
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    main()
