"""Reads a data set in YOLO's format: ``images/...`` beside ``labels/...``, a text file for each image.

A line is ``class cx cy width height``, centre and size in shares of the image's width and height. An image without a
text file has no objects, as Ultralytics has it. A line with a polygon counts as the box around it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from smca.data.image_files import MISSING, read_sizes
from smca.errors import InputError

from .folder_content import (
    DUPLICATE_IMAGE,
    MALFORMED_ANNOTATION,
    MALFORMED_IMAGE,
    MISSING_IMAGE,
    UNKNOWN_CATEGORY,
    UNREADABLE_IMAGE,
    ContentBuilder,
    FolderContent,
    read_lines,
)
from .yolo_yaml import YoloYaml, read_yolo_yaml

_ROUNDING = 0.01
"""Shares that a number may lie outside of [0, 1]; the box is cut at the image's edge."""
_BOX_NUMBERS = 4
_FEWEST_POLYGON_NUMBERS = 6


def read_yolo(path: str, split: str) -> FolderContent:
    """One split of a data set in YOLO's format.

    Args:
        path: the ``data.yaml``, or its folder.
        split: "train", "val" or "test".

    Raises:
        InputError: one sentence, if the yaml cannot be used, an image list cannot be read, there is no image at all,
            or no image has a text file.
    """
    return _Reader(read_yolo_yaml(path), split).read()


class _Reader:
    """One split, from the yaml to its content."""

    def __init__(self, yolo: YoloYaml, split: str):
        self._yolo = yolo
        self._split = split
        self._polygons = 0
        self._builder = ContentBuilder(yolo.root(), yolo.class_names, first_id=0)

    def read(self) -> FolderContent:
        yolo, builder = self._yolo, self._builder
        listed = {
            os.path.abspath(p): (source, n) for p, source, n in yolo.listed_images(self._split)
        }
        if not listed:
            raise InputError(
                f"{yolo.path}: there is no image in {self._split!r}, which is {', '.join(yolo.places[self._split])}"
            )
        images = self._without_shared_labels(sorted(listed))
        labels = [label_file(image) for image in images]
        if not any(map(os.path.isfile, labels)):
            raise InputError(
                f"{yolo.path}: none of the {len(images)} images of {self._split!r} has a file of labels; that of "
                f"{images[0]} would be {labels[0]}"
            )
        for image, label, size in zip(images, labels, read_sizes(images), strict=True):
            if isinstance(size, str):
                source, line = listed[image]
                kind = MISSING_IMAGE if size == MISSING else UNREADABLE_IMAGE
                builder.reject(kind, source if line else image, f"{image} {_why(size)}", line=line)
                continue
            self._read_image(image, label, size)
        is_list = any(line is not None for _, line in listed.values())
        self._note_the_rest(images, labels, is_list=is_list)
        folders = {os.path.dirname(p) for p in (*images, *labels)}
        sources = {source for source, _ in listed.values()}
        builder.files += [yolo.path, *sorted(sources | folders), *images, *labels]
        return builder.finished(yolo.root())

    def _without_shared_labels(self, images: Sequence[str]) -> list[str]:
        """Of ``a.jpg`` and ``a.png`` the first: nobody knows whose objects those of ``a.txt`` are."""
        first: dict[str, str] = {}
        for image in images:
            other = first.setdefault(label_file(image), image)
            if other != image:
                same = self._builder.origin(other)
                label = self._builder.origin(label_file(image))
                self._builder.reject(
                    DUPLICATE_IMAGE,
                    image,
                    f"its labels are {label}, which are those of {same}, too",
                )
        return list(first.values())

    def _read_image(self, image: str, label: str, size: tuple[int, int]) -> None:
        builder = self._builder
        try:
            lines = list(read_lines(label)) if os.path.lexists(label) else []
        except InputError as error:
            builder.reject(MALFORMED_IMAGE, label, str(error))
            return
        builder.add_image(os.path.relpath(image, builder.root), *size)
        for number, line in lines:
            self._read_line(label, number, line, size)

    def _read_line(self, path: str, number: int, line: str, size: tuple[int, int]) -> None:
        builder, names = self._builder, self._yolo.class_names
        try:
            label, box = parse_line(line)
        except InputError as error:
            builder.reject(MALFORMED_ANNOTATION, path, str(error), line=number)
            return
        if not 0 <= label < len(names):
            builder.reject(
                UNKNOWN_CATEGORY,
                path,
                f"has class {label}, but names in {os.path.basename(self._yolo.path)} has {len(names)} classes "
                f"(0 to {len(names) - 1})",
                line=number,
            )
            return
        self._polygons += len(line.split()) > 1 + _BOX_NUMBERS
        (cx, cy, w, h), (width, height) = box, size
        pixels = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
        builder.add_object(label, pixels, builder.origin(path, number))

    def _note_the_rest(
        self, images: Sequence[str], labels: Sequence[str], *, is_list: bool
    ) -> None:
        """What another reader may take otherwise; a list of images may leave out what it likes."""
        notes = self._builder.notes
        if self._polygons:
            notes.append(
                f"polygons (segmentation), of which the boxes around them are read: {self._polygons} lines"
            )
        folders = {os.path.dirname(p) for p in labels} - {os.path.dirname(p) for p in images}
        known = {*labels, *(os.path.join(folder, "classes.txt") for folder in folders)}
        alone = [
            path
            for folder in sorted(filter(os.path.isdir, folders if not is_list else ()))
            for name in sorted(os.listdir(folder))
            if name.endswith(".txt") and (path := os.path.join(folder, name)) not in known
        ]
        if alone:
            first = self._builder.origin(alone[0])
            notes.append(
                f"files of labels without an image, left out: {len(alone)}, the first is {first}"
            )


