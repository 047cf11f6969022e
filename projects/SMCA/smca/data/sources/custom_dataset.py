"""A COCO json and a folder of images named in a config, without registering anything in code."""

from __future__ import annotations

import os

from smca.data.image_files import describe_absence
from smca.errors import InputError

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
    filter_empty: bool = False,
) -> list[dict]:
    """Register the data set under ``names`` and load it as :func:`load_detection_dataset` does.

    Args:
        names: one name of a data set, for Detectron2's catalogs and messages.
        json_file: the annotations.
        image_root: the folder that file names in it are relative to; None for the json's own, as Roboflow has it.
        field: config field that the two come from, such as "data.train" for data.train_json and data.train_images.
        classes_from: see :class:`CocoSource`; a file that does not exist is passed over.
        filter_empty: leave out images without objects.

    Raises:
        InputError: also if one of the paths is not given or does not exist, naming its field.
    """
    register_custom_dataset(
        names, json_file=json_file, image_root=image_root, field=field, classes_from=classes_from
    )
    return load_detection_dataset(names, filter_empty=filter_empty)


def register_custom_dataset(
    names: str,
    *,
    json_file: str | None,
    image_root: str | None,
    field: str,
    classes_from: str | None = None,
) -> None:
    """The first half of :func:`load_custom_dataset`, with its arguments and errors."""
    if not json_file:
        raise InputError(f"{field}_json is not set: give the COCO json, {field}_json=FILE")
    json_file = _path(json_file, f"{field}_json")
    if os.path.isdir(json_file):
        raise InputError(f"{field}_json: {json_file} is a folder, but one COCO json is needed")
    if file_key(json_file) is None:
        raise InputError(f"{field}_json: {describe_absence(json_file, 'file')}")
    image_root = _path(image_root or os.path.dirname(json_file) or ".", f"{field}_images")
    if not os.path.isdir(image_root):
        raise InputError(f"{field}_images: {describe_absence(image_root, 'folder')}")
    if classes_from:
        classes_from = _path(classes_from, f"classes_from of {field}_json")
    known = classes_from and file_key(classes_from) is not None
    register_coco(
        CocoSource(names, json_file, image_root, classes_from=classes_from if known else None)
    )


def _path(value: object, field: str) -> str:
    """Without ``~``. An override such as data.train_json=5 is a number."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{field} must be a path, not {show(value)}")
    return os.path.expanduser(os.fspath(value))
