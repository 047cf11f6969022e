"""What is wrong with the boxes of a data set, all of them at once.

M objects; boxes are (x, y, width, height) in pixels, sizes (width, height) of each object's image, inf where unknown.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .box_format import ENOUGH_BOXES, TOLERANCE

# COCO itself has objects of a pixel, but hardly any.
_MANY_TINY = 0.02
_MOST = 0.5


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

    def named(self) -> dict[str, np.ndarray]:
        """The masks by what is said of a box."""
        return {
            "not finite": self.not_finite,
            "without area": self.without_area,
            "outside the image": self.outside,
            "partly outside the image": self.partly_outside,
        }


def find_box_faults(boxes: np.ndarray, sizes: np.ndarray) -> BoxFaults:
    """The faults of boxes (M, 4) float64 in images of sizes (M, 2) float64."""
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


class BoxDoubt(NamedTuple):
    """What makes one doubt that boxes are COCO's, although each of them alone could be.

    Attributes:
        kind: short name.
        mask: (M,) bool, the boxes.
        sentence: how many they are, and what may be the reason.
    """

    kind: str
    mask: np.ndarray
    sentence: str


def find_box_doubts(boxes: np.ndarray, faults: BoxFaults, counted: np.ndarray) -> list[BoxDoubt]:
    """Doubts about boxes that look like COCO's as a whole.

    Args:
        boxes: (M, 4) float64.
        faults: of the boxes.
        counted: (M,) bool, without crowds.
    """
    total = int(counted.sum())
    if total < ENOUGH_BOXES:
        return []
    doubts = []
    unusable = counted & faults.unusable
    if unusable.sum() > _MOST * total:
        sentence = (
            f"{int(unusable.sum())} of {total} boxes lie outside their images or have no area, so the format is "
            "probably another one than (x, y, width, height) in pixels, such as shares of 0..1000 or pixels of "
            "images of another size"
        )
        doubts.append(BoxDoubt("most boxes are unusable", unusable, sentence))
    sides = np.where(faults.unusable[:, None], 1.0, boxes[:, 2:])
    tiny = counted & (sides < 1).all(axis=1)
    if tiny.sum() > _MANY_TINY * total:
        sentence = (
            f"{int(tiny.sum())} of {total} boxes are smaller than a pixel on both sides, so they may be normalised to "
            "0..1, but COCO's are in pixels"
        )
        doubts.append(BoxDoubt("boxes below a pixel", tiny, sentence))
    return doubts
