"""Where the files of a data set in Pascal VOC's format are."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import PurePosixPath
from typing import NamedTuple

from .folder_content import DUPLICATE_IMAGE, ContentBuilder, is_image_name, walk
from .xml_tree import Element

_ANNOTATIONS, _IMAGES, _SETS = "Annotations", "JPEGImages", os.path.join("ImageSets", "Main")


class VocLayout(NamedTuple):
    """Paths of a data set; some tools write everything into one folder."""

    root: str
    annotations: str
    images: str

    @property
    def sets(self) -> str:
        return os.path.join(self.root, _SETS)


def is_voc(folder: str) -> bool:
    """Whether there are ``Annotations``, or xml files of its own."""
    if os.path.isdir(os.path.join(folder, _ANNOTATIONS)):
        return True
    try:
        return any(name.lower().endswith(".xml") for name in os.listdir(folder))
    except OSError:
        return False


def split_names(folder: str) -> list[str]:
    """Lists of ``ImageSets/Main``."""
    try:
        names = os.listdir(os.path.join(folder, _SETS))
    except OSError:
        return []
    return sorted(name[:-4] for name in names if name.endswith(".txt"))


def voc_layout(folder: str, image_root: str | None) -> VocLayout:
    annotations, images = (os.path.join(folder, name) for name in (_ANNOTATIONS, _IMAGES))
    if not os.path.isdir(annotations):
        annotations = images = folder
    elif not os.path.isdir(images):
        images = next(
            (p for n in ("images", "Images") if os.path.isdir(p := os.path.join(folder, n))), images
        )
    return VocLayout(folder, annotations, image_root or images)


def xml_files(folder: str) -> dict[str, str]:
    """Path of each xml file by its path without ending, relative to the folder."""
    files = {}
    for below, names in walk(folder):
        for name in names:
            if name.lower().endswith(".xml"):
                path = os.path.join(below, name)
                files[os.path.relpath(path, folder)[:-4]] = path
    return files


class ImageNames:
    """Which file is meant by an annotation: the one of its name, whatever the ending, before what stands in it."""

    def __init__(self, folder: str):
        self._by_stem = defaultdict(list)
        for below, names in walk(folder):
            for name in filter(is_image_name, names):
                path = os.path.relpath(os.path.join(below, name), folder)
                self._by_stem[os.path.splitext(path)[0]].append(path)

    def of(self, path: str, stem: str, tree: Element, builder: ContentBuilder) -> str:
        """Relative to the folder; one that is not there is told later, with all others.

        Args:
            path: of the annotation.
            stem: its path below the annotations, without ending.
            tree: its content.
            builder: that is told if several files may be meant.
        """
        stated = PurePosixPath(tree.text_of("filename").replace("\\", "/")).name
        fitting = self._by_stem.get(stem, [])
        named = [name for name in fitting if os.path.basename(name) == stated]
        if len(fitting) > 1 and not named:
            builder.reject(
                DUPLICATE_IMAGE,
                path,
                f"it may be of {' or '.join(fitting)}: its filename must say which",
            )
        by_name = self._by_stem.get(os.path.splitext(stated)[0], [])
        others = [name for name in by_name if name == stated]
        return (named or fitting or others or [stated if is_image_name(stated) else f"{stem}.jpg"])[
            0
        ]
