"""A report as text and as json."""

from __future__ import annotations

import numpy as np
from tabulate import tabulate

from .check import CheckReport
from .findings import Finding
from .statistics import Statistics

_PERCENTILES = (5, 50, 95)
_MAX_CLASSES = 30


def format_report(report: CheckReport, *, examples: int = 3) -> str:
    """The tables that are printed.

    Args:
        report: of a data set.
        examples: how many records to name per fault.
    """
    statistics = report.statistics
    parts = [
        _headline(report),
        "",
        _format_numbers(statistics),
        "",
        _format_classes(statistics),
        "",
    ]
    hints = [text for hint in report.hints for text in _format_hint(hint, examples)]
    if not report.findings:
        return "\n".join([*parts, "No faults found.", *hints])
    rows = [
        [f.kind, f.count, f"--fix {f.remedy}" if f.fixable else f.remedy] for f in report.findings
    ]
    parts += [tabulate(rows, headers=["fault", "count", "what can be done"], tablefmt="simple"), ""]
    for found in report.findings:
        for text in found.examples[:examples]:
            parts.append(f"{found.kind}: {text}")
        if found.count > examples:
            parts.append(f"{found.kind}: and {found.count - examples} more")
    return "\n".join([*parts, *hints])


def _format_hint(hint: Finding, examples: int) -> list[str]:
    more = f", and {hint.count - examples} more" if hint.count > examples else ""
    shown = "; ".join(hint.examples[:examples])
    return [f"Hint: {hint.kind} ({hint.count}): {shown}{more}. {hint.remedy}"]


def report_as_json(report: CheckReport) -> dict:
    """Plain data: counts, faults with examples, percentiles."""
    s = report.statistics
    return {
        "name": report.name,
        "json_file": report.json_file,
        "images_read": len(report.states),
        "images": s.images,
        "empty_images": s.empty_images,
        "objects": s.objects,
        "crowds": s.crowds,
        "classes": {
            name: {"objects": int(objects), "images": int(images)}
            for name, objects, images in zip(
                s.class_names, s.objects_of_class, s.images_of_class, strict=True
            )
        },
        "share_by_size": dict(zip(("small", "medium", "large"), s.share_by_size(), strict=True)),
        "percentiles": {
            name: dict(zip(map(str, _PERCENTILES), _percentiles(values), strict=True))
            for name, values in _distributions(s).items()
        },
        "num_queries": report.num_queries,
        "faults": [found._asdict() for found in report.findings],
        "hints": [
            {"kind": h.kind, "count": h.count, "advice": h.remedy, "examples": h.examples}
            for h in report.hints
        ],
    }


def _headline(report: CheckReport) -> str:
    s = report.statistics
    read = f"{len(report.states)} image files read" if report.states else "image files not read"
    return (
        f"{report.name}: {s.images} images ({s.empty_images} without objects), {s.objects} objects of "
        f"{len(s.class_names)} classes, {s.crowds} crowds; {read}; objects per image compared with "
        f"{report.num_queries} queries"
    )


def _distributions(s: Statistics) -> dict[str, np.ndarray]:
    sizes = s.image_sizes[np.isfinite(s.image_sizes).all(axis=1)]
    return {
        "image width": sizes[:, 0],
        "image height": sizes[:, 1],
        "objects per image": s.objects_in_image.astype(float),
        "object size": s.side,
        "object width / height": s.aspect,
    }


def _percentiles(values: np.ndarray) -> list[float | None]:
    if not values.size:
        return [None] * len(_PERCENTILES)
    return [float(v) for v in np.percentile(values, _PERCENTILES)]


def _format_numbers(s: Statistics) -> str:
    rows = []
    for name, values in _distributions(s).items():
        ends = [values.min(), values.max()] if values.size else [None, None]
        unit = ", px" if name in ("image width", "image height", "object size") else ""
        rows.append([name + unit, ends[0], *_percentiles(values), ends[1]])
    headers = ["", "least", *(f"{p}%" for p in _PERCENTILES), "most"]
    table = tabulate(rows, headers=headers, tablefmt="simple", floatfmt=".4g", missingval="-")
    small, medium, large = s.share_by_size()
    return (
        f"{table}\n\nCOCO's sizes: {small:.0%} small (below 32x32 px), {medium:.0%} medium, "
        f"{large:.0%} large (96x96 px and more)"
    )


def _format_classes(s: Statistics) -> str:
    order = np.argsort(-s.objects_of_class, kind="stable")
    shown = order
    if len(order) > _MAX_CLASSES:
        shown = np.concatenate([order[: _MAX_CLASSES - 5], order[-5:]])
    rows = [[s.class_names[k], s.objects_of_class[k], s.images_of_class[k]] for k in shown.tolist()]
    if len(shown) < len(order):
        rows.insert(_MAX_CLASSES - 5, [f"({len(order) - len(shown)} more)", None, None])
    return tabulate(rows, headers=["class", "objects", "images"], tablefmt="simple")
