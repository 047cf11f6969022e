"""The numbers that the paper (arXiv 2101.07448) prints, and those that authors of other detectors report of their
releases. None of them is measured here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PaperResult:
    """One row of the paper's tables on COCO val2017; None where the paper prints nothing.

    Attributes:
        table: the table it is from. Full SMCA's parameters are table 3's 39.5, which table 4 rounds
            to 40; times are table 1's; single-scale AP50 and AP75 are table 2's.
        epochs: length of the training.
        params: millions of parameters, with the paper's decimals.
        gflops: giga multiply-adds per image, averaged over the data set.
        seconds: per image on one V100.
        ap, ap50, ap75, ap_s, ap_m, ap_l: box AP in percent.
    """

    table: int
    epochs: int
    ap: float
    params: float | None = None
    gflops: float | None = None
    seconds: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    ap_s: float | None = None
    ap_m: float | None = None
    ap_l: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReleasedResult:
    """Box AP on COCO val2017 in percent, as authors report it of their release; None where it says nothing.

    Attributes:
        source: the repository.
    """

    source: str
    ap: float
    ap_s: float | None = None
    ap_m: float | None = None
    ap_l: float | None = None


_ACCURACY = ("ap", "ap50", "ap75", "ap_s", "ap_m", "ap_l")


def _row(
    table: int, epochs: int, accuracy: tuple[float | None, ...], **costs: float | None
) -> PaperResult:
    """``accuracy`` is AP, AP50, AP75, APS, APM, APL, as many as the table has."""
    named = dict(zip(_ACCURACY, accuracy, strict=False))
    return PaperResult(table=table, epochs=epochs, **costs, **named)


def _released(source: str, accuracy: tuple[float, ...]) -> ReleasedResult:
    """``accuracy`` is AP, APS, APM, APL, or AP alone."""
    names = ("ap", "ap_s", "ap_m", "ap_l")
    return ReleasedResult(source=source, **dict(zip(names, accuracy, strict=False)))


def _full(epochs: int, accuracy: tuple[float, ...]) -> PaperResult:
    return _row(4, epochs, accuracy, params=39.5, gflops=152, seconds=0.100)


def _ablation(ap: float, params: float) -> PaperResult:
    return _row(3, 50, (ap,), params=params)


PAPER: dict[str, PaperResult] = {
    "smca_r50_50ep": _full(50, (43.7, 63.6, 47.2, 24.2, 47.0, 60.4)),
    "smca_r50_108ep": _full(108, (45.6, 65.5, 49.1, 25.9, 49.3, 62.6)),
    "smca_r101_50ep": _row(4, 50, (44.4, 65.2, 48.0, 24.3, 48.5, 61.0), params=58, gflops=218),
    "smca_single_scale_r50_50ep": _row(
        1, 50, (41.0, 62.2, 43.6, 21.9, 44.3, 59.1), params=41.0, gflops=86, seconds=0.043
    ),
    "smca_single_scale_r50_108ep": _row(
        1, 108, (42.7, None, None, 22.8, 46.1, 60.0), params=41.0, gflops=86, seconds=0.043
    ),
    "detr_r50_50ep": _row(2, 50, (34.8, 56.2, 36.9)),
    "detr_r50_500ep": _row(
        4, 500, (42.0, 62.4, 44.2, 20.5, 45.8, 61.1), params=41, gflops=86, seconds=0.038
    ),
    "detr_dc5_r50_500ep": _row(
        4, 500, (43.3, 63.1, 45.9, 22.5, 47.3, 61.1), params=41, gflops=187, seconds=0.079
    ),
    "detr_r101_500ep": _row(4, 500, (43.5, 63.8, 46.4, 21.9, 48.0, 61.8), params=60, gflops=152),
    "detr_dc5_r101_500ep": _row(
        4, 500, (44.9, 64.7, 47.7, 23.7, 49.5, 62.3), params=60, gflops=253
    ),
    "faster_rcnn_fpn_r50_3x": _row(
        4, 36, (40.2, 61.0, 43.8, 24.2, 43.5, 52.0), params=42, gflops=180
    ),
    "deformable_detr_single_scale_r50_50ep": _row(
        4, 50, (39.7, 60.1, 42.4, 21.2, 44.3, 56.0), params=34, gflops=78
    ),
    "deformable_detr_r50_50ep": _row(
        4, 50, (43.8, 62.6, 47.7, 26.4, 47.1, 58.0), params=40, gflops=173
    ),
    "deformable_detr_r50_150ep": _row(4, 150, (45.3,), params=40, gflops=173),
    "up_detr_r50_150ep": _row(4, 150, (40.5, 60.8, 42.6, 19.0, 44.4, 60.0), params=41, gflops=86),
    "up_detr_r50_300ep": _row(4, 300, (42.8, 63.0, 45.3, 20.8, 47.1, 61.7), params=41, gflops=86),
    "ablations/head_shared_bs8": _row(2, 50, (40.2, 61.4, 42.7)),
    "ablations/head_shared_bs16": _row(2, 50, (40.2, 61.3, 42.9)),
    "ablations/head_shared_bs32": _row(2, 50, (39.9, 61.0, 42.4)),
    "ablations/multi_head_fixed": _row(2, 50, (38.5, 60.7, 40.2)),
    "ablations/multi_head_single": _row(2, 50, (40.4, 61.8, 43.3)),
    "ablations/no_scale_selection": _ablation(42.6, 39.5),
    "ablations/encoder_3intra": _ablation(42.9, 37.9),
    "ablations/encoder_3multi": _ablation(43.3, 37.9),
    "ablations/encoder_5intra": _ablation(43.3, 39.5),
    "ablations/encoder_shared_ffn": _ablation(43.0, 42.2),
    "ablations/encoder_shared_sa": _ablation(42.8, 44.7),
    "ablations/encoder_no_share": _ablation(42.3, 47.3),
}
"""Zoo name -> the paper's row, in the order in which tables list them."""

DETR = "detr_r50_500ep"
"""The experiment that times are given relative to: DETR as published."""


_DEFORMABLE, _UP = "fundamentalvision/Deformable-DETR", "dddzg/up-detr"

RELEASED: dict[str, ReleasedResult] = {
    "deformable_detr_single_scale_r50_50ep": _released(_DEFORMABLE, (39.4, 20.6, 43.0, 55.5)),
    # The 43.8 that the paper cites is older: then width and height were swapped where offsets are divided by them.
    "deformable_detr_r50_50ep": _released(_DEFORMABLE, (44.5, 27.1, 47.6, 59.6)),
    "deformable_detr_refine_r50_50ep": _released(_DEFORMABLE, (46.2,)),
    "deformable_detr_two_stage_r50_50ep": _released(_DEFORMABLE, (46.9,)),
    "up_detr_r50_300ep": _released(_UP, (43.1, 21.6, 46.8, 62.4)),
}
"""By zoo name, as the paper's."""


def time_ratio(result: PaperResult | None) -> float | None:
    """The paper's time per image over its DETR's; None where the paper gives no time."""
    if result is None or result.seconds is None:
        return None
    return result.seconds / PAPER[DETR].seconds
