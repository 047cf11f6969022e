"""Turns the content of a COCO detection json into columns, and finds what in it cannot be read.

A faulty record becomes a :class:`Problem` that names it: training stops at the first, ``smca-check-dataset`` lists all.
What is read is what training and evaluation read: of images ``id``, ``file_name``, ``width``, ``height``; of
annotations ``image_id``, ``category_id``, ``bbox`` and, where they are there, ``id``, ``iscrowd``, ``ignore``,
``area``; of categories ``id`` and ``name``. Anything else, ``segmentation`` above all, may be anything.

Problems are: records that are no objects; missing fields and fields of a wrong type; images of no size; ids that are
neither whole numbers nor strings; two images or categories of one id; an annotation of an unknown category. No
problem are: ids with gaps; annotations of images that the file does not have, which are left out and counted unless
all are; annotation ids, which nothing needs; the numbers in a box, see ``box_faults`` and ``box_format``. Problems
of which it may be clear what is meant, such as a number written as text, have kinds of their own, see ``coco_repairs``;
what is meant is a :class:`Mend`, which ``--fix`` writes.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from smca.errors import InputError

from . import coco_repairs as repairs
from .coco_fields import (
    Mend,
    Problem,
    Records,
    finite_float,
    flag,
    is_writable,
    show,
    whole_number,
)
from .coco_tables import CocoTables, distinct_names

LISTS = {"image": "images", "annotation": "annotations", "category": "categories"}
"""The json's list of each kind of records."""
UNKNOWN_IMAGE = "annotation of an unknown image"
"""A kind of problem."""
_LARGEST_SIDE = 2**31 - 1


class CocoFile(NamedTuple):
    """What a json, or code that stands for one, says.

    Attributes:
        tables: the records without problems.
        problems: of the others.
        renamed: categories that were given a name of their own, old and new.
        mends: what is meant by fields of the others.
    """

    tables: CocoTables
    problems: list[Problem]
    renamed: list[tuple[str, str]]
    mends: list[Mend]


def refuse_problems(file: CocoFile, label: str, advice: str) -> CocoTables:
    """The columns of a data set without problems.

    Raises:
        InputError: for a record that cannot be used, naming the first one.
    """
    if file.problems:
        count = len(file.problems) - 1
        more = f", and {count} more such records" if count else ""
        raise InputError(
            f"{label}: {file.problems[0].sentence}{more}; smca-check-dataset lists everything that is wrong{advice}"
        )
    return file.tables


def mend_content(content: dict, file: CocoFile, changes: collections.Counter) -> CocoFile:
    """Write into the json's content what is meant by fields, and read it again.

    Args:
        content: that ``file`` was made from; changed in place.
        file: its columns.
        changes: what was done is counted here.
    """
    # What one field means may depend on another.
    while file.mends:
        for part, index, key, value, change in file.mends:
            content[LISTS[part]][index][key] = value
            changes[change] += 1
        file = parse_coco(content)
    return file


def parse_coco(content: dict, origins: Sequence[str] | None = None) -> CocoFile:
    """Columns and problems of what :func:`load_coco_json` returned.

    Args:
        content: the json.
        origins: what to call each annotation in messages; by default its place and id.
    """
    images = Records(content["images"], "image")
    image_ids, file_names, sizes = _read_images(images)
    categories = Records(content["categories"], "category")
    class_ids, names = _read_categories(categories)
    class_names = distinct_names(names, class_ids)
    annotations = Records(content.get("annotations", []), "annotation", origins)
    columns = _read_annotations(
        annotations,
        image_ids,
        class_ids,
        repairs.ids_of_bad(images, image_ids),
        repairs.ids_of_bad(categories, class_ids),
    )
    tables = CocoTables(
        image_ids=image_ids,
        file_names=file_names,
        sizes=sizes,
        class_ids=class_ids,
        class_names=class_names,
        has_annotations="annotations" in content,
        origins=None if origins is None else [origins[i] for i in columns["positions"]],
        **columns,
    )
    parts = (images, categories, annotations)
    return CocoFile(
        tables,
        problems=[problem for records in parts for problem in records.problems],
        renamed=[pair for pair in zip(names, class_names, strict=True) if pair[0] != pair[1]],
        mends=[mend for records in parts for mend in records.mends],
    )


