"""Reads a data set in Pascal VOC's format: ``Annotations/*.xml``, ``JPEGImages/``, splits in ``ImageSets/Main/*.txt``.

Corners are pixels that belong to the object, counted from 1: (xmin, ymin, xmax, ymax) = (1, 1, 1, 1) is the first
pixel, the COCO box (0, 0, 1, 1). Objects marked ``difficult`` count as COCO's ``ignore``: VOC's evaluation neither
asks for them nor counts them as wrong.
"""

from __future__ import annotations

import functools
import math
import os

from smca.data.image_files import read_sizes
from smca.data.sources.coco_fields import is_writable, show
from smca.errors import InputError

from .folder_content import (
    DUPLICATE_IMAGE,
    MALFORMED_ANNOTATION,
    MALFORMED_IMAGE,
    UNKNOWN_CATEGORY,
    UNREADABLE_IMAGE,
    ContentBuilder,
    FolderContent,
    read_bytes,
    read_lines,
    state_of_files,
    without_image_ending,
)
from .voc_layout import ImageNames, VocLayout, split_names, voc_layout, xml_files
from .xml_tree import Element, parse_xml

_CLASS_LISTS = ("labels.txt", "classes.txt", "labelmap.txt")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TRUE = ("1", "true", "yes")


def read_voc(folder: str, split: str | None, image_root: str | None = None) -> FolderContent:
    """One split of a data set in Pascal VOC's format, or all of it.

    Args:
        folder: that holds ``Annotations``, or xml files beside their images.
        split: the name of a list in ``ImageSets/Main``; None for all annotations.
        image_root: folder of the images, if they are not in ``JPEGImages``.

    Raises:
        InputError: one sentence, if there is no such split, no annotation, or no class.
    """
    return _Reader(voc_layout(folder, image_root)).read(split)


def read_voc_classes(folder: str) -> list[str]:
    """Those of a list beside ``Annotations`` or, without one, those that the annotations have, sorted.

    Raises:
        InputError: if there are none.
    """
    return _Reader(voc_layout(folder, None)).class_names


