"""What the authors of detectors that the paper compares with report of their releases. None of it is measured here."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReleasedResult:
    """Box AP on COCO val2017 in percent; None where the release says nothing.

    Attributes:
        source: the repository.
    """

    source: str
    ap: float
    ap_s: float | None = None
    ap_m: float | None = None
    ap_l: float | None = None


def _row(source: str, accuracy: tuple[float, ...]) -> ReleasedResult:
    names = ("ap", "ap_s", "ap_m", "ap_l")
    return ReleasedResult(source=source, **dict(zip(names, accuracy, strict=False)))


_DEFORMABLE, _UP = "fundamentalvision/Deformable-DETR", "dddzg/up-detr"

RELEASED: dict[str, ReleasedResult] = {
    "deformable_detr_single_scale_r50_50ep": _row(_DEFORMABLE, (39.4, 20.6, 43.0, 55.5)),
    # The 43.8 that the paper cites is older: then width and height were swapped where offsets are divided by them.
    "deformable_detr_r50_50ep": _row(_DEFORMABLE, (44.5, 27.1, 47.6, 59.6)),
    "deformable_detr_refine_r50_50ep": _row(_DEFORMABLE, (46.2,)),
    "deformable_detr_two_stage_r50_50ep": _row(_DEFORMABLE, (46.9,)),
    "up_detr_r50_300ep": _row(_UP, (43.1, 21.6, 46.8, 62.4)),
}
"""By zoo name."""