def _read_images(images: Records) -> tuple[list, list[str], np.ndarray]:
    images.read_ids()
    ids = repairs.read_id(images, "id")
    images.reject_repeated(ids)
    names, sizes = read_files(images)
    good = np.flatnonzero(images.good)
    return [ids[i] for i in good], [names[i] for i in good], sizes[good]


def read_files(images: Records, **default: None) -> tuple[list[str], np.ndarray]:
    """File names, and (N, 2) float64 stated (width, height) in pixels.

    Args:
        images: whose problems are told.
        default: None where a size may be missing, which is inf then.
    """
    names = images.read("file_name", {str}, "a file's name", placeholder="")
    images.require("file_name", names, is_writable, "which is no file's name", "")
    sides = []
    for key in ("width", "height"):
        options = {"convert": whole_number, "repair": repairs.WHOLE_NUMBER_AS_TEXT}
        wanted = "a whole number of pixels"
        side = images.read(key, {int}, wanted, **options, placeholder=1, **default)
        side = [np.inf if value is None else value for value in side]
        images.require(key, side, _is_side, "which is no size in pixels", 1)
        sides.append(side)
    return names, np.array(sides, dtype=np.float64).T.reshape(-1, 2)


def _is_side(pixels: float) -> bool:
    return 0 < pixels <= _LARGEST_SIDE or pixels == np.inf


def _read_categories(categories: Records) -> tuple[list, list[str]]:
    """Sorted by id, as Detectron2 does."""
    categories.read_ids()
    ids = repairs.read_id(categories, "id")
    categories.reject_repeated(ids)
    names = categories.read("name", {str}, "text", repair=repairs.NUMBER_AS_NAME, placeholder="")
    categories.require("name", names, _is_class_name, "which names no class", "")
    good = sorted(np.flatnonzero(categories.good), key=lambda i: ids[i])
    return [ids[i] for i in good], [names[i] for i in good]


def _is_class_name(text: str) -> bool:
    return is_writable(text) and not text.isspace()


def _read_annotations(
    annotations: Records, image_ids: list, class_ids: list, bad_image_ids: set, bad_class_ids: set
) -> dict:
    """Annotations of a bad image or category cannot be used, which is no fault of their own."""
    ids = annotations.read_ids()
    image_of = repairs.read_id(annotations, "image_id", like=image_ids, unusable=bad_image_ids)
    class_of = repairs.read_id(annotations, "category_id", like=class_ids, unusable=bad_class_ids)
    numbers = {class_id: index for index, class_id in enumerate(class_ids)}
    class_index = np.array([numbers.get(c, -1) for c in class_of], dtype=np.int64)
    of_bad_class = np.array([c in bad_class_ids for c in class_of], dtype=bool)
    for index in np.flatnonzero((class_index < 0) & ~of_bad_class):
        known = ", ".join(map(show, class_ids[:5])) + (", ..." if len(class_ids) > 5 else "")
        annotations.reject(
            index,
            f"has category_id {show(class_of[index])}, which the file's categories do not have ({known})",
            "unknown category",
        )
    boxes = read_boxes(annotations, class_of)
    is_crowd = read_crowds(annotations)
    areas = read_areas(annotations, boxes)

    numbers = {image_id: index for index, image_id in enumerate(image_ids)}
    image_index = np.array([numbers.get(i, -1) for i in image_of], dtype=np.int64)
    of_bad_image = np.array([i in bad_image_ids for i in image_of], dtype=bool)
    usable = annotations.good & ~of_bad_class & ~of_bad_image
    unknown = usable & (image_index < 0)
    good = np.flatnonzero(usable & (image_index >= 0))
    if image_ids and unknown.any() and not good.size:
        first = int(np.flatnonzero(unknown)[0])
        annotations.reject(
            first,
            f"has image_id {show(image_of[first])}, and no annotation belongs to an image of the file "
            f"(ids such as {show(image_ids[0])})",
            UNKNOWN_IMAGE,
        )
    return dict(
        annotation_ids=[ids[i] for i in good],
        positions=good,
        image_index=image_index[good],
        class_index=class_index[good],
        boxes=boxes[good],
        areas=areas[good],
        is_crowd=is_crowd[good],
        of_unknown_images=int(unknown.sum()),
        unknown_image_examples=tuple(
            f"{annotations.name(i)} has image_id {show(image_of[i])}"
            for i in np.flatnonzero(unknown)[:20]
        ),
        from_json=True,
    )


