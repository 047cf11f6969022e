"""What is wrong with the boxes of a data set, all of them at once.

M objects; boxes are (x, y, width, height) in pixels, sizes (width, height) of each object's image, inf where unknown.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .box_format import TOLERANCE


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
