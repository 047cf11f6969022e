"""Writes a corrected copy of a COCO json, or one of a data set in another format; the original stays as it is."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections import Counter

import numpy as np

from smca.data.sources.coco_json import load_coco_json
from smca.data.sources.coco_records import (
    LISTS,
    UNKNOWN_IMAGE,
    CocoFile,
    mend_content,
    parse_coco,
)
from smca.data.sources.coco_tables import CocoTables
from smca.data.sources.usable_dataset import UsableDataset, select_usable
from smca.errors import InputError
from smca.whole_file import replacing

from .check import CheckReport
from .findings import is_id, repeated_ids
from .image_check import DENIED


def fix_dataset(report: CheckReport, target: str, *, overwrite: bool = False) -> list[str]:
    """Write what ``report`` is about to ``target``, with the faults mended that can be.

    Args:
        report: of a data set that is a json, or one of YOLO or Pascal VOC.
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
    changes: Counter[str] = Counter()
    content = _load(report, changes)
    annotations = len(content["annotations"])
    file = mend_content(content, parse_coco(content), changes)
    # From here on the file's columns and the content's lists have the same records.
    _drop_bad_records(content, file, changes)
    unwritten = f"would be left, so {target} was not written"
    for part in ("image", "category"):
        if not content[LISTS[part]]:
            raise InputError(f"{report.json_file}: no {part} {unwritten}")
    tables = _rewrite_boxes(file.tables, content, changes, label=report.json_file)
    _keep_usable(content, tables, report, changes)
    _mend_ids(content, changes)
    if not content["images"]:
        raise InputError(f"{report.json_file}: no image {unwritten}")
    if not annotations:
        raise InputError(
            f"{report.json_file} has no annotations, so there is no object to learn from, and {target} was not written"
        )
    if all(a.get("iscrowd") or a.get("ignore") for a in content["annotations"]):
        told = ", ".join(f"{count} {what}" for what, count in changes.items()) or "only crowds"
        raise InputError(
            f"{report.json_file}: none of its {annotations} annotations would be left to learn from ({told}), so "
            f"{target} was not written; correct what is said above by hand"
        )
    os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
    with replacing(target) as partial, partial.open("w", encoding="utf-8") as new:
        json.dump(content, new)
    return [f"{count} {what}" for what, count in changes.items()]


def _load(report: CheckReport, changes: Counter) -> dict:
    """The json, or what a json of a data set of many files would be; records that it lacks are counted."""
    if report.folder is not None:
        for problem in report.folder.problems:
            changes[f"records left out: {problem.kind}"] += 1
        return copy.deepcopy(report.folder.content)
    content = load_coco_json(report.json_file, label=report.json_file, keep_segmentation=True)
    content.setdefault("annotations", [])
    return content