def read_crowds(annotations: Records) -> np.ndarray:
    """(M,) bool: whether one of the two flags is set."""
    is_crowd = np.zeros(len(annotations), dtype=bool)
    for key in ("iscrowd", "ignore"):
        options = {"convert": flag, "repair": repairs.FLAG_AS_TEXT, "placeholder": 0}
        flags = annotations.read(key, {int}, "0 or 1", **options, default=0)
        annotations.require(key, flags, (0, 1).__contains__, "which must be 0 or 1", 0)
        is_crowd |= np.array(flags, dtype=bool)
    return is_crowd


def read_boxes(annotations: Records, class_of: Sequence) -> np.ndarray:
    """(M, 4) float64 as they are, NaN where the record is bad; class_of are the category ids."""
    for index in annotations.without("bbox"):
        repair = repairs.BOX_IN_SEGMENTATION
        box = repair.meant(annotations.field(index, "segmentation"))
        if box is not None:
            said = "has no bbox, but a segmentation that gives one"
            annotations.reject(index, said, repair.kind)
            annotations.mend(index, "bbox", box, repair.change)
    raw = annotations.read("bbox", {list}, "a list of four numbers", placeholder=[np.nan] * 4)
    if not set(map(len, raw)) <= {4} or not _are_numbers(raw):
        _reject_boxes(annotations, raw, class_of)
    try:
        return np.array(raw, dtype=np.float64).reshape(-1, 4)
    except OverflowError:
        return np.array([[finite_float(v) for v in box] for box in raw]).reshape(-1, 4)


def _reject_boxes(annotations: Records, raw: list[list], class_of: Sequence) -> None:
    """Those that are no four numbers become NaN, in place."""
    repair_of = {4: repairs.BOX_AS_TEXT, 5: repairs.FIVE_NUMBERS}
    five = {}
    for index, box in enumerate(raw):
        if len(box) == 4 and _are_numbers([box]):
            continue
        repair = repair_of.get(len(box))
        meant = repair and repair.meant(box)
        said = f"has bbox {show(box)}, which is no list of four numbers"
        annotations.reject(index, said, repair.kind if meant else None)
        if meant and len(meant) == 5:
            five[index] = meant
        elif meant:
            annotations.mend(index, "bbox", meant, repair.change)
        raw[index] = [np.nan] * 4
    chosen = repairs.four_of_five(five, class_of)
    for index, box in five.items() if chosen else ():
        annotations.mend(index, "bbox", box[chosen], repairs.FIVE_NUMBERS.change)


def _are_numbers(lists: list[list]) -> bool:
    return set(map(type, itertools.chain.from_iterable(lists))) <= {int, float}


def read_areas(annotations: Records, boxes: np.ndarray) -> np.ndarray:
    """COCO's area is that of the mask; without a usable one it is the box's."""
    with np.errstate(over="ignore", invalid="ignore"):
        own = boxes[:, 2] * boxes[:, 3]
    raw = annotations.read(
        "area", {int, float}, "a number", convert=lambda _: np.nan, default=np.nan
    )
    given = np.array([finite_float(v) for v in raw], dtype=np.float64)
    return np.where(np.isfinite(given) & (given >= 0), given, own)
