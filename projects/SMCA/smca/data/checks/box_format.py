"""In which of the usual formats boxes are written, judged by all of them together.

COCO's is (x, y, width, height) in pixels. Others are (x1, y1, x2, y2), its corners, and (cx, cy, width, height), its
centre; YOLO and some other tools divide them by the image's size.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np

# Files round to one or two decimals, and some count the last pixel as a place, not as an edge.
TOLERANCE = 1.0
ENOUGH_BOXES = 3
_MISFITTING = 0.02
_CORNERS_EXCEEDING = 0.1
_CENTRES_EXCEEDING = 0.02
# Boxes of people who draw carelessly leave the image on all sides, so they fit in no reading. Of two readings one is
# right if hardly any box leaves the image in it, compared with the other.
_CLEARLY_FEWER = 0.1
_SMALLEST_SIDE = 2
_UNIT = 1 + 1e-3


class Layout(enum.Enum):
    """What the four numbers of a box are."""

    COCO = "(x, y, width, height)"
    CORNERS = "(x1, y1, x2, y2)"
    CENTRES = "(centre x, centre y, width, height)"


class BoxFormat(NamedTuple):
    """
    Attributes:
        layout: None where nothing tells the layouts apart.
        normalised: whether the numbers are shares of the image's size instead of pixels.
    """

    layout: Layout | None = Layout.COCO
    normalised: bool = False

    @property
    def is_coco(self) -> bool:
        return self == BoxFormat()

    def describe(self) -> str:
        """Such as "(x1, y1, x2, y2) normalised to 0..1"."""
        layout = self.layout.value if self.layout else "numbers"
        return f"{layout} normalised to 0..1" if self.normalised else layout

    def to_coco(self, boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """(M, 4) float64 (x, y, width, height) in pixels, of boxes of this format.

        Args:
            boxes: (M, 4) float64.
            sizes: (M, 2) float64 (width, height) in pixels of each object's image.
        """
        if self.normalised:
            boxes = boxes * np.tile(sizes, 2)
        first, second = boxes[:, :2], boxes[:, 2:]
        if self.layout is Layout.CORNERS:
            return np.concatenate([first, second - first], axis=1)
        if self.layout is Layout.CENTRES:
            return np.concatenate([first - second / 2, second], axis=1)
        return boxes


def find_box_format(boxes: np.ndarray, sizes: np.ndarray) -> BoxFormat:
    """The likely format; COCO's unless much speaks for another one. Too few boxes allow no verdict.

    Args:
        boxes: (M, 4) float64.
        sizes: (M, 2) float64 (width, height) in pixels of each object's image, inf where unknown.
    """
    usable = np.isfinite(boxes).all(axis=1)
    boxes, sizes = boxes[usable], sizes[usable]
    if len(boxes) < ENOUGH_BOXES:
        return BoxFormat()
    known = np.isfinite(sizes).all() and (sizes > _SMALLEST_SIDE).all()
    in_unit = (boxes >= 1 - _UNIT).all() and (boxes <= _UNIT).all()
    if known and in_unit and (boxes[:, 2:] > 0).any():
        return BoxFormat(_layout_of_normalised(boxes * np.tile(sizes, 2), sizes), normalised=True)
    corners, centres = (
        _misfits(boxes, sizes, layout) for layout in (Layout.CORNERS, Layout.CENTRES)
    )
    with np.errstate(over="ignore"):
        exceeding = (boxes[:, :2] + boxes[:, 2:] > sizes + TOLERANCE).any(axis=1)
    if exceeding.sum() < ENOUGH_BOXES:
        return BoxFormat()
    if exceeding.mean() > _CORNERS_EXCEEDING and corners.mean() < _MISFITTING:
        return BoxFormat(Layout.CORNERS)
    if (
        exceeding.mean() > _CENTRES_EXCEEDING
        and centres.mean() < _MISFITTING
        and centres.sum() <= _CLEARLY_FEWER * exceeding.sum()
    ):
        return BoxFormat(Layout.CENTRES)
    return BoxFormat()


def _layout_of_normalised(boxes: np.ndarray, sizes: np.ndarray) -> Layout | None:
    """The only layout in which nearly all boxes fit, or None if several do. ``boxes`` are in pixels."""
    misfits = {layout: _misfits(boxes, sizes, layout) for layout in Layout}
    best, second = sorted(misfits, key=lambda layout: misfits[layout].sum())[:2]
    fewest, next_fewest = misfits[best].sum(), misfits[second].sum()
    is_clear = next_fewest >= ENOUGH_BOXES and fewest <= _CLEARLY_FEWER * next_fewest
    return best if is_clear and misfits[best].mean() < _MISFITTING else None


def _misfits(boxes: np.ndarray, sizes: np.ndarray, layout: Layout) -> np.ndarray:
    """(M,) bool: which boxes have no area or leave their images when they are read so."""
    with np.errstate(over="ignore", invalid="ignore"):
        read = BoxFormat(layout).to_coco(boxes, sizes)
        start, extent = read[:, :2], read[:, 2:]
        inside = (start >= -TOLERANCE) & (start + extent <= sizes + TOLERANCE) & (extent > 0)
    return ~inside.all(axis=1)
