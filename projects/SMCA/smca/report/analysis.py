"""Everything about an evaluation that the report shows, worked out once."""

from __future__ import annotations

import dataclasses

import numpy as np

from smca.evaluation import CocoOutcome

from .confusion import confusion_matrix
from .error_kinds import ErrorKinds, best_threshold, find_error_kinds
from .matching import match


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
    """Of one evaluation.

    Attributes:
        outcome: of the evaluation.
        kinds: errors of its detections.
        threshold: score from which on detections are shown and counted.
        counts: errors of each kind among those shown.
        gains: what AP50 would gain without each kind, in percent.
        matrix: (K + 1, K + 1) confusion matrix of those shown.
        objects_by_class: (K,) that count.
        objects_by_size: that count, small, medium and large.
        shown, right: how many detections are shown, and how many of them are right.
    """

    outcome: CocoOutcome
    kinds: ErrorKinds
    threshold: float
    counts: dict[str, int]
    gains: dict[str, float]
    matrix: np.ndarray
    objects_by_class: np.ndarray
    objects_by_size: dict[str, int]
    shown: int
    right: int


def analyze(outcome: CocoOutcome, threshold: float | None = None) -> Analysis:
    """Look closer at an evaluation.

    Args:
        outcome: of the evaluation.
        threshold: see :class:`Analysis`; by default the one of the highest F1.
    """
    matches = match(outcome)
    kinds = find_error_kinds(matches)
    if threshold is None:
        threshold = best_threshold(matches)
    shown = (matches.detections.scores >= threshold) & ~matches.ignored
    return Analysis(
        outcome=outcome,
        kinds=kinds,
        threshold=threshold,
        counts=kinds.counts(threshold),
        gains=kinds.gains(),
        matrix=confusion_matrix(matches, threshold),
        objects_by_class=np.bincount(matches.objects.classes, minlength=matches.num_classes),
        objects_by_size=_by_size(outcome),
        shown=int(shown.sum()),
        right=int((shown & matches.is_true).sum()),
    )


def _by_size(outcome: CocoOutcome) -> dict[str, int]:
    """By area as COCO divides it: 32 x 32 and 96 x 96 pixels."""
    images = set(outcome.image_numbers)
    areas = np.array(
        [
            a["area"]
            for a in outcome.truth.coco.dataset["annotations"]
            if a["image_id"] in images and not a["iscrowd"]
        ]
    )
    limits = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}
    # An object on the limit counts on both sides, in COCO's evaluation, too.
    return {
        name: int(((areas >= least) & (areas <= most)).sum())
        for name, (least, most) in limits.items()
    }
