"""Data on a disk named in a config, a COCO json and a folder of images above all, without registering it in code."""

from __future__ import annotations

import os

from smca.data.image_files import describe_absence
from smca.errors import InputError

from .annotations import choose_split, find_image_root, has_splits, is_folder_format
from .coco_fields import show
from .coco_json import file_key
from .coco_source import CocoSource, register_coco
from .detection_dataset import load_detection_dataset


def load_custom_dataset(
    names: str,
    *,
    json_file: str | None,
    image_root: str | None,
    field: str,
    classes_from: str | None = None,
    split: str | None = None,
    filter_empty: bool = False,
) -> list[dict]:
    """Register the data set under ``names`` and load it as :func:`load_detection_dataset` does.

    Args:
        names: one name of a data set, for Detectron2's catalogs and messages.
        json_file: the annotations: a COCO json, the yaml of a YOLO data set or a folder of Pascal VOC. If it is
            null and ``classes_from`` has several splits, that one is taken.
        image_root: the folder that file names in it are relative to; None for the json's own, as Roboflow has it.
        field: config field that the two come from, such as "data.train" for data.train_json and data.train_images.
        classes_from: see :class:`CocoSource`; a file that does not exist is passed over.
        split: of a data set of many files; by default "train" or "val", whichever ``field`` ends in.
        filter_empty: leave out images without objects.

    Raises:
        InputError: also if one of the paths is not given or does not exist, naming its field.
    """
    register_custom_dataset(
        names,
        json_file=json_file,
        image_root=image_root,
        field=field,
        classes_from=classes_from,
        split=split,
    )
    return load_detection_dataset(names, filter_empty=filter_empty)


def register_custom_dataset(
    names: str,
    *,
    json_file: str | None,
    image_root: str | None,
    field: str,
    classes_from: str | None = None,
    split: str | None = None,
) -> None:
    """The first half of :func:`load_custom_dataset`, with its arguments and errors."""
    if classes_from:
        classes_from = _path(classes_from, f"classes_from of {field}_json")
        json_file = json_file or (classes_from if has_splits(classes_from) else None)
    if not json_file:
        raise InputError(f"{field}_json is not set: give the COCO json, {field}_json=FILE")
    json_file = _path(json_file, f"{field}_json")
    image_root = image_root and _path(image_root, f"{field}_images")
    is_folder = is_folder_format(json_file)
    if not os.path.exists(json_file):
        raise InputError(f"{field}_json: {describe_absence(json_file, 'file')}")
    if is_folder:
        usual = field.rpartition(".")[2]
        split = choose_split(json_file, split and str(split), usual)
        image_root = find_image_root(json_file, image_root, f"{field}_images")
    elif split:
        raise InputError(f"{field}_split is set, but {json_file}, a COCO json, has no splits")
    elif os.path.isdir(json_file):
        raise InputError(
            f"{field}_json: {json_file} is a folder, but one COCO json is needed, or a folder with data.yaml (YOLO) or "
            "Annotations (Pascal VOC)"
        )
    elif file_key(json_file) is None:
        raise InputError(f"{field}_json: {describe_absence(json_file, 'file')}")
    else:
        image_root = image_root or os.path.dirname(json_file) or "."
    if not os.path.isdir(image_root):
        raise InputError(f"{field}_images: {describe_absence(image_root, 'folder')}")
    if classes_from and file_key(classes_from) is None and not is_folder_format(classes_from):
        classes_from = None
    register_coco(
        CocoSource(
            names,
            json_file,
            image_root,
            classes_from=classes_from or None,
            split=split if is_folder else None,
        )
    )


def _path(value: object, field: str) -> str:
    """Without ``~``. An override such as data.train_json=5 is a number."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{field} must be a path, not {show(value)}")
    return os.path.expanduser(os.fspath(value))
