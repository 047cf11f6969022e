"""Reads a COCO detection json once; what is in it becomes columns, see ``coco_records``."""

from __future__ import annotations

import codecs
import collections
import contextlib
import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path

from smca.errors import InputError

from .coco_records import CocoFile, parse_coco, refuse_problems
from .coco_tables import CocoTables
from .other_formats import format_of_file, format_of_json

_CACHED_FILES = 4
_HEAD = 65536
_cache: collections.OrderedDict[tuple, CocoFile] = collections.OrderedDict()


def read_coco_json(path: str | os.PathLike, *, label: str | None = None) -> CocoFile:
    """Read a file, or return what it said if it was read before and has not changed.

    Args:
        path: the json.
        label: what to call it in messages; by default its path.

    Raises:
        InputError: one sentence, if the file does not exist or is no COCO json at all.
    """
    label = label or str(path)
    key = file_key(path)
    if key is None:
        raise InputError(f"{label} does not exist")
    if key not in _cache:
        _cache[key] = parse_coco(load_coco_json(path, label=label))
        while len(_cache) > _CACHED_FILES:
            _cache.popitem(last=False)
    _cache.move_to_end(key)
    return _cache[key]


def read_valid_coco_json(path: str | os.PathLike, *, label: str | None = None) -> CocoTables:
    """As :func:`read_coco_json`, but for training.

    Raises:
        InputError: also for a record that cannot be read, naming the first one.
    """
    label = label or str(path)
    advice = ", and its --fix mends what it can"
    file = read_coco_json(path, label=label)
    return refuse_problems(file, f"{label} is no COCO json for training", advice)


def file_key(path: str | os.PathLike) -> tuple | None:
    """Changes when the file does; None if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    if not os.path.isfile(path):
        return None
    return (os.path.realpath(path), status.st_ino, status.st_mtime_ns, status.st_size)


def load_coco_json(path: str | os.PathLike, *, label: str, keep_segmentation: bool = False) -> dict:
    """The json's content: an object with lists of images and categories, and of annotations if it has any.

    Raises:
        InputError: one sentence, if it is anything else.
    """
    try:
        # Files from Windows may start with a byte order mark.
        text = Path(path).read_text(encoding="utf-8-sig")
        with _no_garbage_collection():
            content = json.loads(
                text, object_hook=None if keep_segmentation else _without_segmentation
            )
    except OSError as error:
        raise InputError(f"{label} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise InputError(f"{label} is no COCO json: it is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{label} is no COCO json, {_why_no_json(Path(path), error)}") from error
    known = format_of_json(content)
    if known:
        raise InputError(f"{label} is no COCO json, but {known}")
    if not isinstance(content, dict):
        raise InputError(f"{label} is no COCO json: its top level is no object")
    for key in ("images", "categories"):
        if not isinstance(content.get(key), list):
            raise InputError(f"{label} is no COCO json: it has no list {key!r}")
        if not content[key]:
            raise InputError(f"{label} is no COCO json for training: its list {key!r} is empty")
    if not isinstance(content.get("annotations", []), list):
        raise InputError(f"{label} is no COCO json: it has no list 'annotations'")
    return content


def _why_no_json(path: Path, error: ValueError) -> str:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    known = format_of_file(head, name=path.name)
    if known:
        return f"but {known}"
    if not head.removeprefix(codecs.BOM_UTF8).strip():
        return "for it is empty"
    if isinstance(error, UnicodeDecodeError) and head.lstrip()[:1] in (b"{", b"["):
        return f"but text in another encoding than UTF-8 ({error.reason}): save it as UTF-8"
    return f"not even a json file: {error}"


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """It would look for cycles among millions of new objects over and over, which takes as long as reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _without_segmentation(record: dict) -> dict:
    # Polygons are most of COCO's file, and would take gigabytes of memory. They matter where there is no box.
    if record.get("bbox"):
        record.pop("segmentation", None)
    return record
