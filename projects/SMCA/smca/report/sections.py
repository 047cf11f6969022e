"""The sections of the page: what each shows, of plain values that the template puts in their places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from smca.visualization.html_page import data_url

from .analysis import Analysis
from .charts import COLORS, Line, chart, curve_line, precision_lines, sparkline
from .confusion import most_confused
from .error_kinds import KINDS, MISSED
from .reported_run import ReportedRun
from .worst_images import paint, worst_images

NUMBERS = {
    "AP": "mean of the precision over all recalls, IoU thresholds from 0.5 to 0.95 and classes; the usual number",
    "AP50": "the same where an overlap (IoU) of 0.5 is enough",
    "AP75": "the same where an overlap of 0.75 is asked for, so boxes have to fit well",
    "APs": "AP of small objects, below 32 × 32 pixels",
    "APm": "AP of medium objects, 32 × 32 to 96 × 96 pixels",
    "APl": "AP of large objects",
    "AR1": "share of the objects found with one detection per image",
    "AR10": "share of the objects found with ten detections per image",
}
KIND_SENTENCES = {
    "class": "the box fits an object, but is called something else",
    "box": "the class is right, but the box fits the object badly (IoU 0.1 to 0.5)",
    "both": "an object of another class is near, and the box does not fit it either",
    "duplicate": "the object was already found by a better detection",
    "background": "there is no object (IoU at most 0.1)",
    "missed": "an object that no detection is on",
}
MATRIX_CLASSES = 20
"""More are not legible; the page then has those that are confused most."""


class Bar(NamedTuple):
    """A number, its text, and the bar's length in percent of the longest possible one."""

    text: str
    share: float
    color: str


class Cell(NamedTuple):
    """One of the confusion matrix: how often, and its share of the row."""

    count: int
    share: float
    is_right: bool


def number(value: float | None, digits: int = 1) -> str:
    """A dash where there was nothing to measure."""
    is_known = value is not None and math.isfinite(value)
    return f"{value:.{digits}f}" if is_known else "–"


def color_of(index: int) -> str:
    return COLORS[index % len(COLORS)]


def number_rows(analyses: Sequence[Analysis | None]) -> list[tuple[str, str, list[str]]]:
    """(name, what it means, the runs' numbers)."""
    limits = {f"AR{a.outcome.max_detections}": a.outcome.max_detections for a in analyses if a}
    rows = NUMBERS | {
        name: f"share of the objects found with {limit} detections per image"
        for name, limit in limits.items()
    }
    return [
        (name, meaning, [number(a.outcome.numbers.get(name)) if a else "–" for a in analyses])
        for name, meaning in rows.items()
    ]


def training_charts(runs: Sequence[ReportedRun]) -> dict[str, str]:
    """``src`` of the charts "ap" and "loss", empty without points; over epochs if all runs know theirs."""
    by_epoch = all(run.curves.iterations_per_epoch for run in runs if run.curves.loss)
    axis = "epoch" if by_epoch else "iteration"
    ap, loss = [], []
    for index, run in enumerate(runs):
        per_epoch = run.curves.iterations_per_epoch if by_epoch else None
        color = color_of(index)
        for style, (name, points) in enumerate(run.curves.numbers.items()):
            label = name if not any(line.label == name for line in ap) else ""
            ap.append(curve_line(points, per_epoch, color, style, label))
        if run.curves.loss:
            loss.append(curve_line(run.curves.loss, per_epoch, color, 0))
    return {
        "ap": chart(ap, x_label=axis, y_label="AP in percent") if ap else "",
        "loss": chart(loss, x_label=axis, y_label="loss") if loss else "",
    }


def precision_chart(analyses: Sequence[Analysis | None]) -> str:
    """``src`` of precision over recall, empty without an evaluation."""
    lines: list[Line] = []
    for index, analysis in enumerate(analyses):
        found = precision_lines(analysis.outcome, color_of(index)) if analysis else []
        lines += [line._replace(label="") for line in found] if lines else found
    unit = (0, 1.02)
    axes = {"x_label": "recall", "y_label": "precision", "x_range": unit, "y_range": unit}
    return chart(lines, **axes) if lines else ""


def size_rows(analyses: Sequence[Analysis | None]) -> list[dict]:
    """AP by size of the objects, with how many the first evaluation has."""
    first = next(a for a in analyses if a)
    limits = {"small": "below 32 × 32 pixels", "medium": "up to 96 × 96", "large": "above"}
    return [
        {
            "name": name,
            "limit": limit,
            "objects": first.objects_by_size[name],
            "bars": [
                _bar(a.outcome.numbers.get(f"AP{name[0]}") if a else None, index)
                for index, a in enumerate(analyses)
            ],
        }
        for name, limit in limits.items()
    ]


