"""The convergence plot: AP over epochs, from the metrics.json of a training."""

import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from smca.errors import InputError
from smca.whole_file import replacing

DEFAULT_METRICS = ("bbox/AP", "bbox/AP50", "bbox/AP75")


class CurvePoint(NamedTuple):
    """One evaluation. ``iteration`` counts from 0, as in metrics.json; ``value`` is in percent."""

    iteration: int
    epoch: float | None
    value: float


Curves = dict[str, list[CurvePoint]]


def read_curves(
    metrics_file: str | os.PathLike,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    iters_per_epoch: float | None = None,
) -> Curves:
    """Read evaluation results from a metrics.json that Detectron2's ``JSONWriter`` wrote.

    A kill leaves an unfinished line, which is skipped. A resumed training appends to the file: a
    result drops what was written before for its own and for later iterations.

    Args:
        metrics_file: the file, one JSON object per line.
        metrics: names of the scalars to read.
        iters_per_epoch: gives the epoch of the lines that do not name theirs.

    Returns:
        For each metric its points by rising iteration, without non-finite values; the list is empty
        if the file has none. ``epoch`` is None if it is unknown.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file has content, but not one line of metrics.
    """
    try:
        with open(metrics_file, encoding="utf-8", errors="replace") as f:
            lines = [line for line in f if line.strip()]
    except FileNotFoundError as e:
        raise FileNotFoundError(
            f"{os.fspath(metrics_file)} does not exist; give the metrics.json in the output "
            "directory of a training."
        ) from e
    records = [r for r in map(_parse_line, lines) if r is not None]
    if lines and not records:
        raise InputError(
            f"{os.fspath(metrics_file)} is no metrics.json: none of its {len(lines)} lines is a "
            "JSON object with an 'iteration'."
        )
    curves: Curves = {metric: [] for metric in metrics}
    for record, metric in itertools.product(records, curves):
        value = record.get(metric)
        if not isinstance(value, int | float) or not math.isfinite(value):
            continue
        iteration, epoch = record["iteration"], record.get("epoch")
        if epoch is None and iters_per_epoch:
            epoch = (iteration + 1) / iters_per_epoch
        points = curves[metric]
        while points and points[-1].iteration >= iteration:
            points.pop()
        points.append(CurvePoint(iteration, epoch, value))
    return curves


def _parse_line(line: str) -> dict | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    usable = isinstance(record, dict) and isinstance(record.get("iteration"), int)
    return record if usable else None


def plot_convergence(
    metrics_file: str | os.PathLike,
    output_path: str | os.PathLike,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    iters_per_epoch: float | None = None,
    title: str | None = None,
) -> None:
    """Draw the evaluation results in a metrics.json over epochs.

    Args:
        metrics_file: see ``read_curves``, as for ``metrics`` and ``iters_per_epoch``.
        output_path: the picture, in a format that matplotlib knows by its ending.
        title: heading of the picture.

    Raises:
        FileNotFoundError, InputError: as ``read_curves``, or the file has none of the metrics.
    """
    curves = read_curves(metrics_file, metrics, iters_per_epoch=iters_per_epoch)
    if not any(curves.values()):
        raise InputError(
            f"{os.fspath(metrics_file)} has no evaluation result yet (looked for "
            f"{', '.join(metrics)})."
        )
    draw_curves(curves, output_path, title=title)


def draw_curves(
    curves: Mapping[str, Sequence[CurvePoint]],
    output_path: str | os.PathLike,
    *,
    title: str | None = None,
) -> None:
    """Draw curves, the first one emphasised and its best point named; atomically.

    Args:
        curves: points of each metric, at least one in all. Over iterations if any epoch is unknown.
        output_path: as in ``plot_convergence``.
        title: heading of the picture.
    """
    # Late, because it takes longer than all else here and only those who draw need it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = {metric: points for metric, points in curves.items() if points}
    by_epoch = all(p.epoch is not None for points in drawn.values() for p in points)
    figure = Figure(figsize=(7.0, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for rank, (metric, points) in enumerate(drawn.items()):
        axes.plot(
            [_position(p, by_epoch) for p in points],
            [p.value for p in points],
            label=metric.rsplit("/", 1)[-1],
            linewidth=2.2 if rank == 0 else 1.4,
            linestyle="-" if rank == 0 else "--",
            marker="o",
            markersize=4.5 if rank == 0 else 3,
            color=f"C{rank}",
            zorder=3 if rank == 0 else 2,
        )
    _annotate_best(axes, next(iter(drawn.values())), by_epoch)
    top = max(p.value for points in drawn.values() for p in points)
    # Room above for the annotation; a training that is still at 0 gets an axis nevertheless.
    axes.set_ylim(0, max(1.0, 1.18 * top))
    axes.set_xlim(left=0)
    axes.margins(x=0.08)
    axes.set_xlabel("epoch" if by_epoch else "iteration")
    axes.set_ylabel("AP on the validation set (%)")
    axes.set_title(title or "Convergence", loc="left", fontweight="bold")
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", ncols=len(drawn))

    output_path = os.fspath(output_path)
    ending = os.path.splitext(output_path)[1].lstrip(".") or "png"
    with replacing(output_path) as partial:
        figure.savefig(partial, format=ending)


def _position(point: CurvePoint, by_epoch: bool) -> float:
    return point.epoch if by_epoch else point.iteration + 1


def _annotate_best(axes, points: Sequence[CurvePoint], by_epoch: bool) -> None:
    best = max(points, key=lambda p: p.value)
    x = _position(best, by_epoch)
    is_late = x > 0.6 * _position(points[-1], by_epoch)
    axes.plot([x], [best.value], marker="o", markersize=9, mfc="none", mec="C0", mew=1.6, zorder=4)
    axes.annotate(
        f"best {best.value:.1f} ({'epoch' if by_epoch else 'iteration'} {x:.4g})",
        xy=(x, best.value),
        xytext=(6 if is_late else -6, -24),
        textcoords="offset points",
        ha="right" if is_late else "left",
        color="C0",
        fontsize=9,
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
    )