def label_file(image: str) -> str:
    """As Ultralytics has it: the last folder "images" of the path becomes "labels"; without one it lies beside."""
    head, middle, tail = os.path.abspath(image).rpartition(f"{os.sep}images{os.sep}")
    path = f"{head}{os.sep}labels{os.sep}{tail}" if middle else tail
    return f"{os.path.splitext(path)[0]}.txt"


def parse_line(line: str) -> tuple[int, tuple[float, float, float, float]]:
    """Class, from 0, and (cx, cy, width, height) in [0, 1] of a line.

    Raises:
        InputError: what is wrong with it, without its place.
    """
    words = line.split()
    try:
        if "_" in line:
            raise ValueError
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise InputError(
            f"has {line[:50]!r} instead of numbers with blanks between them"
        ) from error
    count = len(numbers) - 1
    is_polygon = count >= _FEWEST_POLYGON_NUMBERS and count % 2 == 0
    if count != _BOX_NUMBERS and not is_polygon:
        advice = " (is the last one a score? These are predictions)" if count == 5 else ""
        raise InputError(
            f"has {len(numbers)} numbers instead of a class and a box (5), or a class and a polygon{advice}"
        )
    if not numbers[0].is_integer():
        raise InputError(f"has class {words[0][:20]}, which is no whole number")
    for word, value in zip(words[1:], numbers[1:], strict=True):
        # NaN fails, too.
        if not -_ROUNDING <= value <= 1 + _ROUNDING:
            said = "has {}, but boxes are in shares of the image, 0 to 1"
            raise InputError(said.format(word[:20]))
    box = tuple(numbers[1:])
    return int(numbers[0]), _around(box) if is_polygon else box


def _around(polygon: Sequence[float]) -> tuple[float, float, float, float]:
    """Polygons are cut at the image's edge, as the box of an object that goes on beyond it."""
    xs, ys = polygon[::2], polygon[1::2]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return (min(xs) + width / 2, min(ys) + height / 2, width, height)


def _why(error: str) -> str:
    return "does not exist" if error == MISSING else f"cannot be read ({error})"
