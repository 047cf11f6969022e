"""Turns the content of a COCO detection json into columns, and finds what in it cannot be read.

A faulty record becomes a :class:`Problem` that names it:
training stops at the first, ``smca-check-dataset`` lists all. What is read is what training and evaluation read:
of images ``id``, ``file_name``, ``width``, ``height``; of annotations ``image_id``, ``category_id``, ``bbox`` and,
where they are there, ``id``, ``iscrowd``, ``ignore``, ``area``; of categories ``id`` and ``name``. Anything else,
``segmentation`` above all, is not looked at and may be anything.

Problems are: records that are no objects; missing fields and fields of a wrong type; images of no size; ids that are
neither whole numbers nor strings; two images or categories of one id; an annotation of an unknown category. No
problem are: ids with gaps; annotations of images that the file does not have, which are left out and counted unless
all are; annotation ids, which nothing needs; the numbers in a box, see ``coco_faults`` and ``box_format``. Problems
of which it is clear what is meant, such as a number written as text, have kinds of their own: see ``coco_repairs``.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from smca.data.checks import coco_repairs as repairs

from .coco_fields import (
    Problem,
    Records,
    finite_float,
    flag,
    is_writable,
    kind_of_repair,
    show,
    whole_number,
)
from .coco_tables import CocoTables

_LARGEST_SIDE = 2**31 - 1
_AS_TEXT = (repairs.NUMBER_AS_TEXT, repairs.number_from_text)


class CocoFile(NamedTuple):
    """
    Attributes:
        tables: the records without problems.
        problems: of the others.
        renamed: categories that were given a name of their own, old and new.
    """

    tables: CocoTables
    problems: list[Problem]
    renamed: list[tuple[str, str]]


def parse_coco(content: dict) -> CocoFile:
    """Columns and problems of what :func:`load_coco_json` returned."""
    images = Records(content["images"], "image")
    image_ids, file_names, sizes = _read_images(images)
    categories = Records(content["categories"], "category")
    class_ids, names = _read_categories(categories)
    class_names = distinct_names(names, class_ids)
    annotations = Records(content.get("annotations", []), "annotation")
    columns = _read_annotations(
        annotations,
        image_ids,
        class_ids,
        _ids_of_bad(images, image_ids),
        _ids_of_bad(categories, class_ids),
    )
    tables = CocoTables(
        image_ids=image_ids,
        file_names=file_names,
        sizes=sizes,
        class_ids=class_ids,
        class_names=class_names,
        has_annotations="annotations" in content,
        **columns,
    )
    problems = [*images.problems, *categories.problems, *annotations.problems]
    renamed = [pair for pair in zip(names, class_names, strict=True) if pair[0] != pair[1]]
    return CocoFile(tables, problems, renamed)


def _read_images(images: Records) -> tuple[list, list[str], np.ndarray]:
    images.read_ids()
    ids = _read_id(images, "id")
    _reject_repeated(images, ids)
    names = images.read("file_name", {str}, "a file's name", placeholder="")
    sides = []
    for key in ("width", "height"):
        side = images.read(
            key,
            {int},
            "a whole number of pixels",
            convert=whole_number,
            repair=_AS_TEXT,
            placeholder=1,
        )
        if not 0 < min(side) <= max(side) <= _LARGEST_SIDE:
            for index, value in enumerate(side):
                if not 0 < value <= _LARGEST_SIDE:
                    images.reject(index, f"has {key} {show(value)}, which is no size in pixels")
                    side[index] = 1
        sides.append(side)
    for index, name in enumerate(names):
        if not (name and is_writable(name)):
            images.reject(index, f"has file_name {show(name)}, which is no file's name")
    good = np.flatnonzero(images.good)
    sizes = np.array(sides, dtype=np.float64).T.reshape(-1, 2)[good]
    return [ids[i] for i in good], [names[i] for i in good], sizes


def _read_categories(categories: Records) -> tuple[list, list[str]]:
    """Sorted by id, as Detectron2 does."""
    categories.read_ids()
    ids = _read_id(categories, "id")
    _reject_repeated(categories, ids)
    repair = (repairs.NUMBER_AS_NAME, repairs.name_from_number)
    names = categories.read("name", {str}, "text", repair=repair, placeholder="")
    for index, name in enumerate(names):
        if not (name.strip() and is_writable(name)):
            categories.reject(index, f"has name {show(name)}, which names no class")
    good = sorted(np.flatnonzero(categories.good), key=lambda i: ids[i])
    return [ids[i] for i in good], [names[i] for i in good]


def distinct_names(names: Sequence[str], ids: Sequence) -> list[str]:
    """Of two categories of one name the last keeps it: exporters write a placeholder before the real class."""
    last = {name: index for index, name in enumerate(names)}
    return [
        name if last[name] == index else f"{name} (id {ids[index]})"
        for index, name in enumerate(names)
    ]


def _ids_of_bad(records: Records, good_ids: list) -> set:
    """Ids that no good record has, as number and as text: one that is written as text may be meant as a number."""
    ids: set = set()
    for index in np.flatnonzero(~records.good):
        value = records.field(index, "id")
        for wanted in (int, str):
            with contextlib.suppress(ValueError):
                ids.add(repairs.id_of_type(value, wanted))
    return ids.difference(good_ids)


def _read_annotations(
    annotations: Records, image_ids: list, class_ids: list, bad_image_ids: set, bad_class_ids: set
) -> dict:
    """Annotations of a bad image or category cannot be used, which is no fault of their own."""
    ids = annotations.read_ids()
    image_of = _read_id(annotations, "image_id", like=image_ids, unusable=bad_image_ids)
    class_of = _read_id(annotations, "category_id", like=class_ids, unusable=bad_class_ids)
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
    boxes = _read_boxes(annotations)
    is_crowd = np.zeros(len(annotations), dtype=bool)
    for key in ("iscrowd", "ignore"):
        flags = annotations.read(
            key, {int}, "0 or 1", convert=flag, repair=_AS_TEXT, default=0, placeholder=0
        )
        if not set(flags) <= {0, 1}:
            for index, value in enumerate(flags):
                if value not in (0, 1):
                    annotations.reject(index, f"has {key} {show(value)}, which must be 0 or 1")
        is_crowd |= np.array(flags, dtype=object).astype(bool)
    areas = _read_areas(annotations, boxes)

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
            "unknown image",
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


def _read_id(
    records: Records, key: str, like: list | None = None, unusable: Collection = ()
) -> list:
    """Ids are all numbers or all strings, ``like`` those that they refer to, or ``unusable`` ones."""
    ids = records.read(key, {int, str}, "a whole number", convert=whole_number)
    counts = collections.Counter(map(type, like if like else ids))
    if not counts:
        return ids
    usual = str if counts[str] > counts[int] else int
    if set(map(type, ids)) <= {usual}:
        return ids
    example = next((i for i in (like or ids) if type(i) is usual), None)
    known = {*(like or ()), *unusable}
    for index, value in enumerate(ids):
        if type(value) is not usual:
            said = f"has {key} {show(value)}, where others are such as {show(example)}"
            records.reject(index, said, _kind_of_id(value, usual, known))
    return ids


def _kind_of_id(value, usual: type, known: set) -> str | None:
    try:
        meant = repairs.id_of_type(value, usual)
    except ValueError:
        return None
    return repairs.ID_OF_ANOTHER_TYPE if not known or meant in known else None


def _reject_repeated(records: Records, ids: list) -> None:
    if len(set(ids)) == len(ids):
        return
    first: dict = {}
    for index, value in enumerate(ids):
        if value is not None and first.setdefault(value, index) != index:
            records.reject(
                index,
                f"has the id of {records.kind} {first[value]}",
                f"duplicate {records.kind} id",
            )


def _read_boxes(annotations: Records) -> np.ndarray:
    """(M, 4) float64; NaN where the record is bad."""
    for index in range(len(annotations)):
        if not annotations.field(index, "bbox"):
            _look_into_segmentation(annotations, index)
    raw = annotations.read("bbox", {list}, "a list of four numbers", placeholder=[np.nan] * 4)
    if not set(map(len, raw)) <= {4} or not _are_numbers(raw):
        for index, box in enumerate(raw):
            if len(box) != 4 or not _are_numbers([box]):
                said = f"has bbox {show(box)}, which is no list of four numbers"
                annotations.reject(index, said, _kind_of_box(box))
                raw[index] = [np.nan] * 4
    try:
        return np.array(raw, dtype=np.float64).reshape(-1, 4)
    except OverflowError:
        return np.array([[finite_float(v) for v in box] for box in raw]).reshape(-1, 4)


def _look_into_segmentation(annotations: Records, index: int) -> None:
    segmentation = annotations.field(index, "segmentation")
    kind = kind_of_repair(segmentation, repairs.BOX_IN_SEGMENTATION, repairs.box_from_segmentation)
    if kind is not None:
        annotations.reject(index, "has no bbox, but a segmentation that gives one", kind)


def _kind_of_box(box: list) -> str | None:
    if len(box) == 5:
        return kind_of_repair(box, repairs.FIVE_NUMBERS, repairs.box_from_text)
    if len(box) == 4:
        return kind_of_repair(box, repairs.NUMBER_AS_TEXT, repairs.box_from_text)
    return None


def _are_numbers(lists: list[list]) -> bool:
    types: set[type] = set()
    for values in lists:
        types.update(map(type, values))
    return types <= {int, float}


def _read_areas(annotations: Records, boxes: np.ndarray) -> np.ndarray:
    """COCO's area is that of the mask; without a usable one it is the box's."""
    with np.errstate(over="ignore", invalid="ignore"):
        own = boxes[:, 2] * boxes[:, 3]
    raw = annotations.read(
        "area", {int, float}, "a number", convert=lambda value: np.nan, default=np.nan
    )
    given = np.array([finite_float(v) for v in raw], dtype=np.float64)
    return np.where(np.isfinite(given) & (given >= 0), given, own)
