"""Annotations on a disk, whatever their format: a COCO json, the yaml of YOLO's format, a folder of Pascal VOC.

All of them become the columns of ``CocoTables``, so that nothing after knows the difference.
"""

from __future__ import annotations

import collections
import dataclasses
import os

from smca.data.folders.folder_content import ContentBuilder, FolderContent, state_of_files
from smca.data.folders.voc import read_voc, read_voc_classes
from smca.data.folders.voc_layout import is_voc, split_names, voc_layout
from smca.data.folders.yolo import read_yolo
from smca.data.folders.yolo_yaml import find_yaml, read_yolo_yaml
from smca.errors import InputError

from .coco_json import file_key, read_valid_coco_json
from .coco_records import CocoFile, parse_coco, refuse_problems
from .coco_tables import CocoTables

_CACHED = 4
_cache: collections.OrderedDict[tuple, tuple[tuple, FolderContent, CocoFile]] = (
    collections.OrderedDict()
)


def is_yolo(path: str) -> bool:
    """Whether it is a yaml, or a folder that holds one and no xml files."""
    if os.path.isdir(path):
        return not is_voc(path) and find_yaml(path) is not None
    return path.lower().endswith((".yaml", ".yml"))


def is_folder_format(path: str) -> bool:
    """Whether annotations are many files, not one json."""
    return is_yolo(path) or is_voc(path)


def has_splits(path: str) -> bool:
    """Whether data to train and to evaluate on are in the same place."""
    return is_yolo(path) or bool(split_names(path))


def find_image_root(path: str, given: str | None, option: str) -> str:
    """The folder that file names of a data set of many files are relative to.

    Args:
        path: of a data set for which :func:`is_folder_format` holds.
        given: by the user, if they did.
        option: that it is given with.

    Raises:
        InputError: if it cannot be given.
    """
    if not is_yolo(path):
        return voc_layout(path, given).images
    if given is not None:
        raise InputError(
            f"{option} has no use: where images are stands in {read_yolo_yaml(path).path}, as path, train and val"
        )
    return read_yolo_yaml(path).root()


def choose_split(path: str, split: str | None, otherwise: str) -> str | None:
    """The split that is asked for, or else the usual one; None for a folder that has no lists of splits."""
    return split or (otherwise if has_splits(path) else None)


def read_folder(
    path: str, split: str | None, image_root: str | None
) -> tuple[FolderContent, CocoFile]:
    """A data set of many files, or what it said if it was read before and nothing of it has changed.

    Args:
        path: of a data set for which :func:`is_folder_format` holds.
        split: from :func:`choose_split`.
        image_root: from :func:`find_image_root`.

    Returns:
        It as a COCO json would be, and its columns and problems.

    Raises:
        InputError: one sentence, if it cannot be read at all.
    """
    key = (os.path.abspath(path), split, image_root)
    if key not in _cache or _cache[key][0] != state_of_files(_cache[key][1].files):
        found = read_yolo(path, split) if is_yolo(path) else read_voc(path, split, image_root)
        _cache[key] = (state_of_files(found.files), found, _as_file(found))
        while len(_cache) > _CACHED:
            _cache.popitem(last=False)
    _cache.move_to_end(key)
    return _cache[key][1:]


def read_valid_annotations(
    path: str, *, split: str | None, image_root: str, label: str
) -> CocoTables:
    """The columns of a data set for training.

    Raises:
        InputError: one sentence, if it cannot be read, or for the first record that cannot.
    """
    if not is_folder_format(path):
        return read_valid_coco_json(path, label=label)
    _, file = read_folder(path, split, image_root)
    return refuse_problems(file, label, ", and its --fix writes a COCO json of what is right")


def read_class_names(path: str) -> list[str]:
    """Of the data set at ``path``; of one of many files without looking at its images.

    Raises:
        InputError: one sentence, if they cannot be read.
    """
    if not is_folder_format(path):
        return read_valid_coco_json(path).class_names
    names = read_yolo_yaml(path).class_names if is_yolo(path) else read_voc_classes(path)
    return refuse_problems(
        _as_file(ContentBuilder(path, names).finished(path)), path, ""
    ).class_names


def annotations_state(path: str, split: str | None, image_root: str) -> tuple | None:
    """Changes when the annotations do; None if they are not there or were not read."""
    known = _cache.get((os.path.abspath(path), split, image_root))
    return state_of_files(known[1].files) if known else file_key(path)


def _as_file(found: FolderContent) -> CocoFile:
    file = parse_coco(found.content, origins=found.origins)
    tables = dataclasses.replace(file.tables, notes=tuple(found.notes))
    return file._replace(tables=tables, problems=[*found.problems, *file.problems])
