"""The report as one page of HTML."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from smca.version import __version__
from smca.visualization.html_page import write_page

from .analysis import analyze
from .reported_run import ReportedRun
from .sections import (
    attention_section,
    class_rows,
    color_of,
    error_rows,
    matrix_section,
    number_rows,
    precision_chart,
    size_rows,
    training_charts,
    worst_section,
)

TEMPLATE = Path(__file__).parent / "templates" / "report.html"
_LOOKED_AT = 2
"""Images whose attention is drawn."""
_RECORDED_DIFFERS = 0.05
"""Percent of AP, beyond rounding and other hardware."""


def write_report(
    output_path: str | os.PathLike,
    runs: Sequence[ReportedRun],
    *,
    threshold: float | None = None,
    images: int = 8,
) -> None:
    """Write the page, whole or not at all.

    Args:
        output_path: of the page.
        runs: at least one; several are compared.
        threshold: score from which on detections are shown and counted; by default each run's own with the highest F1.
        images: most images with errors per run.

    Raises:
        OSError: if it cannot be written.
    """
    analyses = [run.outcome and analyze(run.outcome, threshold) for run in runs]
    columns = [
        {
            "id": f"run{index + 1}",
            "name": run.name,
            "color": color_of(index),
            "facts": run.facts,
            "missing": [*run.missing, *_doubts(run)],
            "threshold": None if a is None else f"{a.threshold:.2f}",
            "shown": 0 if a is None else a.shown,
            "right": 0 if a is None else a.right,
            "matrix": None if a is None else matrix_section(a),
            "worst": [] if a is None else worst_section(a, images),
            "attention": [] if a is None else attention_section(run, a, min(images, _LOOKED_AT)),
        }
        for index, (run, a) in enumerate(zip(runs, analyses, strict=True))
    ]
    has_evaluation = any(analyses)
    write_page(
        output_path,
        TEMPLATE,
        title=f"Report: {', '.join(run.name for run in runs)}",
        runs=columns,
        data_differ=_data_differ(runs),
        has_evaluation=has_evaluation,
        numbers=number_rows(analyses) if has_evaluation else [],
        charts=training_charts(runs),
        precision=precision_chart(analyses),
        sizes=size_rows(analyses) if has_evaluation else [],
        classes=class_rows(analyses) if has_evaluation else [],
        errors=error_rows(analyses) if has_evaluation else [],
        version=__version__,
    )


def _doubts(run: ReportedRun) -> list[str]:
    """That the training measured something else last."""
    if run.outcome is None or run.recorded_ap is None:
        return []
    now = run.outcome.numbers["AP"]
    if abs(now - run.recorded_ap) <= _RECORDED_DIFFERS:
        return []
    return [
        f"The training itself measured an AP of {run.recorded_ap:.2f} last, this evaluation {now:.2f}: it is of other "
        "weights, other data or other settings."
    ]


def _data_differ(runs: Sequence[ReportedRun]) -> bool:
    names = {run.outcome.dataset_name for run in runs if run.outcome is not None}
    return len(names) > 1
