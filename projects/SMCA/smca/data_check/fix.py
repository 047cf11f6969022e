"""Writes a corrected copy of a COCO json; the original stays as it is."""

from __future__ import annotations

import json
import os
from collections import Counter

import numpy as np

from smca.data.checks.box_format import find_box_format
from smca.data.checks.coco_faults import clip_boxes, find_box_faults
from smca.data.sources.coco_json import load_coco_json
from smca.data.sources.coco_records import parse_coco
from smca.data.sources.coco_tables import CocoTables
from smca.data.sources.prepared_dataset import same_aspect
from smca.errors import InputError
from smca.whole_file import replacing

from .check import CheckReport
from .convert import convert_records
from .findings import is_id, repeated_ids
from .image_check import DENIED, ImageState


def fix_dataset(report: CheckReport, target: str, *, overwrite: bool = False) -> list[str]:
    """Write what ``report`` is about to ``target``, with the faults mended that can be.

    Args:
        report: of a data set that is a json.
        target: the new file.
        overwrite: whether it may exist.

    Returns:
        What was changed, one phrase each; empty if nothing was.

    Raises:
        InputError: if there is no json to fix, or ``target`` is the original, exists or would hold no image or
            category, or have no annotation left but crowds, or images may not be read.
    """
    check_target(report.json_file, target, overwrite=overwrite, name=report.name)
    denied = sum(state.is_denied for state in report.states)
    if denied:
        raise InputError(
            f"{denied} image files may not be read ({DENIED}), and nothing is known of them, so {target} was not "
            "written; get the permission, or use --no-images"
        )
    content = load_coco_json(report.json_file, label=report.json_file, keep_segmentation=True)
    content.setdefault("annotations", [])
    annotations = len(content["annotations"])
    changes: Counter[str] = Counter()
    convert_records(content, changes)
    _drop_bad_records(content, changes)
    _rewrite_boxes(content, changes, label=report.json_file)
    if report.states:
        _mend_images(content, _states_by_name(report), changes)
    _mend_boxes(content, changes)
    _mend_ids(content, changes)
    for key, one in (("images", "image"), ("categories", "category")):
        if not content[key]:
            raise InputError(
                f"{report.json_file}: no {one} would be left, so {target} was not written"
            )
    crowds = [a.get("iscrowd") or a.get("ignore") for a in content["annotations"]]
    if not annotations:
        raise InputError(
            f"{report.json_file} has no annotations, so there is no object to learn from, and {target} was not written"
        )
    if all(crowds):
        told = ", ".join(f"{count} {what}" for what, count in changes.items()) or "only crowds"
        raise InputError(
            f"{report.json_file}: none of its {annotations} annotations would be left to learn from ({told}), so "
            f"{target} was not written; correct what is said above by hand"
        )
    _write_json(content, target)
    return [f"{count} {what}" for what, count in changes.items()]


def check_target(json_file: str | None, target: str, *, overwrite: bool, name: str) -> None:
    """
    Args:
        json_file: that is checked.
        target: the new file.
        overwrite: whether it may exist.
        name: of the data set.

    Raises:
        InputError: if ``target`` may not be written.
    """
    if json_file is None:
        raise InputError(f"{name} is made by code, so there is no json to fix; correct the code")
    if os.path.exists(target):
        if os.path.samefile(target, json_file):
            raise InputError(
                f"{target} is the file that was checked; give --fix the name of a new one"
            )
        if not overwrite:
            raise InputError(f"{target} exists already; --force overwrites it")


def _drop_bad_records(content: dict, changes: Counter) -> None:
    file = parse_coco(content)
    lists = {"image": "images", "annotation": "annotations", "category": "categories"}
    for part, key in lists.items():
        bad = {p.index for p in file.problems if p.part == part and p.kind != "unknown image"}
        kinds = Counter(p.kind for p in file.problems if p.index in bad and p.part == part)
        for kind, count in kinds.items():
            changes[f"records left out: {kind}"] += count
        content[key] = [record for i, record in enumerate(content[key]) if i not in bad]
    # Second images and categories of an id are gone, the annotations of lost ones are not.
    file = parse_coco(content) if content["images"] and content["categories"] else file
    bad = {p.index for p in file.problems if p.part == "annotation"}
    known = {image["id"] for image in content["images"]}
    kept = []
    for index, annotation in enumerate(content["annotations"]):
        if annotation["image_id"] not in known:
            changes["records left out: annotation of an unknown image"] += 1
        elif index in bad:
            changes["records left out: annotation of a category that was left out"] += 1
        else:
            kept.append(annotation)
    content["annotations"] = kept
    names = dict(zip(file.tables.class_ids, file.tables.class_names, strict=True))
    for category in content["categories"]:
        name = names.get(category["id"], category["name"])
        if name != category["name"]:
            category["name"] = name
            changes["categories renamed"] += 1


