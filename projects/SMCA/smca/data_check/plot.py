"""One picture of a data set: distributions above, sample images with their boxes below."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from detectron2.utils.file_io import PathManager

from smca.data.image_file import MAX_DATA_SET_PIXELS, read_image
from smca.data.image_files import is_file
from smca.data.sources.coco_tables import CocoTables
from smca.errors import InputError
from smca.visualization.boxes import class_color, paint_boxes
from smca.visualization.fonts import chart_families, chart_text, class_label
from smca.whole_file import replacing

from .check import CheckReport
from .statistics import COCO_AREAS, Statistics

_SAMPLES = 8
_COLUMNS = 4
_BARS = 24
_SAMPLE_SIDE = 480
_BLUE, _RED = "#3b6fb6", "#e01f3d"
_RED_RGB = (224, 31, 61)


def draw_report(report: CheckReport, output: str | os.PathLike, *, seed: int = 0) -> None:
    """Write the picture, whole or not at all.

    Args:
        report: of a data set.
        output: a .png, .jpg, .pdf or .svg file.
        seed: which images are shown.

    Raises:
        InputError: if matplotlib cannot write such a file.
    """
    # Late, because it takes longer than all else here and only those who draw need it.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    output = Path(output)
    kind = output.suffix.lstrip(".") or "png"
    kinds = FigureCanvasAgg.get_supported_filetypes()
    if kind.lower() not in kinds:
        raise InputError(
            f"{output}: no picture can be written as {kind}, but as {', '.join(kinds)}"
        )
    samples = choose_samples(report.tables, report.paths, seed=seed)
    texts = [*_class_labels(report.statistics), *(report.tables.file_names[i] for i in samples)]
    with rc_context({"font.family": chart_families(texts)}):
        _draw(report, output, samples, kind)


def _class_labels(s: Statistics) -> list[str]:
    return [class_label(k, s.class_names) for k in range(len(s.class_names))]


def _draw(report: CheckReport, output: Path, samples: list[int], kind: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(samples) // _COLUMNS)
    figure = Figure(figsize=(14, 4.2 + 3.4 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    heights = [3.8, *([3.4] * rows)]
    grid = figure.add_gridspec(1 + rows, _COLUMNS, height_ratios=heights)
    axes = [figure.add_subplot(grid[0, column]) for column in range(_COLUMNS)]
    _draw_classes(axes[0], report.statistics)
    _draw_sizes(axes[1], report.statistics)
    _draw_aspects(axes[2], report.statistics)
    _draw_counts(axes[3], report.statistics)
    for number, image in enumerate(samples):
        axis = figure.add_subplot(grid[1 + number // _COLUMNS, number % _COLUMNS])
        _draw_sample(axis, report, image)
    s = report.statistics
    faults = sum(f.count for f in report.findings)
    figure.suptitle(
        f"{chart_text(Path(report.name).name)}: {s.images} images, {s.objects} objects, {len(s.class_names)} classes, "
        + (f"{faults} faults" if faults else "no faults"),
        x=0.01, ha="left", fontweight="bold", fontfamily=chart_families([Path(report.name).name]),
    )  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as partial:
        figure.savefig(partial, format=kind)


def choose_samples(tables: CocoTables, paths: list[str], *, seed: int = 0) -> list[int]:
    """Places of up to ``_SAMPLES`` images that exist: half of them with a faulty box where there are any.

    Args:
        tables: of the data set.
        paths: of its images; without them there are no samples.
        seed: of the draw.
    """
    if not paths:
        return []
    rng = np.random.default_rng(seed)
    faulty = np.unique(tables.image_index[_is_faulty(tables)])
    with_objects = np.setdiff1d(np.unique(tables.image_index), faulty)
    chosen: list[int] = []
    for pool, wanted in ((faulty, _SAMPLES // 2), (with_objects, _SAMPLES), (faulty, _SAMPLES)):
        for image in rng.permutation(pool).tolist():
            if len(chosen) >= wanted:
                break
            if image not in chosen and is_file(paths[image]):
                chosen.append(image)
    return chosen


def _is_faulty(tables: CocoTables) -> np.ndarray:
    """(M,) bool."""
    return tables.faults.unusable | tables.faults.partly_outside


def _draw_classes(axis, s: Statistics) -> None:
    order = np.argsort(-s.objects_of_class, kind="stable")
    shown = order[:_BARS]
    places = np.arange(len(shown))
    axis.barh(places, s.objects_of_class[shown], color=_BLUE, height=0.75)
    size = 9 if len(shown) <= 12 else 6.5
    labels = _class_labels(s)
    names = [_shorten(chart_text(labels[k])) for k in shown]
    axis.set_yticks(places, names, fontsize=size)
    axis.set_ylim(max(len(shown), 6) - 0.4, -0.6)
    rest = f", the first {_BARS} of {len(order)}" if len(order) > _BARS else ""
    _finish(axis, f"classes{rest}", "objects")


def _draw_sizes(axis, s: Statistics) -> None:
    title = "object size: {:.0%} small, {:.0%} medium, {:.0%} large".format(*s.share_by_size())
    sides = s.side[np.isfinite(s.side) & (s.side > 0)]
    if sides.size:
        axis.hist(sides, bins=_log_bins(sides), color=_BLUE)
        axis.set_xscale("log")
    for area in COCO_AREAS:
        axis.axvline(np.sqrt(area), color="0.3", linestyle="--", linewidth=1)
    _finish(axis, title, "√(box area), px; dashed: 32 and 96", "objects")
    _plain_ticks(axis)


def _draw_aspects(axis, s: Statistics) -> None:
    aspects = s.aspect[np.isfinite(s.aspect) & (s.aspect > 0)]
    if aspects.size:
        axis.hist(aspects, bins=_log_bins(aspects), color=_BLUE)
        axis.set_xscale("log")
    axis.axvline(1, color="0.3", linestyle="--", linewidth=1)
    _finish(axis, "object shape", "width / height", "objects")
    _plain_ticks(axis)


def _draw_counts(axis, s: Statistics) -> None:
    counts = s.objects_in_image
    top = int(counts.max(initial=0))
    step = max(1, -(-(top + 1) // 40))
    axis.hist(counts, bins=np.arange(0, top + step + 1, step) - 0.5, rwidth=0.9, color=_BLUE)
    _finish(axis, f"objects per image, at most {top}", "objects", "images")


def _draw_sample(axis, report: CheckReport, image: int) -> None:
    tables, path = report.tables, report.paths[image]
    axis.set_axis_off()
    axis.set_title(_shorten(chart_text(tables.file_names[image]), 40), fontsize=8, loc="left")
    try:
        local = PathManager.get_local_path(path)
        pixels = read_image(local, format="RGB", max_pixels=MAX_DATA_SET_PIXELS)
    except (InputError, OSError):
        axis.text(0.5, 0.5, "cannot be read", ha="center", color=_RED)
        return
    rows = np.flatnonzero((tables.image_index == image) & np.isfinite(tables.boxes).all(1))
    notes = np.full(len(tables.boxes), "", dtype=object)
    for note, mask in (*tables.faults.named().items(), ("crowd", tables.is_crowd)):
        notes[mask] = note
    bad = _is_faulty(tables)[rows]
    classes = tables.class_index[rows]
    names = [_shorten(class_label(k, tables.class_names), 20) for k in classes]
    labels = [f"{n}: {note}" if note else n for n, note in zip(names, notes[rows], strict=True)]
    colors = [_RED_RGB if b else class_color(k) for k, b in zip(classes, bad, strict=True)]
    # Room around the image, where boxes that leave it can be seen.
    longest = max(pixels.shape[:2])
    margin = round(0.06 * longest) if bad.any() else 0
    room = ((margin, margin), (margin, margin), (0, 0))
    corners = tables.boxes[rows] + margin
    corners[:, 2:] += tables.boxes[rows, :2]
    picture = np.pad(pixels, room, constant_values=255)
    axis.imshow(paint_boxes(picture, corners, labels, colors, scale=_SAMPLE_SIDE / longest))


def _log_bins(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return np.geomspace(low * 0.95, high * 1.05, 41)


def _plain_ticks(axis) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _finish(axis, title: str, xlabel: str, ylabel: str = "") -> None:
    axis.set_title(title, fontsize=9.5, loc="left")
    axis.set_xlabel(xlabel, fontsize=9)
    axis.set_ylabel(ylabel, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _shorten(text: str, length: int = 22) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
