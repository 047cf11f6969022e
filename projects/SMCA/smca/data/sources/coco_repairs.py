"""What a field of a COCO json means that is written in another way than COCO's.

Training refuses such a file and names the record; ``smca-check-dataset --fix`` writes what is meant. Every function
raises InputError where the meaning is not clear.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask

from smca.errors import InputError

from .coco_fields import Records, Repair, finite_float, flag, show, whole_number

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
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def name_from_number(value: Any) -> str:
    """ "7" of 7 and 7.0: a class whose name is a digit."""
    return str(whole_number(value))


def id_of_type(value: Any, wanted: type) -> int | str:
    """An id as a number or as text, whichever of the two ``wanted`` is."""
    if wanted is str:
        return value if isinstance(value, str) else name_from_number(value)
    return whole_number(number_from_text(value))


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


def four_of_five(boxes: Mapping[int, Sequence], classes: Sequence) -> slice | None:
    """Where in boxes of five numbers the four are; None where that is not clear.

    It is if all begin with their category, as YOLO's lines do, or all end in an angle or score of zero.

    Args:
        boxes: by the place of the annotation.
        classes: category ids of all annotations.
    """
    if all(box[0] == classes[index] for index, box in boxes.items()):
        return slice(1, 5)
    if all(box[4] == 0 for box in boxes.values()):
        return slice(0, 4)
    return None


WHOLE_NUMBER_AS_TEXT = Repair(
    "number written as text",
    lambda value: whole_number(number_from_text(value)),
    "numbers written as text, converted",
)
FLAG_AS_TEXT = WHOLE_NUMBER_AS_TEXT._replace(meaning=lambda value: flag(number_from_text(value)))
BOX_AS_TEXT = Repair(
    WHOLE_NUMBER_AS_TEXT.kind, box_from_text, "numbers of boxes written as text, converted"
)
NUMBER_AS_NAME = Repair(
    "category name that is a number", name_from_number, "category names written as text, converted"
)
BOX_IN_SEGMENTATION = Repair(
    "segmentation without box", box_from_segmentation, "boxes taken from the segmentation"
)
FIVE_NUMBERS = Repair(
    "box of five numbers", box_from_text, "boxes of five numbers, of which four are the box"
)
NUMBER_AS_ID = Repair(
    "id of another type", lambda value: id_of_type(value, int), "ids of another type, converted"
)
TEXT_AS_ID = NUMBER_AS_ID._replace(meaning=lambda value: id_of_type(value, str))


def read_id(
    records: Records, key: str, like: list | None = None, unusable: Collection = ()
) -> list:
    """One id per record: all of them are numbers, or all are strings.

    Args:
        records: whose problems and mends are told.
        key: the field.
        like, unusable: ids of good and of bad records that they refer to.
    """
    ids = records.read(key, {int, str}, "a whole number", convert=whole_number)
    counts = Counter(map(type, like if like else ids))
    if not counts:
        return ids
    usual = str if counts[str] > counts[int] else int
    if set(map(type, ids)) <= {usual}:
        return ids
    example = next((i for i in (like or ids) if type(i) is usual), None)
    repair = TEXT_AS_ID if usual is str else NUMBER_AS_ID
    taken, known = set(ids), {*(like or ()), *unusable}
    for index, value in enumerate(ids):
        if type(value) is not usual:
            meant = repair.meant(value)
            is_clear = meant is not None and (meant in known if known else meant not in taken)
            said = f"has {key} {show(value)}, where others are such as {show(example)}"
            records.reject(index, said, repair.kind if is_clear else None)
            if is_clear:
                ids[index] = meant
                records.mend(index, key, meant, repair.change)
    return ids


def ids_of_bad(records: Records, good_ids: list) -> set:
    """Ids that no good record has, as number and as text: one that is written as text may be meant as a number."""
    values = [records.field(index, "id") for index in np.flatnonzero(~records.good)]
    ids = {r.meant(v) for v in values for r in (NUMBER_AS_ID, TEXT_AS_ID)}
    return ids.difference(good_ids, [None])
