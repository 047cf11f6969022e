"""The confusion matrix: what objects were taken for."""

from __future__ import annotations

import numpy as np

from .matching import IOU_THRESHOLD, NONE, Matches


def confusion_matrix(matches: Matches, threshold: float) -> np.ndarray:
    """Count what each object was taken for, and each detection for what it is on.

    What COCO's evaluation matches is on the diagonal. Of the other detections each, best first, takes the object of
    another class that it overlaps most, by 0.5 or more, if that is left.

    Args:
        matches: of an evaluation with K categories.
        threshold: detections of a lower score are left out.

    Returns:
        (K + 1, K + 1) int64; rows are true classes, the last one background, columns detected classes, the last one
        missed. Each object that counts and each detection shown and not ignored is in one place.
    """
    m, k = matches, matches.num_classes
    matrix = np.zeros((k + 1, k + 1), dtype=np.int64)
    shown = m.detections.scores >= threshold
    true = np.flatnonzero(shown & m.is_true)
    left = m.missed(shown)
    np.add.at(matrix, (m.objects.classes[m.found[true]], m.detections.classes[true]), 1)
    false = np.flatnonzero(shown & m.is_false)
    for n in false[np.argsort(-m.detections.scores[false], kind="stable")].tolist():
        row = k
        target = m.other[n]
        if target != NONE and m.other_iou[n] >= IOU_THRESHOLD and left[target]:
            left[target] = False
            row = m.objects.classes[target]
        matrix[row, m.detections.classes[n]] += 1
    np.add.at(matrix, (m.objects.classes[left], k), 1)
    return matrix


def most_confused(matrix: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """(true class, detected class, how often) of the most frequent mistakes between classes, by falling number.

    Args:
        matrix: (K + 1, K + 1) of :func:`confusion_matrix`.
        count: at most so many.
    """
    between = matrix[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    order = np.argsort(-between, axis=None, kind="stable")[:count]
    pairs = (np.unravel_index(i, between.shape) for i in order.tolist())
    return [(int(t), int(p), int(between[t, p])) for t, p in pairs if between[t, p]]
