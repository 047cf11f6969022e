"""Which detection found which object, as COCO's evaluation decides it at one IoU threshold, image by image.

Legend: N detections, M objects that count (no crowds), K categories.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from pycocotools import mask as coco_mask

from smca.evaluation import Boxes, CocoOutcome

IOU_THRESHOLD = 0.5
"""From this overlap on a detection has found an object of its class."""
NONE = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Matches:
    """Detections and objects of an evaluation, and what each detection has to do with which object.

    Attributes:
        detections: N, best score of an image first, images in the order of the evaluation; those that COCO's evaluation
            does not look at (beyond the limit of an image and class) are left out.
        objects: M.
        num_classes: K.
        found: (N,) index of the object of its class that a detection is the match of, ``NONE`` without one.
        ignored: (N,) bool; lies on a crowd of its class, so it is neither right nor wrong.
        own, own_iou: (N,) index and IoU of the object of the detection's class that it overlaps most.
        other, other_iou: (N,) of those of other classes. ``NONE`` and 0 where it overlaps none.
    """

    detections: Boxes
    objects: Boxes
    num_classes: int
    found: np.ndarray
    ignored: np.ndarray
    own: np.ndarray
    own_iou: np.ndarray
    other: np.ndarray
    other_iou: np.ndarray

    @property
    def is_true(self) -> np.ndarray:
        """(N,) bool."""
        return self.found != NONE

    @property
    def is_false(self) -> np.ndarray:
        """(N,) bool; what is ignored is neither."""
        return ~self.is_true & ~self.ignored

    def missed(self, shown: np.ndarray) -> np.ndarray:
        """(M,) bool: no match among the detections of a mask (N,)."""
        missed = np.ones(len(self.objects), dtype=bool)
        missed[self.found[shown & self.is_true]] = False
        return missed


def match(outcome: CocoOutcome) -> Matches:
    """Compare each image's detections with its objects at an IoU of 0.5, by the rules of COCO's evaluation.

    By falling score each detection takes the object of its class that it overlaps most among those left; one that takes
    none and lies on a crowd is ignored.
    """
    everything = outcome.objects()
    kept = np.flatnonzero(~everything.ignored)
    # From a place among all objects to that among those that count.
    place = np.full(len(everything), NONE)
    place[kept] = np.arange(len(kept))
    detections = _looked_at(outcome)
    n = len(detections)
    found, own, other = (np.full(n, NONE) for _ in range(3))
    own_iou, other_iou = np.zeros(n), np.zeros(n)
    ignored = np.zeros(n, dtype=bool)
    truth_of = _by_image(everything.images)
    for image, rows in _by_image(detections.images).items():
        columns = truth_of.get(image)
        if columns is None:
            continue
        iou = coco_mask.iou(
            detections.boxes[rows],
            everything.boxes[columns],
            everything.crowds[columns].astype(np.uint8),
        )
        iou = np.asarray(iou).reshape(len(rows), len(columns))
        same = detections.classes[rows][:, None] == everything.classes[columns]
        taken, on_crowd = _match_image(
            np.where(same, iou, 0.0), everything.ignored[columns], everything.crowds[columns]
        )
        found[rows] = np.where(taken == NONE, NONE, place[columns[taken]])
        ignored[rows] = on_crowd
        counts = ~everything.ignored[columns]
        for mask, index, value in ((same, own, own_iou), (~same, other, other_iou)):
            overlap = np.where(mask & counts, iou, 0.0)
            best = overlap.argmax(1)
            value[rows] = overlap[np.arange(len(rows)), best]
            index[rows] = np.where(value[rows] > 0, place[columns[best]], NONE)
    return Matches(
        detections=detections,
        objects=everything[kept],
        num_classes=len(outcome.class_names),
        found=found,
        ignored=ignored,
        own=own,
        own_iou=own_iou,
        other=other,
        other_iou=other_iou,
    )


def average_precision(
    classes: np.ndarray, scores: np.ndarray, is_true: np.ndarray, num_objects: np.ndarray
) -> float:
    """COCO's AP at one IoU threshold: precision at 101 recalls, the mean of the classes that have objects.

    Args:
        classes, scores, is_true: (N,) of detections that are right or wrong, in the order of an evaluation.
        num_objects: (K,) of each class.

    Returns:
        In percent; NaN without objects.
    """
    recalls = np.linspace(0, 1, 101)
    values = []
    order = np.argsort(-scores, kind="stable")
    classes, is_true = classes[order], is_true[order]
    by_class = _by_image(classes)
    for k in np.flatnonzero(num_objects > 0).tolist():
        right = is_true[by_class.get(k, np.zeros(0, dtype=int))]
        true = right.cumsum()
        recall = true / num_objects[k]
        precision = true / np.arange(1, len(right) + 1)
        # What is reached at a higher recall counts at a lower one, too.
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        where = np.searchsorted(recall, recalls, side="left")
        values.append(np.append(precision, 0.0)[where].mean())
    return float(np.mean(values)) * 100 if values else float("nan")


def _looked_at(outcome: CocoOutcome) -> Boxes:
    """Sorted by image and falling score, at most ``max_detections`` of an image and class."""
    rank = {image: number for number, image in enumerate(outcome.image_numbers)}
    ranks = np.array([rank.get(i, NONE) for i in outcome.detections.images.tolist()], dtype=int)
    inside = np.flatnonzero(ranks != NONE)
    found, ranks = outcome.detections[inside], ranks[inside]
    order = np.lexsort((-found.scores, found.classes, ranks))
    groups = np.stack([ranks[order], found.classes[order]])
    starts = np.append(True, (groups[:, 1:] != groups[:, :-1]).any(0))[: len(order)]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    kept = order[np.arange(len(order)) - first < outcome.max_detections]
    return found[kept[np.lexsort((kept, -found.scores[kept], ranks[kept]))]]


def _by_image(images: np.ndarray) -> dict[int, np.ndarray]:
    """Indices of each value, in their order."""
    order = np.argsort(images, kind="stable")
    values, starts = np.unique(images[order], return_index=True)
    return (
        dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}
    )


def _match_image(
    iou: np.ndarray, ignored: np.ndarray, crowds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Column that each detection takes, and whether it lies on something to be ignored instead.

    Args:
        iou: (D, G), rows by falling score, 0 between different classes.
        ignored, crowds: (G,) bool.
    """
    taken, on_ignored = np.full(len(iou), NONE), np.zeros(len(iou), dtype=bool)
    free = np.ones(iou.shape[1], dtype=bool)
    # As in COCO's evaluation, where nothing but rounding is between 0.5 and what matches.
    least = min(IOU_THRESHOLD, 1 - 1e-10)
    for row in np.flatnonzero((iou >= least).any(1)).tolist():
        for candidates in (free & ~ignored, free & ignored):
            usable = np.flatnonzero(candidates & (iou[row] >= least))
            if len(usable):
                # Of equal ones the last.
                best = usable[::-1][iou[row][usable[::-1]].argmax()]
                on_ignored[row] = ignored[best]
                taken[row] = NONE if ignored[best] else best
                free[best] = crowds[best]
                break
    return taken, on_ignored
