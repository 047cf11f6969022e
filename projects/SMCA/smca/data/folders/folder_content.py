"""What the readers of folders hand over, and what they share."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from smca.data.image_file import IMAGE_SUFFIXES
from smca.data.sources.coco_fields import Problem
from smca.errors import InputError

MALFORMED_IMAGE, MALFORMED_ANNOTATION = "malformed image", "malformed annotation"
UNKNOWN_CATEGORY, DUPLICATE_IMAGE = "unknown category", "duplicate image id"
MISSING_IMAGE, UNREADABLE_IMAGE = "missing image file", "unreadable image file"
"""Kinds of problems, those of a COCO json."""


class FolderContent(NamedTuple):
    """A data set of many files, as a COCO json of it would be.

    Attributes:
        content: the json's lists "images", "annotations" and "categories", of what can be read.
        image_root: the folder that file names in it are relative to.
        problems: of what cannot be read, each with file and line.
        origins: file and line of each annotation.
        notes: sentences about what became of something that another reader may take otherwise.
        files: everything that was read, to see whether it has changed.
    """

    content: dict
    image_root: str
    problems: list[Problem]
    origins: list[str]
    notes: list[str]
    files: list[str]


class ContentBuilder:
    """Collects images and objects one after the other; ids of images and objects count from 1."""

    def __init__(self, root: str, class_names: list[str], first_id: int = 1):
        """
        Args:
            root: folder of the data set; messages name files relative to it.
            class_names: in the order of their ids.
            first_id: of the classes.
        """
        self.root = root
        self.problems: list[Problem] = []
        self.origins: list[str] = []
        self.notes: list[str] = []
        self.files: list[str] = []
        self.content: dict[str, list] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": k, "name": n} for k, n in enumerate(class_names, start=first_id)],
        }
        self._first_id = first_id

    def reject(self, kind: str, path: str, what: str, *, line: int | None = None) -> None:
        """Note a problem of a file, or of one of its lines, from 1."""
        part = "annotation" if kind in (MALFORMED_ANNOTATION, UNKNOWN_CATEGORY) else "image"
        sentence = f"{self.origin(path, line)}: {what}"
        self.problems.append(Problem(kind, sentence, part, len(self.problems)))

    def origin(self, path: str, line: int | None = None) -> str:
        """ "labels/a.txt, line 3" """
        name = shown_path(path, self.root)
        return name if line is None else f"{name}, line {line}"

    def add_image(self, file_name: str, width: int, height: int) -> None:
        """The one that objects are added to from now on."""
        images = self.content["images"]
        images.append(
            {"id": len(images) + 1, "file_name": file_name, "width": width, "height": height}
        )

    def add_object(self, label: int, box: list[float], origin: str, **fields: int) -> None:
        """An object of the image that was added last.

        Args:
            label: class, from 0.
            box: (x, y, width, height) in pixels.
            origin: file and line.
            fields: further ones of a COCO annotation.
        """
        annotations = self.content["annotations"]
        self.origins.append(origin)
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": len(self.content["images"]),
                "category_id": label + self._first_id,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                **fields,
            }
        )

    def finished(self, image_root: str) -> FolderContent:
        return FolderContent(
            self.content, image_root, self.problems, self.origins, self.notes, self.files
        )


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def without_image_ending(name: str) -> str:
    """Of "a.jpg" and "a" it is "a"; of "v1.5" it is "v1.5"."""
    return os.path.splitext(name)[0] if is_image_name(name) else name


def read_lines(path: str) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line that is not blank, whoever's line ends and byte order mark it has.

    Raises:
        InputError: without the file's name, if it is no text in UTF-8 or may not be read.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("it is no text in UTF-8") from error
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if line.strip():
            yield number, line.strip()


def read_bytes(path: str) -> bytes:
    """Content of a file.

    Raises:
        InputError: without the file's name, if it may not be read, or is a pipe or device, which could be waited for.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError("it is no file")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror})") from error


def walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Each folder from this one down and the sorted names of its files; links are followed, none into a circle."""
    seen = set()
    for below, folders, names in os.walk(folder, followlinks=True):
        if (here := os.path.realpath(below)) in seen:
            folders.clear()
            continue
        seen.add(here)
        folders.sort()
        yield below, sorted(names)


def state_of_files(paths: Iterable[str]) -> tuple:
    """Changes when one of the files or folders does."""
    return tuple(map(_state, paths))


def _state(path: str) -> tuple | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        # A name with a zero byte is a ValueError.
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def shown_path(path: str, root: str) -> str:
    """Relative to the data set's folder where it is below it."""
    relative = os.path.relpath(path, root)
    return path if relative.startswith("..") else relative


def found_path(folder: str, name: str) -> str:
    """A path that a file of the data set names; one from Windows gets slashes if it is not there as it is."""
    path = os.path.join(folder, name)
    if "\\" in name and not os.path.exists(path):
        return os.path.join(folder, name.replace("\\", "/"))
    return path
