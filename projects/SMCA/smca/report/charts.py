"""Charts of the report as SVG, in colours that tell the runs apart and without any text of theirs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from smca.evaluation import CocoOutcome, CurvePoint

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which people with any colour vision tell apart; runs beyond the sixth begin anew."""
_STYLES = ("-", "--", ":")
SHOWN_IOUS = (0.5, 0.75, 0.9)


class Line(NamedTuple):
    """One line of a chart.

    Attributes:
        x, y: (N,) coordinates.
        color: of the run.
        style: what of the run it is, index of a line style.
        label: for the legend, empty for none; not a run's or a class's name, whose letters a font may lack.
    """

    x: Sequence[float]
    y: Sequence[float]
    color: str
    style: int = 0
    label: str = ""


def chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
) -> str:
    """Lines in one pair of axes, as the ``src`` of an ``img``; markers where a line has few points."""
    # Heavy, and of no use where no report is written.
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # Letters stay text, and the same chart is the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "smca", "font.size": 10}):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for line in lines:
            axes.plot(
                line.x,
                line.y,
                color=line.color,
                linestyle=_STYLES[line.style % len(_STYLES)],
                linewidth=1.8,
                marker="o" if len(line.x) <= 30 else None,
                markersize=3.5,
                label=line.label or None,
            )
        axes.set(xlabel=x_label, ylabel=y_label)
        if y_range is not None:
            axes.set_ylim(*y_range)
        if x_range is not None:
            axes.set_xlim(*x_range)
        axes.grid(color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if any(line.label for line in lines):
            axes.legend(frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def precision_lines(outcome: CocoOutcome, color: str) -> list[Line]:
    """Precision over recall at ``SHOWN_IOUS``, the mean of the classes that have objects."""
    has_objects = (outcome.precision > -1).all((0, 1))
    lines = []
    for style, iou in enumerate(SHOWN_IOUS if has_objects.any() else ()):
        threshold = int(np.abs(outcome.iou_thresholds - iou).argmin())
        mean = outcome.precision[threshold][:, has_objects].mean(1)
        lines.append(Line(outcome.recall_thresholds, mean, color, style, f"IoU {iou:g}"))
    return lines


def curve_line(
    points: Sequence[CurvePoint], per_epoch: float | None, color: str, style: int, label: str = ""
) -> Line:
    """A training's numbers over epochs, or over iterations where ``per_epoch`` (iterations) is not known."""
    x = [(point.iteration + 1) / (per_epoch or 1) for point in points]
    return Line(x, [point.value for point in points], color, style, label)


def sparkline(values: np.ndarray, width: int = 100, height: int = 32) -> str:
    """``points`` of an SVG's ``polyline`` for values (N,) in [0, 1] from left to right."""
    x = np.linspace(0, width, len(values))
    y = (1 - values) * height
    return " ".join(f"{a:.0f},{b:.0f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
