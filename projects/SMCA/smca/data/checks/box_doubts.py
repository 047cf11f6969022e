"""What makes one doubt that boxes are (x, y, width, height) in pixels, although each of them alone could be."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .coco_faults import BoxFaults

# COCO itself has objects of a pixel, but hardly any.
_MANY_TINY = 0.02
_MOST = 0.5
_ENOUGH_BOXES = 3


class BoxDoubt(NamedTuple):
    """
    Attributes:
        kind: short name.
        mask: (M,) bool, the boxes.
        sentence: how many they are, and what may be the reason.
    """

    kind: str
    mask: np.ndarray
    sentence: str


def find_box_doubts(boxes: np.ndarray, faults: BoxFaults, counted: np.ndarray) -> list[BoxDoubt]:
    """
    Args:
        boxes: (M, 4) float64 (x, y, width, height), of a data set that looks like COCO's as a whole.
        faults: of the boxes.
        counted: (M,) bool, without crowds.
    """
    total = int(counted.sum())
    if total < _ENOUGH_BOXES:
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
