"""What is wrong with the boxes of a data set, all of them at once.

M objects; boxes are (x, y, width, height) in pixels, sizes (width, height) of each object's image, inf where unknown.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .coco_tables import CocoTables

# Files round to one or two decimals, and some count the last pixel as a place, not as an edge.
TOLERANCE = 1.0
_ENOUGH_BOXES = 3
_XYXY_EXCEEDING = 0.1
_XYXY_FITTING = 0.98


class BoxFaults(NamedTuple):
    """Masks (M,) bool, of which at most one is True for an object.

    Attributes:
        not_finite: NaN or infinite.
        without_area: width or height is zero or negative.
        outside: no part is in the image.
        partly_outside: reaches beyond the image by more than ``TOLERANCE`` pixels.
    """

    not_finite: np.ndarray
    without_area: np.ndarray
    outside: np.ndarray
    partly_outside: np.ndarray

    @property
    def unusable(self) -> np.ndarray:
        """(M,) bool: nothing can be learned from the box."""
        return self.not_finite | self.without_area | self.outside


def find_box_faults(boxes: np.ndarray, sizes: np.ndarray) -> BoxFaults:
    """
    Args:
        boxes: (M, 4) float64.
        sizes: (M, 2) float64.
    """
    not_finite = ~np.isfinite(boxes).all(axis=1)
    finite = np.where(not_finite[:, None], 0.0, boxes)
    start, extent = finite[:, :2], finite[:, 2:]
    # Huge numbers overflow to infinity, which compares as it should.
    with np.errstate(over="ignore"):
        end = start + extent
    without_area = ~not_finite & (extent <= 0).any(axis=1)
    usable = ~(not_finite | without_area)
    outside = usable & ((end <= 0) | (start >= sizes)).any(axis=1)
    beyond = (start < -TOLERANCE) | (end > sizes + TOLERANCE)
    return BoxFaults(not_finite, without_area, outside, usable & ~outside & beyond.any(axis=1))


def clip_boxes(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(M, 4) float64 (x, y, width, height) within the images, for boxes that overlap theirs.

    Boxes that are inside come back with their own numbers, bit for bit.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        end = boxes[:, :2] + boxes[:, 2:]
        start = np.clip(boxes[:, :2], 0, None)
        clipped = np.concatenate([start, np.minimum(end, sizes) - start], axis=1)
    inside = ((boxes[:, :2] >= 0) & (end <= sizes)).all(axis=1)
    return np.where(inside[:, None], boxes, clipped)


def look_like_corners(tables: CocoTables) -> bool:
    """Whether the boxes are (x1, y1, x2, y2): read as COCO's they leave their images, read as corners they fit.

    A verdict on all boxes together; too few of them allow none.
    """
    finite = np.isfinite(tables.boxes).all(axis=1)
    boxes, sizes = tables.boxes[finite], tables.sizes[tables.image_index[finite]]
    if not len(boxes):
        return False
    with np.errstate(over="ignore"):
        exceeding = (boxes[:, :2] + boxes[:, 2:] > sizes + TOLERANCE).any(axis=1)
    ordered = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    fitting = ordered & (boxes >= 0).all(axis=1) & (boxes[:, 2:] <= sizes + TOLERANCE).all(axis=1)
    return bool(
        exceeding.sum() >= _ENOUGH_BOXES
        and exceeding.mean() > _XYXY_EXCEEDING
        and fitting.mean() > _XYXY_FITTING
    )
