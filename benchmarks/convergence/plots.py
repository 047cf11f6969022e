"""Pictures of the study: curves with a band from the lowest to the highest seed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from smca.whole_file import replacing

from .cost import time_of
from .variants import VARIANTS

Runs = Mapping[str, Sequence[Mapping]]
"""Records of the seeds by variant."""

_SIZES = {"APs": "small", "APm": "medium", "APl": "large"}


def draw_over_steps(path: Path, runs: Runs, *, title: str, long: Sequence[Mapping] = ()) -> None:
    """AP over steps.

    Args:
        path: of the picture.
        runs: of one setting and length.
        title: heading.
        long: longer runs of DETR, drawn over a second axis of steps, a tenth as wide.
    """
    panels = 2 if long else 1
    figure, axes = _figure(panels)
    _curves(axes[0], runs, lambda point: point["step"])
    _finish(axes[0], "step", title)
    if long:
        shown = {name: runs[name] for name in ("smca_single_scale",) if name in runs}
        _curves(axes[1], {**shown, "detr": long}, lambda point: point["step"])
        _finish(axes[1], "step", "DETR with ten times the steps")
    _save(figure, path)


def draw_over_time(path: Path, runs: Runs, *, title: str, unit: str) -> None:
    """AP over the time of training, without evaluations."""
    figure, axes = _figure(1)
    _curves(axes[0], runs, time_of)
    _finish(axes[0], f"training time in seconds ({unit})", title)
    _save(figure, path)


def draw_by_size(path: Path, runs: Runs, *, title: str) -> None:
    """A group of bars per size of objects, the mean of the seeds, with the lowest and the highest."""
    figure, axes = _figure(1)
    ends = {name: [record["curve"][-1] for record in records] for name, records in runs.items()}
    sizes = [
        size for size in _SIZES
        if all(end[size] is not None for points in ends.values() for end in points)
    ]  # fmt: skip
    width = 0.8 / len(ends)
    for rank, (name, points) in enumerate(ends.items()):
        for group, size in enumerate(sizes):
            values = [end[size] for end in points]
            mean = sum(values) / len(values)
            axes[0].bar(
                group + (rank - (len(ends) - 1) / 2) * width, mean, 0.9 * width,
                color=_color(name), label=VARIANTS[name].title if group == 0 else None,
                yerr=[[mean - min(values)], [max(values) - mean]], ecolor="0.3",
            )  # fmt: skip
    axes[0].set_xticks(range(len(sizes)), [_SIZES[size] for size in sizes])
    _finish(axes[0], "objects by COCO's sizes", title)
    _save(figure, path)


def _figure(panels: int):
    # Late, because it takes longer than all else here.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0 if panels == 1 else 11.0, 4.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _curves(axes, runs: Runs, position: Callable[[Mapping], float]) -> None:
    for name, records in runs.items():
        # Seeds of one plan have as many points; a diverged one may have fewer.
        columns = list(zip(*(record["curve"] for record in records), strict=False))
        x = [0.0, *(sum(map(position, points)) / len(points) for points in columns)]
        values = [[0.0], *([point["AP"] for point in points] for points in columns)]
        mean = [sum(column) / len(column) for column in values]
        axes.plot(x, mean, color=_color(name), linewidth=1.8, label=VARIANTS[name].title)
        if len(records) > 1:
            low, high = ([extreme(column) for column in values] for extreme in (min, max))
            axes.fill_between(x, low, high, color=_color(name), alpha=0.2, linewidth=0)


def _color(variant: str) -> str:
    return f"C{list(VARIANTS).index(variant) % 10}"


def _finish(axes, x_label: str, title: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel("AP (%)")
    axes.set_ylim(bottom=0)
    axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def _save(figure, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial, format=path.suffix[1:])
