"""What runs will cost, from what finished ones took."""

from collections.abc import Iterable, Mapping

from .plan import PARTS, Run
from .variants import VARIANTS

STEP_SECONDS = {
    ("small", "smca_single_scale"): 0.13,
    ("small", "detr"): 0.13,
    ("small", "smca"): 0.20,
    ("small", "smca_plus"): 0.18,
    ("small", "deformable_detr"): 0.54,
    ("small", "faster_rcnn"): 0.20,
    ("scales", "smca_single_scale"): 0.5,
    ("scales", "2intra_multi_2intra"): 0.9,
}
"""Measured once on one thread of a server's CPU in bfloat16: a first guess where no run has finished."""


def step_seconds(run: Run, results: Mapping[str, dict]) -> float:
    """Of the same variant in the same setting, or else of its relative, or else of the setting's first."""
    setting = PARTS[run.part].setting
    relatives = [run.variant, VARIANTS[run.variant].rate_of, "2intra_multi_2intra"]
    for variant in filter(None, relatives):
        times = [
            time_of(point) / point["step"]
            for result in results.values()
            for point in result["curve"][-1:]
            if result["run"]["variant"] == variant
            and PARTS[result["run"]["part"]].setting == setting
        ]
        if times:
            return sum(times) / len(times)
        if (setting, variant) in STEP_SECONDS:
            return STEP_SECONDS[setting, variant]
    # Of a setting for a GPU nothing is known before its first run.
    return 0.0


def time_of(point: Mapping) -> float:
    """Seconds of training until a point of a curve: of the processor, which other processes do not lengthen."""
    return point["cpu_seconds"] or point["seconds"]


def estimate(runs: Iterable[Run], results: Mapping[str, dict]) -> float:
    """Seconds of training on one thread."""
    return sum(run.steps * step_seconds(run, results) for run in runs)