def check_target(json_file: str | None, target: str, *, overwrite: bool, name: str) -> None:
    """Whether a corrected copy may be written, which is known before the check.

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


def _drop_bad_records(content: dict, file: CocoFile, changes: Counter) -> None:
    """Leaves the records that the columns have, and tells categories of one name apart."""
    bad: dict[str, set[int]] = {part: set() for part in LISTS}
    for problem in file.problems:
        if problem.kind != UNKNOWN_IMAGE:
            bad[problem.part].add(problem.index)
            changes[f"records left out: {problem.kind}"] += 1
    kept, known = file.tables.positions.tolist(), set(file.tables.image_ids)
    annotations = content["annotations"]
    for index in sorted(set(range(len(annotations))).difference(kept, bad["annotation"])):
        has_image = annotations[index]["image_id"] in known
        reason = "annotation of a category that was left out" if has_image else UNKNOWN_IMAGE
        changes[f"records left out: {reason}"] += 1
    content["annotations"] = [annotations[index] for index in kept]
    for part in ("image", "category"):
        records = content[LISTS[part]]
        content[LISTS[part]] = [r for index, r in enumerate(records) if index not in bad[part]]
    names = dict(zip(file.tables.class_ids, file.tables.class_names, strict=True))
    for category in content["categories"]:
        if category["name"] != names[category["id"]]:
            category["name"] = names[category["id"]]
            changes["categories renamed"] += 1


def _rewrite_boxes(
    tables: CocoTables, content: dict, changes: Counter, *, label: str
) -> CocoTables:
    """As (x, y, width, height) in pixels, if all of them are likely to be something else."""
    box_format = tables.box_format
    if box_format.is_coco:
        return tables
    if box_format.layout is None:
        raise InputError(
            f"{label}: its boxes are normalised to 0..1, but nothing tells whether they start at a corner or at the "
            "centre, so they cannot be rewritten; multiply them by the image's size"
        )
    boxes = box_format.to_coco(tables.boxes, tables.object_sizes)
    changes[f"boxes rewritten from {box_format.describe()}"] += len(boxes)
    for annotation, box in zip(content["annotations"], boxes.tolist(), strict=True):
        annotation["bbox"], annotation["area"] = box, box[2] * box[3]
        if box_format.normalised:
            _leave_out_shapes(annotation, changes)
    return dataclasses.replace(tables, boxes=boxes)


def _keep_usable(content: dict, tables: CocoTables, report: CheckReport, changes: Counter) -> None:
    """What a training would use: readable images with their own sizes, boxes scaled and cut as it would."""
    sizes, readable = None, np.ones(len(tables.image_ids), dtype=bool)
    if report.states:
        state_of = dict(zip(report.tables.file_names, report.states, strict=True))
        states = [state_of[name] for name in tables.file_names]
        readable = np.array([state.size is not None for state in states])
        stated = tables.sizes.tolist()
        sizes = [state.size or own for state, own in zip(states, stated, strict=True)]
        sizes = np.array(sizes, dtype=np.float64)
    usable = select_usable(report.json_file, tables, tables.file_names, sizes)
    kept = readable & usable.keep_image
    resized = kept & (usable.tables.sizes != tables.sizes).any(axis=1)
    in_kept = kept[tables.image_index]
    faults = {kind: mask & in_kept for kind, mask in usable.tables.faults.named().items()}
    cut = faults.pop("partly outside the image")
    for what, mask in (
        ("images left out: missing or unreadable", ~readable),
        ("images left out: another shape than stated", readable & ~usable.keep_image),
        ("images given their own size, boxes scaled", resized),
        ("annotations left out with their image", ~in_kept),
        *((f"boxes left out: {kind}", mask) for kind, mask in faults.items()),
        ("boxes cut at the image's edge", cut),
    ):
        if mask.any():
            changes[what] += int(mask.sum())
    for index in np.flatnonzero(resized):
        width, height = usable.tables.sizes[index].astype(int).tolist()
        content["images"][index].update(width=width, height=height)
    _write_boxes(content["annotations"], tables, usable, resized, cut, changes)
    content["images"] = [r for r, is_kept in zip(content["images"], kept, strict=True) if is_kept]
    chosen = (in_kept & usable.keep_object).tolist()
    content["annotations"] = [
        r for r, is_kept in zip(content["annotations"], chosen, strict=True) if is_kept
    ]


def _write_boxes(
    annotations: list[dict],
    tables: CocoTables,
    usable: UsableDataset,
    resized: np.ndarray,
    cut: np.ndarray,
    changes: Counter,
) -> None:
    """Boxes of images of another size, and those that are cut; each box's area as it was, the box's or a mask's."""
    for row in np.flatnonzero(resized[tables.image_index]):
        annotation, image = annotations[row], tables.image_index[row]
        annotation["bbox"] = usable.tables.boxes[row].tolist()
        if isinstance(annotation.get("area"), int | float):
            annotation["area"] *= float((usable.tables.sizes[image] / tables.sizes[image]).prod())
        _leave_out_shapes(annotation, changes)
    for row in np.flatnonzero(cut):
        annotation, box = annotations[row], usable.tables.boxes[row]
        annotation["bbox"] = usable.boxes[row].tolist()
        if annotation.get("area") == box[2] * box[3]:
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]


def _leave_out_shapes(annotation: dict, changes: Counter) -> None:
    for key in ("segmentation", "keypoints"):
        if annotation.pop(key, None):
            changes[f"{key} left out where boxes were scaled"] += 1


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
