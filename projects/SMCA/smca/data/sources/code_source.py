"""Data sets that the user's own code makes: a registered function that returns Detectron2's standard dataset dicts."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from smca.data.image_files import find_sizes
from smca.errors import InputError

from .coco_fields import is_writable, show
from .coco_json import file_key, read_valid_coco_json
from .coco_tables import CocoTables
from .usable_dataset import UsableDataset, select_usable

_MODES = (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)


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

    def read(self) -> CocoTables:
        """The columns of what the function returns, see :func:`tables_from_dicts`."""
        return self._tables(self.call())

    def read_truth(self) -> CocoTables:
        """The columns to evaluate on.

        Raises:
            InputError: as :meth:`read`, or for a json that cannot be read.
        """
        if self.json_file is None:
            return self.read()
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
        tables = self._tables(dicts)
        paths = tables.file_names
        actual = find_sizes(paths, label=self.name)
        if actual is not None:
            _check_sizes(tables, actual, self.name)
        usable = select_usable(self.name, tables, paths, actual)
        metadata = MetadataCatalog.get(self.name)
        if metadata.get("thing_classes") is None:
            metadata.thing_classes = tables.class_names
        return UsableDicts(**vars(usable), dicts=dicts)

    def _tables(self, dicts: Sequence[dict]) -> CocoTables:
        metadata = MetadataCatalog.get(self.name)
        return tables_from_dicts(
            dicts,
            name=self.name,
            class_names=metadata.get("thing_classes"),
            id_map=metadata.get("thing_dataset_id_to_contiguous_id"),
        )

    def _read_json(self) -> CocoTables:
        label = f"{self.json_file} (data set {self.name!r})"
        return read_valid_coco_json(self.json_file, label=label)


def tables_from_dicts(
    dicts: Sequence[dict], *, name: str, class_names: Sequence[str] | None, id_map: dict | None
) -> CocoTables:
    """The columns of dataset dicts.

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
