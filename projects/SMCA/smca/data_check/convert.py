"""Writes fields of a COCO json as COCO writes them, where it is clear what is meant: see ``coco_repairs``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from smca.data.checks import coco_repairs as repairs


def convert_records(content: dict, changes: Counter) -> None:
    """In place; whatever cannot be converted stays for others to leave out.

    Args:
        content: a COCO json with its three lists.
        changes: what was done is counted here.
    """
    images, categories, annotations = (
        [record for record in content[key] if isinstance(record, dict)]
        for key in ("images", "categories", "annotations")
    )
    for record in images:
        for key in ("width", "height"):
            _convert(record, key, repairs.number_from_text, "numbers written as text", changes)
    for record in categories:
        _convert(
            record, "name", repairs.name_from_number, "category names written as text", changes
        )
    for record in annotations:
        for key in ("iscrowd", "ignore"):
            _convert(record, key, repairs.number_from_text, "numbers written as text", changes)
    _convert_ids(images, annotations, "image_id", changes)
    _convert_ids(categories, annotations, "category_id", changes)
    _convert_boxes(annotations, changes)


def _convert(
    record: dict, key: str, repair: Callable[[Any], Any], what: str, changes: Counter
) -> None:
    value = record.get(key)
    try:
        meant = repair(value)
    except ValueError:
        return
    if type(meant) is not type(value):
        record[key] = meant
        changes[_WRITTEN.format(what)] += 1


_WRITTEN = "{}, converted"


def _convert_ids(owners: list[dict], annotations: list[dict], key: str, changes: Counter) -> None:
    """All of the type that most of the images or categories have, and of annotations those that are one of theirs."""
    counts = Counter(type(owner.get("id")) for owner in owners)
    wanted = str if counts[str] > counts[int] else int
    known = {owner["id"] for owner in owners if type(owner.get("id")) is wanted}
    for owner in owners:
        meant = _id_or_none(owner.get("id"), wanted)
        if type(owner.get("id")) is not wanted and meant is not None and meant not in known:
            owner["id"] = meant
            known.add(meant)
            changes[_WRITTEN.format("ids of another type")] += 1
    for annotation in annotations:
        value = annotation.get(key)
        meant = _id_or_none(value, wanted)
        if type(value) in (int, str) and type(value) is not wanted and meant in known:
            annotation[key] = meant
            changes[_WRITTEN.format("ids of another type")] += 1


def _id_or_none(value: Any, wanted: type) -> int | str | None:
    try:
        return repairs.id_of_type(value, wanted)
    except ValueError:
        return None


def _convert_boxes(annotations: list[dict], changes: Counter) -> None:
    five = []
    for annotation in annotations:
        box = annotation.get("bbox")
        try:
            if not box:
                annotation["bbox"] = repairs.box_from_segmentation(annotation.get("segmentation"))
                changes["boxes taken from the segmentation"] += 1
                continue
            numbers = repairs.box_from_text(box)
        except ValueError:
            continue
        if numbers != box:
            annotation["bbox"] = numbers
            changes[_WRITTEN.format("numbers of boxes written as text")] += 1
        if len(numbers) == 5:
            five.append(annotation)
    chosen = _four_of_five(five)
    for annotation in five if chosen else ():
        annotation["bbox"] = annotation["bbox"][chosen]
        changes["boxes of five numbers, of which four are the box"] += 1


def _four_of_five(annotations: list[dict]) -> slice | None:
    """Clear if all begin with their category, as YOLO's lines do, or all end in an angle or score of zero."""
    if not annotations:
        return None
    if all(a["bbox"][0] == a.get("category_id") for a in annotations):
        return slice(1, 5)
    if all(a["bbox"][4] == 0 for a in annotations):
        return slice(0, 4)
    return None