def _states_by_name(report: CheckReport) -> dict[str, ImageState]:
    return dict(zip(report.tables.file_names, report.states, strict=True))


def _mend_images(content: dict, states: dict[str, ImageState], changes: Counter) -> None:
    """Leave out images that cannot be read; give those of another size their own, with their boxes."""
    factors: dict = {}
    kept = []
    for image in content["images"]:
        state = states[image["file_name"]]
        stated = (image["width"], image["height"])
        if state.size is None:
            changes["images left out: missing or unreadable"] += 1
            continue
        if state.size != stated:
            actual, said = np.array([state.size], float), np.array([stated], float)
            if not same_aspect(said, actual)[0]:
                changes["images left out: another shape than stated"] += 1
                continue
            changes["images given their own size, boxes scaled"] += 1
            image["width"], image["height"] = state.size
            factors[image["id"]] = (actual / said)[0].tolist()
        kept.append(image)
    content["images"] = kept
    ids = {image["id"] for image in kept}
    annotations = [a for a in content["annotations"] if a["image_id"] in ids]
    if gone := len(content["annotations"]) - len(annotations):
        changes["annotations left out with their image"] += gone
    content["annotations"] = annotations
    for annotation in annotations:
        factor = factors.get(annotation["image_id"])
        if factor is not None:
            _scale(annotation, *factor, changes)


def _scale(annotation: dict, x: float, y: float, changes: Counter) -> None:
    left, top, width, height = annotation["bbox"]
    annotation["bbox"] = [left * x, top * y, width * x, height * y]
    if isinstance(annotation.get("area"), int | float):
        annotation["area"] *= x * y
    _leave_out_shapes(annotation, changes)


def _leave_out_shapes(annotation: dict, changes: Counter) -> None:
    for key in ("segmentation", "keypoints"):
        if annotation.pop(key, None):
            changes[f"{key} left out where boxes were scaled"] += 1


def _rewrite_boxes(content: dict, changes: Counter, *, label: str) -> None:
    """As (x, y, width, height) in pixels, if all of them are likely to be something else."""
    if not content["images"]:
        return
    tables, annotations = parse_coco(content).tables, content["annotations"]
    sizes = tables.sizes[tables.image_index]
    box_format = find_box_format(tables.boxes, sizes)
    if box_format.is_coco:
        return
    if box_format.layout is None:
        raise InputError(
            f"{label}: its boxes are normalised to 0..1, but nothing tells whether they start at a corner or at the "
            "centre, so they cannot be rewritten; multiply them by the image's size"
        )
    boxes = box_format.to_coco(tables.boxes, sizes)
    changes[f"boxes rewritten from {box_format.describe()}"] += len(boxes)
    for position, box in zip(tables.positions, boxes.tolist(), strict=True):
        annotation = annotations[position]
        annotation["bbox"], annotation["area"] = box, box[2] * box[3]
        if box_format.normalised:
            _leave_out_shapes(annotation, changes)


def _mend_boxes(content: dict, changes: Counter) -> None:
    if not content["images"]:
        return
    tables, annotations = parse_coco(content).tables, content["annotations"]
    sizes = tables.sizes[tables.image_index]
    faults = find_box_faults(tables.boxes, sizes)
    for mask, what in (
        (faults.not_finite, "not finite"),
        (faults.without_area, "without area"),
        (faults.outside, "outside the image"),
    ):
        if mask.any():
            changes[f"boxes left out: {what}"] += int(mask.sum())
    _cut(tables, annotations, faults.partly_outside, clip_boxes(tables.boxes, sizes))
    if faults.partly_outside.any():
        changes["boxes cut at the image's edge"] += int(faults.partly_outside.sum())
    gone = set(tables.positions[faults.unusable].tolist())
    content["annotations"] = [a for i, a in enumerate(annotations) if i not in gone]


def _cut(tables: CocoTables, annotations: list, mask: np.ndarray, boxes: np.ndarray) -> None:
    for row in np.flatnonzero(mask):
        annotation = annotations[tables.positions[row]]
        left, top, width, height = boxes[row].tolist()
        # An area that is the box's own follows it; a mask's stays.
        if annotation.get("area") == tables.boxes[row, 2] * tables.boxes[row, 3]:
            annotation["area"] = width * height
        annotation["bbox"] = [left, top, width, height]


def _mend_ids(content: dict, changes: Counter) -> None:
    annotations = content["annotations"]
    ids = [annotation.get("id") for annotation in annotations]
    absent = [place for place, value in enumerate(ids) if not is_id(value)]
    again = repeated_ids(ids)
    free = 1 + max((value for value in ids if type(value) is int), default=0)
    for number, place in enumerate([*absent, *again], start=free):
        annotations[place]["id"] = number
    if absent or again:
        changes["annotations given new ids"] += len(absent) + len(again)


def _write_json(content: dict, target: str) -> None:
    os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
    with replacing(target) as partial, partial.open("w", encoding="utf-8") as file:
        json.dump(content, file)
