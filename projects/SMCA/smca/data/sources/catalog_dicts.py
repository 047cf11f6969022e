"""Checks what a data set registered by the user's own code returns: Detectron2's standard dataset dicts."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from smca.errors import InputError

from .coco_fields import is_writable, show
from .coco_tables import CocoTables

_MODES = (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)


def tables_from_dicts(
    dicts: Sequence[dict], *, name: str, class_names: Sequence[str] | None, id_map: dict | None
) -> CocoTables:
    """
    Args:
        dicts: one per image. "file_name" is needed; "image_id" counts from 0, "height" and "width" are unknown and
            "annotations" are none where they are not given. An annotation has "bbox", "bbox_mode" (XYXY_ABS or
            XYWH_ABS), "category_id" counting from 0, and may have "iscrowd" and "area".
        name: of the data set.
        class_names: the metadata's thing_classes; without them classes are called by their numbers.
        id_map: the metadata's thing_dataset_id_to_contiguous_id, if there is one.

    Raises:
        InputError: for an image or annotation that cannot be used, naming it.
    """
    if not len(dicts):
        raise InputError(f"data set {name!r} has no images")
    image_ids, objects = [], []
    for index, record in enumerate(dicts):
        where = f"data set {name!r}: image {index}"
        if not isinstance(record, dict):
            raise InputError(f"{where} is {show(record)} instead of a dict")
        image_ids.append(record.get("image_id", index))
        _check_image(record, where)
        for number, annotation in enumerate(record.get("annotations") or ()):
            place = f"{where} ({record['file_name']}), annotation {number}"
            objects.append((index, *_read_annotation(annotation, place)))
    _check_ids(image_ids, name)
    classes = [label for _, label, _, _, _ in objects]
    names = (
        list(class_names) if class_names else [str(k) for k in range(max(classes, default=0) + 1)]
    )
    if classes and max(classes) >= len(names):
        raise InputError(
            f"data set {name!r} has an object of category_id {max(classes)}, but thing_classes in its metadata names "
            f"{len(names)} classes (0 to {len(names) - 1})"
        )
    ids = {index: class_id for class_id, index in (id_map or {}).items()}
    boxes = np.array([box for _, _, box, _, _ in objects], dtype=np.float64).reshape(-1, 4)
    areas = np.array([area for *_, area in objects], dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        own = boxes[:, 2] * boxes[:, 3]
    return CocoTables(
        image_ids=image_ids,
        file_names=[str(record["file_name"]) for record in dicts],
        sizes=np.array(
            [[record.get(k) or np.inf for k in ("width", "height")] for record in dicts],
            dtype=np.float64,
        ).reshape(-1, 2),
        class_ids=[ids.get(k, None if ids else k) for k in range(len(names))],
        class_names=names,
        annotation_ids=[None] * len(objects),
        positions=np.arange(len(objects)),
        image_index=np.array([index for index, *_ in objects], dtype=np.int64),
        class_index=np.array(classes, dtype=np.int64),
        boxes=boxes,
        areas=np.where(np.isfinite(areas) & (areas >= 0), areas, own),
        is_crowd=np.array([crowd for *_, crowd, _ in objects], dtype=bool),
        has_annotations=any("annotations" in record for record in dicts),
    )


def usable_dicts(
    dicts: Sequence[dict], tables: CocoTables, keep: np.ndarray, boxes: np.ndarray
) -> list[dict]:
    """Copies without the objects that are not to be kept, everything else as it was.

    Args:
        dicts: what ``tables`` was made from.
        keep: (M,) bool.
        boxes: (M, 4) float64 (x, y, width, height), cut at the image's edges.
    """
    changed = (boxes != tables.boxes).any(axis=1)
    records, number = [], 0
    for image_id, record in zip(tables.image_ids, dicts, strict=True):
        annotations = []
        for annotation in record.get("annotations") or ():
            if keep[number]:
                annotation = {**annotation, "category_id": int(annotation["category_id"])}
                if changed[number]:
                    annotation.update(bbox=boxes[number].tolist(), bbox_mode=BoxMode.XYWH_ABS)
                annotations.append(annotation)
            number += 1
        records.append({**record, "image_id": image_id, "annotations": annotations})
    return records


def _check_image(record: dict, where: str) -> None:
    path = record.get("file_name")
    if not isinstance(path, str) or not path or not is_writable(path):
        raise InputError(f"{where} has file_name {show(path)}, which is no file's name")
    for key in ("width", "height"):
        side = record.get(key)
        if side is not None and not (_is_whole(side) and side > 0):
            raise InputError(f"{where} ({path}) has {key} {show(side)}, which is no size in pixels")
    if not isinstance(record.get("annotations") or (), list | tuple):
        raise InputError(f"{where} ({path}) has annotations that are no list")


def _read_annotation(annotation: Any, place: str) -> tuple[int, list[float], bool, float]:
    """Class, box as (x, y, width, height), whether it is a crowd, area or NaN."""
    if not isinstance(annotation, dict):
        raise InputError(f"{place} is {show(annotation)} instead of a dict")
    label, crowd = annotation.get("category_id"), annotation.get("iscrowd", 0)
    if not _is_whole(label) or label < 0:
        raise InputError(f"{place} has category_id {show(label)}, which must be 0 or more")
    if crowd not in (0, 1):
        raise InputError(f"{place} has iscrowd {show(crowd)}, which must be 0 or 1")
    box, mode = annotation.get("bbox"), annotation.get("bbox_mode")
    try:
        box = [float(v) for v in box]
    except (TypeError, ValueError, OverflowError):
        box = []
    if len(box) != 4:
        raise InputError(
            f"{place} has bbox {show(annotation.get('bbox'))}, which is no list of four numbers"
        )
    if mode not in _MODES:
        raise InputError(
            f"{place} has bbox_mode {show(mode)}, which must be BoxMode.XYXY_ABS or BoxMode.XYWH_ABS"
        )
    if mode == BoxMode.XYXY_ABS:
        box = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    area = annotation.get("area")
    usable = isinstance(area, numbers.Real) and not isinstance(area, bool)
    return int(label), box, bool(crowd), float(area) if usable else np.nan


def _check_ids(image_ids: list, name: str) -> None:
    try:
        repeated = len(set(image_ids)) < len(image_ids)
    except TypeError as error:
        raise InputError(
            f"data set {name!r} has an image_id that is neither number nor text"
        ) from error
    if repeated:
        seen: set = set()
        twice = next(i for i in image_ids if i in seen or seen.add(i))
        raise InputError(f"data set {name!r} has two images with image_id {show(twice)}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
