"""Data sets that the user's own code makes: a registered function that returns Detectron2's standard dataset dicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from smca.data.image_files import find_sizes
from smca.errors import InputError

from .coco_fields import Records, is_writable, whole_number
from .coco_json import file_key, read_valid_coco_json
from .coco_records import (
    CocoFile,
    read_areas,
    read_boxes,
    read_crowds,
    read_files,
    refuse_problems,
)
from .coco_tables import CocoTables
from .usable_dataset import UsableDataset, select_usable

_MODES = (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
_MODE = "BoxMode.XYXY_ABS or BoxMode.XYWH_ABS"
_IMAGE_FIELDS = ("file_name", "image_id", "width", "height", "annotations")
_FIELDS = ("bbox", "bbox_mode", "category_id", "iscrowd", "area")


@dataclasses.dataclass(frozen=True, eq=False)
class UsableDicts(UsableDataset):
    """Of dicts that may hold more than the columns do.

    Attributes:
        dicts: that the columns were made from.
    """

    dicts: Sequence[dict] = ()

    def records(self) -> list[dict]:
        """Copies without the objects that cannot be used, everything else as it was."""
        keep, boxes = self.keep_object, self.boxes
        changed = (boxes != self.tables.boxes).any(axis=1)
        records, number = [], 0
        for image_id, record in zip(self.tables.image_ids, self.dicts, strict=True):
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


@dataclasses.dataclass(frozen=True)
class CodeSource:
    """A registered function and what the metadata says; the function is called anew each time.

    Attributes:
        name: registered name.
    """

    name: str

    @property
    def json_file(self) -> str | None:
        """Where the metadata names one it is the ground truth, as it is for Detectron2."""
        return MetadataCatalog.get(self.name).get("json_file")

    def state(self) -> tuple | None:
        """Changes when the json does."""
        return self.json_file and file_key(self.json_file)

    def call(self) -> list[dict]:
        """What the function returns.

        Raises:
            InputError: if it lacks a file.
        """
        try:
            return list(DatasetCatalog.get(self.name))
        except FileNotFoundError as error:
            raise InputError(
                f"data set {self.name}: {error.filename or error} does not exist; put it there, or set "
                "DETECTRON2_DATASETS to the folder that holds the data sets"
            ) from error

    def read(self) -> CocoFile:
        """The columns of what the function returns, and what is wrong with it."""
        return self._parse(self.call())

    def read_truth(self) -> CocoTables:
        """The columns to evaluate on.

        Raises:
            InputError: if a file is missing, or for a record that cannot be used, naming the first one.
        """
        if self.json_file is None:
            return self._valid(self.read())
        metadata = MetadataCatalog.get(self.name)
        ids = metadata.get("thing_dataset_id_to_contiguous_id")
        if file_key(self.json_file) is None or ids is None:
            # The function makes the file, or tells the metadata.
            self.call()
        return self._read_json()

    def load(self) -> UsableDicts:
        """What can be used; also puts the class names into the data set's metadata.

        Raises:
            InputError: as :meth:`read_truth`, or for an image file that is missing, no image, or of another size.
        """
        dicts = self.call()
        if self.json_file is not None and file_key(self.json_file) is not None:
            # The evaluation will need it.
            self._read_json()
        tables = self._valid(self._parse(dicts))
        paths = tables.file_names
        actual = find_sizes(paths, label=self.name)
        if actual is not None:
            _check_sizes(tables, actual, self.name)
        usable = select_usable(self.name, tables, paths, actual)
        metadata = MetadataCatalog.get(self.name)
        if metadata.get("thing_classes") is None:
            metadata.thing_classes = tables.class_names
        return UsableDicts(**vars(usable), dicts=dicts)

    def _parse(self, dicts: Sequence[dict]) -> CocoFile:
        metadata = MetadataCatalog.get(self.name)
        return parse_dicts(
            dicts,
            name=self.name,
            class_names=metadata.get("thing_classes"),
            id_map=metadata.get("thing_dataset_id_to_contiguous_id"),
        )

    def _valid(self, file: CocoFile) -> CocoTables:
        return refuse_problems(file, f"data set {self.name!r}", "")

    def _read_json(self) -> CocoTables:
        label = f"{self.json_file} (data set {self.name!r})"
        return read_valid_coco_json(self.json_file, label=label)


def parse_dicts(
    dicts: Sequence[dict], *, name: str, class_names: Sequence[str] | None, id_map: dict | None
) -> CocoFile:
    """Columns and problems of dataset dicts.

    Args:
        dicts: one per image. "file_name" is needed; "image_id" counts from 0, "height" and "width" are unknown and
            "annotations" are none where they are not given. An annotation has "bbox", "bbox_mode" (XYXY_ABS or
            XYWH_ABS), "category_id" counting from 0, and may have "iscrowd" and "area".
        name: of the data set.
        class_names: the metadata's thing_classes; without them classes are called by their numbers.
        id_map: the metadata's thing_dataset_id_to_contiguous_id, if there is one.

    Raises:
        InputError: if there is no image.
    """
    if not len(dicts):
        raise InputError(f"data set {name!r} has no images")
    rows = [_plain(record, _IMAGE_FIELDS) for record in dicts]
    places = [f"image {index}{_path_of(row)}" for index, row in enumerate(rows)]
    images = Records(rows, "image", places)
    paths, sizes = read_files(images, default=None)
    ids = images.read("image_id", {int, float, str}, "a number or text", default=None)
    ids = [index if value is None else value for index, value in enumerate(ids)]
    images.reject_repeated(ids)
    lists = images.read("annotations", {list, tuple}, "a list", default=(), placeholder=())
    owners = np.array([i for i, some in enumerate(lists) for _ in some], dtype=np.int64)
    annotations = Records(
        [_plain(annotation, _FIELDS) for some in lists for annotation in some],
        "annotation",
        [f"{places[i]}, annotation {n}" for i, some in enumerate(lists) for n in range(len(some))],
    )
    labels = _read_labels(annotations, class_names)
    modes = annotations.read("bbox_mode", {BoxMode, int}, _MODE, placeholder=BoxMode.XYWH_ABS)
    annotations.require("bbox_mode", modes, _MODES.__contains__, f"which must be {_MODE}")
    boxes = read_boxes(annotations, labels)
    is_corners = np.array([mode == BoxMode.XYXY_ABS for mode in modes], dtype=bool)
    with np.errstate(over="ignore", invalid="ignore"):
        boxes[is_corners, 2:] -= boxes[is_corners, :2]
    areas, is_crowd = read_areas(annotations, boxes), read_crowds(annotations)
    names = list(class_names or map(str, range(max(labels, default=0) + 1)))
    ids_of = {index: class_id for class_id, index in (id_map or {}).items()}
    good, rows = np.flatnonzero(images.good), np.flatnonzero(annotations.good & images.good[owners])
    tables = CocoTables(
        image_ids=[ids[i] for i in good],
        file_names=[paths[i] for i in good],
        sizes=sizes[good],
        class_ids=[ids_of.get(k, None if ids_of else k) for k in range(len(names))],
        class_names=names,
        annotation_ids=[None] * len(rows),
        positions=rows,
        image_index=(np.cumsum(images.good) - 1)[owners[rows]],
        class_index=np.array(labels, dtype=np.int64)[rows],
        boxes=boxes[rows],
        areas=areas[rows],
        is_crowd=is_crowd[rows],
        has_annotations=any("annotations" in row for row in dicts if isinstance(row, dict)),
    )
    return CocoFile(tables, [*images.problems, *annotations.problems], [], [])


def _read_labels(annotations: Records, class_names: Sequence[str] | None) -> list[int]:
    key = "category_id"
    labels = annotations.read(key, {int}, "0 or more", convert=whole_number, placeholder=0)
    annotations.require(key, labels, lambda label: label >= 0, "which must be 0 or more", 0)
    if class_names:
        count = len(class_names)
        said = f"but thing_classes in the metadata names {count} classes (0 to {count - 1})"
        annotations.require(key, labels, lambda label: label < count, said, 0)
    return labels


def _plain(record: Any, fields: Collection[str]) -> Any:
    """The fields of a dict, with Python's numbers and lists for those of numpy and torch."""
    if not isinstance(record, dict):
        return record
    return {key: _plain_value(record[key]) for key in fields if key in record}


def _plain_value(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    is_box = isinstance(value, list | tuple) and len(value) == 4
    return [_plain_value(v) for v in value] if is_box else value


def _path_of(row: Any) -> str:
    path = row.get("file_name") if isinstance(row, dict) else None
    return f" ({path})" if isinstance(path, str) and is_writable(path) else ""


def _check_sizes(tables: CocoTables, actual: np.ndarray, name: str) -> None:
    wrong = (actual != tables.sizes).any(axis=1) & np.isfinite(tables.sizes).all(axis=1)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        width, height = actual[first].astype(int)
        said_w, said_h = tables.sizes[first].astype(int)
        raise InputError(
            f"{int(wrong.sum())} of {len(actual)} images of {name} have another size than it says, the first is "
            f"{tables.file_names[first]}: {width}x{height} instead of {said_w}x{said_h} (width x height)"
        )