def class_rows(analyses: Sequence[Analysis | None]) -> list[dict]:
    """A row per class of any evaluation, lowest AP of the first first, classes without objects last."""
    first = next(a for a in analyses if a)
    names = list(dict.fromkeys(name for a in analyses if a for name in a.outcome.class_ap))
    ap = {name: first.outcome.class_ap.get(name, math.nan) for name in names}
    names.sort(key=lambda name: (math.isnan(ap[name]), ap[name]))
    places = [
        {name: k for k, name in enumerate(a.outcome.class_names)} if a else {} for a in analyses
    ]
    at_50 = [_precision_at_50(a) if a else None for a in analyses]
    rows = []
    for name in names:
        known = [(a, place.get(name)) for a, place in zip(analyses, places, strict=True)]
        curves = [
            {"points": sparkline(curve[:, k]), "color": color_of(index)}
            for index, ((_, k), curve) in enumerate(zip(known, at_50, strict=True))
            if k is not None and (curve[:, k] > -1).all()
        ]
        objects = next((int(a.objects_by_class[k]) for a, k in known if k is not None), 0)
        rows.append(
            {
                "name": name,
                "objects": objects,
                "bars": [
                    _bar(a.outcome.class_ap.get(name) if a else None, index)
                    for index, a in enumerate(analyses)
                ],
                "curves": curves,
            }
        )
    return rows


def error_rows(analyses: Sequence[Analysis | None]) -> list[dict]:
    """A row per kind of error, bars as long as what they cost."""
    most = max(max(a.gains.values(), default=0) for a in analyses if a)
    return [
        {
            "kind": kind,
            "sentence": KIND_SENTENCES[kind],
            "cells": [
                {
                    "count": a.counts[kind] if a else "–",
                    "bar": _bar(a.gains[kind] if a else None, index, longest=most, sign="+"),
                }
                for index, a in enumerate(analyses)
            ],
        }
        for kind in KINDS
    ]


def matrix_section(analysis: Analysis) -> dict:
    """The confusion matrix, of the classes that are confused most where there are many."""
    matrix, names = analysis.matrix, (*analysis.outcome.class_names, "")
    chosen = _shown_classes(matrix)
    sums = matrix.sum(1)
    rows = [
        {
            "name": names[row] or "nothing there",
            "cells": [
                Cell(int(matrix[row, k]), float(matrix[row, k] / max(1, sums[row])), row == k)
                for k in (*chosen, len(matrix) - 1)
            ],
        }
        for row in (*chosen, len(matrix) - 1)
    ]
    return {
        "names": [*(names[k] for k in chosen), "missed"],
        "rows": rows,
        "left_out": len(matrix) - 1 - len(chosen),
        "pairs": [(names[t], names[p], n) for t, p, n in most_confused(matrix, 10)],
    }


def worst_section(analysis: Analysis, count: int) -> list[dict]:
    """The images with the most errors."""
    outcome = analysis.outcome
    files = {image["id"]: image for image in outcome.truth.coco.dataset["images"]}
    return [
        {
            "file": files[image.number]["file_name"],
            "pictures": paint(
                analysis.kinds,
                analysis.threshold,
                image.number,
                files[image.number]["path"],
                outcome.class_names,
            ),
            "detections": image.detections,
            "objects": image.objects,
            "errors": ", ".join(
                f"{n} {'missed' if kind == KINDS[MISSED] else f'of kind {kind}'}"
                for kind, n in image.counts.items()
            ),
        }
        for image in worst_images(analysis.kinds, analysis.threshold, count)
    ]


def attention_section(run: ReportedRun, analysis: Analysis, count: int) -> list[dict]:
    """Where the model looked in the worst images; empty for a model of which that cannot be drawn."""
    if run.draw_attention is None:
        return []
    files = {image["id"]: image for image in analysis.outcome.truth.coco.dataset["images"]}
    chosen = [
        files[image.number] for image in worst_images(analysis.kinds, analysis.threshold, count)
    ]
    drawn = [(file, run.draw_attention(file["path"], analysis.threshold)) for file in chosen]
    return [
        {"file": file["file_name"], "src": data_url(Image.fromarray(picture), "JPEG", quality=85)}
        for file, picture in drawn
        if picture is not None
    ]


def _bar(value: float | None, index: int, *, longest: float = 100, sign: str = "") -> Bar:
    text = number(value)
    if text == "–":
        return Bar(text, 0, color_of(index))
    share = 100 * max(0.0, value) / longest if longest > 0 else 0
    return Bar(f"{sign if value >= 0 else ''}{text}", min(100.0, share), color_of(index))


def _precision_at_50(analysis: Analysis) -> np.ndarray:
    """(R, K) at an IoU of 0.5."""
    outcome = analysis.outcome
    return outcome.precision[int(np.abs(outcome.iou_thresholds - 0.5).argmin())]


def _shown_classes(matrix: np.ndarray) -> list[int]:
    """All classes, or those with the most mistakes between classes, in their order."""
    between = matrix[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    mistakes = between.sum(0) + between.sum(1)
    return sorted(np.argsort(-mistakes, kind="stable")[:MATRIX_CLASSES].tolist())