class _Reader:
    """One data set; a tree, or why there is none, of each annotation by its path without ending."""

    def __init__(self, layout: VocLayout):
        self._layout = layout
        self._paths = xml_files(layout.annotations)
        paths = tuple(self._paths.values())
        trees = _read_trees(paths, state_of_files(paths))
        self._trees = dict(zip(self._paths, trees, strict=True))
        self.class_names = self._find_class_names()
        self._numbers = {name: number for number, name in enumerate(self.class_names)}
        self._builder = ContentBuilder(layout.root, self.class_names)

    def read(self, split: str | None) -> FolderContent:
        layout, builder = self._layout, self._builder
        wanted: dict[str, int | None] = dict.fromkeys(self._paths)
        list_file = ""
        if split is not None:
            list_file = os.path.join(layout.sets, f"{split}.txt")
            wanted = self._listed(list_file, split)
            builder.files.append(list_file)
        if not wanted:
            where = "" if split is None else f" in its split {split!r}"
            raise InputError(f"{layout.root} has no annotation{where}")
        images, file_names = ImageNames(layout.images), {}
        for stem in sorted(wanted):
            path, tree = self._path(stem), self._trees.get(stem)
            if isinstance(tree, Element):
                file_names[stem] = images.of(path, stem, tree, builder)
            elif tree is None:
                absent = f"{stem} has no annotation {builder.origin(path)}"
                builder.reject(MALFORMED_IMAGE, list_file, absent, line=wanted[stem])
            else:
                builder.reject(MALFORMED_IMAGE, path, tree)
        self._read_images(file_names)
        paths = [os.path.join(layout.images, name) for name in file_names.values()]
        lists = [os.path.join(layout.root, name) for name in _CLASS_LISTS]
        builder.files += [layout.annotations, layout.images, *lists, *self._paths.values(), *paths]
        return builder.finished(layout.images)

    def _path(self, stem: str) -> str:
        return self._paths.get(stem) or os.path.join(self._layout.annotations, f"{stem}.xml")

    def _find_class_names(self) -> list[str]:
        for name in _CLASS_LISTS:
            path = os.path.join(self._layout.root, name)
            if os.path.isfile(path):
                names = _read_class_list(path)
                break
        else:
            trees = [tree for tree in self._trees.values() if isinstance(tree, Element)]
            found = {item.text_of("name") for tree in trees for item in tree.all("object")}
            names = sorted(filter(is_writable, found))
        unreadable = [(stem, tree) for stem, tree in self._trees.items() if isinstance(tree, str)]
        if not names and unreadable:
            stem, reason = unreadable[0]
            raise InputError(f"{self._path(stem)}: {reason}")
        if not names:
            raise InputError(
                f"{self._layout.root}: neither its annotations nor a {' or '.join(_CLASS_LISTS)} name a class"
            )
        return names

    def _listed(self, path: str, split: str) -> dict[str, int | None]:
        """Images of the split, and the line that names each."""
        if not os.path.isfile(path):
            known = ", ".join(split_names(self._layout.root)) or "none"
            raise InputError(
                f"{self._layout.root} has no split {split!r}: there is no {path} (there are: {known})"
            )
        wanted: dict[str, int | None] = {}
        try:
            for number, line in read_lines(path):
                stem = without_image_ending(line.replace("\\", "/"))
                head, _, last = line.rpartition(" ")
                # Lists of VOC's single classes say after each name whether the class is there.
                if stem not in self._trees and head and last in ("-1", "0", "1"):
                    stem = without_image_ending(head.strip())
                if stem in wanted:
                    said = f"{stem} stands in line {wanted[stem]}, too"
                    self._builder.reject(DUPLICATE_IMAGE, path, said, line=number)
                wanted.setdefault(stem, number)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return wanted

    def _read_images(self, file_names: dict[str, str]) -> None:
        sizes = {stem: _stated_size(self._trees[stem]) for stem in file_names}
        unknown = [stem for stem, size in sizes.items() if size is None]
        paths = [os.path.join(self._layout.images, file_names[stem]) for stem in unknown]
        sizes.update(zip(unknown, read_sizes(paths), strict=True))
        for stem, name in file_names.items():
            path, size = self._path(stem), sizes[stem]
            if isinstance(size, str):
                said = f"it states no size, and that of its image {name} cannot be read ({size})"
                self._builder.reject(UNREADABLE_IMAGE, path, said)
                continue
            self._builder.add_image(name, *size)
            for item in self._trees[stem].all("object"):
                self._read_object(item, path)

    def _read_object(self, item: Element, path: str) -> None:
        name, builder = item.text_of("name"), self._builder
        try:
            if not is_writable(name):
                raise InputError("its object has no name")
            box = _read_box(item.child("bndbox"))
        except InputError as error:
            said = str(error) if not name else f"its {show(name)} {error}"
            builder.reject(MALFORMED_ANNOTATION, path, said, line=item.line)
            return
        if name not in self._numbers:
            said = f"its object is a {show(name)}, which the list of classes does not have"
            builder.reject(UNKNOWN_CATEGORY, path, said, line=item.line)
            return
        is_difficult = item.text_of("difficult").lower() in _TRUE
        fields = {"ignore": 1} if is_difficult else {}
        builder.add_object(self._numbers[name], box, builder.origin(path, item.line), **fields)


@functools.lru_cache(maxsize=2)
def _read_trees(paths: tuple[str, ...], state: tuple) -> list[Element | str]:
    """Kept for the other splits of the same folder."""
    return [_read_tree(path) for path in paths]


def _read_tree(path: str) -> Element | str:
    try:
        tree = parse_xml(read_bytes(path))
    except InputError as error:
        return str(error)
    if tree.tag != "annotation":
        return f"it is no annotation of Pascal VOC: it begins with {show(tree.tag)}"
    return tree


def _read_class_list(path: str) -> list[str]:
    """One name a line; of CVAT's ``labelmap.txt`` what stands before the first colon, without the background."""
    try:
        lines = [line for _, line in read_lines(path) if not line.startswith("#")]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if os.path.basename(path) == "labelmap.txt":
        lines = [line.partition(":")[0] for line in lines]
        lines = [line for line in lines if line != "background"]
    return list(dict.fromkeys(lines))


def _read_box(corners: Element | None) -> list[float]:
    """COCO's (x, y, width, height) in pixels of VOC's corners.

    Raises:
        InputError: if there are not four numbers.
    """
    if corners is None:
        raise InputError("has no bndbox")
    values = []
    for key in _CORNERS:
        text = corners.text_of(key)
        value = _number(text)
        if value is None:
            said = f"has {key} {show(text)}, which is no number" if text else f"has no {key}"
            raise InputError(said)
        values.append(value)
    left, top, right, bottom = values
    return [left - 1, top - 1, right - left + 1, bottom - top + 1]


def _stated_size(tree: Element) -> tuple[int, int] | None:
    """(width, height) in pixels; None where it is not stated, or as 0, as some tools write it."""
    size = tree.child("size")
    if size is None:
        return None
    width, height = (_number(size.text_of(key)) or 0 for key in ("width", "height"))
    is_size = all(1 <= side < 2**31 and side.is_integer() for side in (width, height))
    return (int(width), int(height)) if is_size else None


def _number(text: str) -> float | None:
    """None of what is no finite number."""
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
