"""The ``data.yaml`` of a data set in YOLO's format, as Ultralytics lays it out: class names, and where images are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from smca.data.sources.coco_fields import show
from smca.errors import InputError

from .folder_content import found_path, is_image_name, read_lines, walk

_LARGEST_YAML = 1 << 24
_ALIASES = {"validation": "val", "valid": "val"}
SPLITS = ("train", "val", "test")


class YoloYaml(NamedTuple):
    """
    Attributes:
        path: of the file.
        class_names: in the order of their numbers.
        places: of each split's images, as the file names them.
        base: the file's "path", empty where it has none.
    """

    path: str
    class_names: list[str]
    places: dict[str, list[str]]
    base: str

    def listed_images(self, split: str) -> Iterator[tuple[str, str, int | None]]:
        """Path of each image of a split, and the file and line that name it, or the folder that it is in.

        Raises:
            InputError: if the split is not there.
        """
        if split not in self.places:
            known = ", ".join(self.places) or "none"
            raise InputError(f"{self.path} has no split {split!r} (it has: {known})")
        for place in self.places[split]:
            where = self._locate(place, split)
            if os.path.isdir(where):
                for folder, names in walk(where):
                    for name in filter(is_image_name, names):
                        yield os.path.join(folder, name), folder, None
            else:
                yield from self._of_list(where)

    def root(self) -> str:
        """The folder that messages and file names are relative to."""
        return next((f for f in self._bases() if os.path.isdir(f)), os.path.dirname(self.path))

    def _bases(self) -> list[str]:
        """Where splits may be relative to: Ultralytics takes "path" relative to where it is run, or its own folder."""
        own = os.path.dirname(os.path.abspath(self.path))
        if not self.base:
            return [own]
        return [os.path.normpath(found_path(own, self.base)), os.path.abspath(self.base), own]

    def _locate(self, place: str, split: str) -> str:
        tried = []
        # Roboflow writes ../train/images where train/ lies beside the yaml.
        for name in (place, place.removeprefix("../")):
            for base in self._bases():
                tried.append(os.path.normpath(found_path(base, name)))
                if os.path.exists(tried[-1]):
                    return tried[-1]
        raise InputError(
            f"{self.path}: the images of {split!r} are not there, looked for {', '.join(dict.fromkeys(tried))}; "
            "correct its 'path' or move the data set to it"
        )

    def _of_list(self, path: str) -> Iterator[tuple[str, str, int]]:
        """Its lines are relative to the list, or to the data set."""
        if is_image_name(path):
            raise InputError(
                f"{self.path} names {path}, but a folder or a list of images is needed"
            )
        try:
            for number, line in read_lines(path):
                own = os.path.normpath(found_path(os.path.dirname(path), line))
                other = os.path.normpath(found_path(self.root(), line))
                chosen = other if os.path.exists(other) and not os.path.exists(own) else own
                yield chosen, path, number
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def read_yolo_yaml(path: str) -> YoloYaml:
    """The file, or the only one in the folder ``path``.

    Raises:
        InputError: one sentence that names the file and what is wrong.
    """
    path = find_yaml(path) or path
    try:
        if os.path.getsize(path) > _LARGEST_YAML:
            raise InputError(f"{path} is too large for the yaml of a data set")
        text = Path(path).read_text(encoding="utf-8-sig")
        # Every value stays the text it is: a class "no" is no False, and "010" no 8.
        content = yaml.load(text, Loader=yaml.BaseLoader)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" (line {mark.line + 1})"
        raise InputError(f"{path} is no yaml in UTF-8{where}") from error
    if not isinstance(content, dict) or "names" not in content:
        raise InputError(f"{path} is no yaml of a YOLO data set: it has no 'names' of classes")
    if "kpt_shape" in content:
        raise InputError(
            f"{path} is of a data set for poses (kpt_shape), whose keypoints are not read; convert it to boxes"
        )
    places = {}
    for key, value in content.items():
        split = _ALIASES.get(key, key) if isinstance(key, str) else key
        if split in SPLITS and value:
            entries = value if isinstance(value, list) else [value]
            if not all(isinstance(entry, str) and entry for entry in entries):
                raise InputError(
                    f"{path}: {key} must be a folder, a list of images, or several of them"
                )
            places[split] = entries
    base = content.get("path") or ""
    if not isinstance(base, str):
        raise InputError(f"{path}: path must be a folder")
    return YoloYaml(path, _class_names(path, content), places, base)


def find_yaml(folder: str) -> str | None:
    """``data.yaml`` in a folder, or the only yaml there; None where there is none or ``folder`` is none."""
    try:
        names = sorted(n for n in os.listdir(folder) if n.lower().endswith((".yaml", ".yml")))
    except OSError:
        return None
    chosen = [n for n in names if n.lower() in ("data.yaml", "data.yml")] or names
    return os.path.join(folder, chosen[0]) if len(chosen) == 1 else None


def _class_names(path: str, content: dict) -> list[str]:
    """Of a list, or of a mapping from 0 to K-1."""
    names = content["names"]
    if isinstance(names, dict):
        numbers = {key: int(key) for key in names if isinstance(key, str) and key.isdecimal()}
        if sorted(numbers.values()) != list(range(len(names))):
            raise InputError(f"{path}: the keys of names must be the numbers 0 to {len(names) - 1}")
        names = [names[key] for key in sorted(names, key=numbers.__getitem__)]
    if not isinstance(names, list) or not names:
        raise InputError(
            f"{path}: names must be a list of class names, or a mapping from 0 to them"
        )
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{path}: class {number} of names has no name")
    count = content.get("nc", str(len(names)))
    if count != str(len(names)):
        said = show(count) if isinstance(count, str) else "no number"
        raise InputError(f"{path}: nc is {said}, but names has {len(names)} classes")
    return names
