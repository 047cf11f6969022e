"""What a field of a COCO json means that is written in another way than COCO's.

Training refuses such a file and names the record; ``smca-check-dataset --fix`` writes what is meant. Every function
raises ValueError where the meaning is not clear.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from pycocotools import mask

from smca.data.sources.coco_fields import finite_float
from smca.errors import InputError

NUMBER_AS_TEXT = "number written as text"
ID_OF_ANOTHER_TYPE = "id of another type"
NUMBER_AS_NAME = "category name that is a number"
FIVE_NUMBERS = "box of five numbers"
BOX_IN_SEGMENTATION = "segmentation without box"
REPAIRS = (
    NUMBER_AS_TEXT,
    ID_OF_ANOTHER_TYPE,
    NUMBER_AS_NAME,
    FIVE_NUMBERS,
    BOX_IN_SEGMENTATION,
)
"""Kinds of problems, see ``coco_records``."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LONGEST_NUMBER = 30
# Five bits a character, 'P' to 'o' where more follow. pycocotools reads on past the end of a text that stops at one.
_RUNS = re.compile(r"([P-o]{0,6}[0-O])+", re.ASCII)
_MOST_PIXELS = 2**32


def number_from_text(value: Any) -> int | float:
    """Of text such as "7" or " 12.5 ", and of numbers themselves."""
    if type(value) in (int, float):
        return value
    if not isinstance(value, str) or len(value) > _LONGEST_NUMBER:
        raise InputError(value)
    text = value.strip()
    if not _NUMBER.fullmatch(text):
        raise InputError(value)
    number = float(text)
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else number


def name_from_number(value: Any) -> str:
    """ "7" of 7 and 7.0: a class whose name is a digit."""
    if type(value) is int or (type(value) is float and value.is_integer()):
        return str(int(value))
    raise InputError(value)


def id_of_type(value: Any, wanted: type) -> int | str:
    """An id as a number or as text, whichever of the two ``wanted`` is."""
    if wanted is str:
        return value if isinstance(value, str) else name_from_number(value)
    number = number_from_text(value)
    if isinstance(number, float) and not number.is_integer():
        raise InputError(value)
    return int(number)


def box_from_text(value: Any) -> list[int | float]:
    """A list of numbers, some of them text."""
    if not isinstance(value, list):
        raise InputError(value)
    return [number_from_text(v) for v in value]


def box_from_segmentation(segmentation: Any) -> list[float]:
    """(x, y, width, height) in pixels around COCO's polygons or run lengths."""
    if isinstance(segmentation, dict):
        return _box_of_runs(segmentation)
    if not isinstance(segmentation, list):
        raise InputError(segmentation)
    points = []
    for polygon in (
        segmentation if segmentation and isinstance(segmentation[0], list) else [segmentation]
    ):
        numbers = box_from_text(polygon)
        if len(numbers) < 6 or len(numbers) % 2:
            raise InputError(polygon)
        points += zip(*[iter(map(finite_float, numbers))] * 2, strict=True)
    corners = np.array(points, dtype=np.float64)
    if not np.isfinite(corners).all():
        raise InputError(segmentation)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


def _box_of_runs(segmentation: dict) -> list[float]:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    # pycocotools divides by the height without looking, and counts in 32 bits.
    if not (
        isinstance(size, list)
        and len(size) == 2
        and all(type(side) is int and side > 0 for side in size)
        and size[0] * size[1] < _MOST_PIXELS
    ):
        raise InputError(segmentation)
    if isinstance(counts, list):
        if not all(type(c) is int and c >= 0 for c in counts) or sum(counts) > size[0] * size[1]:
            raise InputError(segmentation)
        counts = mask.frPyObjects({"size": size, "counts": counts}, *size)["counts"]
    elif not isinstance(counts, str) or not _RUNS.fullmatch(counts):
        raise InputError(segmentation)
    x, y, width, height = mask.toBbox({"size": size, "counts": counts}).tolist()
    if not (0 < width <= size[1] - x and 0 < height <= size[0] - y):
        raise InputError(segmentation)
    return [x, y, width, height]
