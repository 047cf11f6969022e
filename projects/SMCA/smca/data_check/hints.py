"""What in a data set may be meant so but is worth a look: no faults, and nothing that ``--fix`` touches."""

from __future__ import annotations

import collections
import functools
import os
from collections.abc import Iterator, Sequence

import numpy as np

from smca.data.checks.box_faults import find_box_doubts
from smca.data.image_files import BACKSLASH_ADVICE, is_file
from smca.data.sources.coco_tables import CocoTables

from .findings import Finding, found, show_box
from .image_check import ImageState

# 12 bits in a file of 16 bits have a contrast of 15.
_LOW_CONTRAST = 16
_MANY, _MANY_SHARE = 3, 0.05

_DOUBLED_FILE = (
    "An image with two records is trained on twice, each time with a part of its objects."
)
_DOUBLED_BOX = "The same box of the same class in the same image asks the model for two detections."
_UNUSED_CLASS = "The model gets a class for each, and learns to predict none of them."
_SAME_PICTURE = "The same pixels under two names weigh twice, and in training and validation they spoil the numbers."
_8_BITS_IN_16 = "They are black: 16 or 32 bits are scaled to 8, but all values are below 256. Convert them to 8 bits."
_NO_CONTRAST = (
    "Training sees next to nothing in them. Values of 12 bits in files of 16 bits look so: scale them to the whole "
    "range of the file."
)
_BEFORE_ROTATION = (
    "Their EXIF data turns them, but the sizes, and so probably the boxes, are of the unturned picture: turn the files "
    "for good, or remove the orientation from them, whichever fits the boxes."
)


def find_hints(tables: CocoTables, root: str, states: Sequence[ImageState]) -> list[Finding]:
    """What there is of hints.

    Args:
        tables: of the readable records.
        root: the folder of the images.
        states: of the N image files; empty if they were not read.
    """
    names = tables.file_names
    doubled = [name for name, count in collections.Counter(names).items() if count > 1]
    return [
        *found("how it was read", tables.notes),
        *found("file name used twice", doubled, remedy=_DOUBLED_FILE),
        *_doubled_boxes(tables),
        *_doubtful_boxes(tables),
        *_unused_classes(tables),
        *found(
            "backslash in a file name",
            [name for name in names if "\\" in name],
            remedy=f"{BACKSLASH_ADVICE[0].upper()}{BACKSLASH_ADVICE[1:]}.",
        ),
        *_doubled_folder(names, root),
        *(_of_states(tables, states) if states else ()),
    ]


def _doubled_boxes(tables: CocoTables) -> list[Finding]:
    rows = np.flatnonzero(np.isfinite(tables.boxes).all(axis=1) & ~tables.is_crowd)
    columns = [c[rows] for c in (tables.image_index, tables.class_index, *tables.boxes.T)]
    # The same objects stand one after the other, in the order of the file.
    order = np.lexsort(columns)
    again = np.all([c[order[1:]] == c[order[:-1]] for c in columns], axis=0)
    doubled = np.sort(rows[order[1:][again]])

    def show(index: int) -> str:
        return f"{tables.describe(index)} in {tables.file_names[tables.image_index[index]]}"

    return found("box drawn twice", doubled, show, _DOUBLED_BOX)


def _doubtful_boxes(tables: CocoTables) -> Iterator[Finding]:
    if not tables.box_format.is_coco:
        # That is a fault, and says more.
        return
    for doubt in find_box_doubts(tables.boxes, tables.faults, ~tables.is_crowd):
        show = functools.partial(show_box, tables)
        yield from found(doubt.kind, np.flatnonzero(doubt.mask), show, f"{doubt.sentence}.")


def _unused_classes(tables: CocoTables) -> list[Finding]:
    used = np.bincount(tables.class_index[~tables.is_crowd], minlength=len(tables.class_names)) > 0
    if not used.any():
        return []
    unused = np.flatnonzero(~used)
    return found("class without objects", unused, tables.class_names.__getitem__, _UNUSED_CLASS)


def _doubled_folder(names: Sequence[str], root: str) -> list[Finding]:
    """File names that repeat the folder's name, such as images/a.jpg in images/."""
    parent, folder = os.path.split(os.path.abspath(root))
    doubled = [
        name
        for name in names
        if name.startswith(f"{folder}/")
        and not is_file(os.path.join(root, name))
        and is_file(os.path.join(parent, name))
    ]
    advice = (
        f"The file names hold the folder already: give {parent or '.'} as the folder of the images."
    )
    return found("folder named twice", doubled, remedy=advice)


def _of_states(tables: CocoTables, states: Sequence[ImageState]) -> list[Finding]:
    first: dict[str, str] = {}
    again, black, flat, stored = [], [], [], []
    sizes = tables.sizes.tolist()
    for name, state, (width, height) in zip(tables.file_names, states, sizes, strict=True):
        if state.has_8_bits_in_more:
            black.append(name)
        elif state.size and state.contrast <= _LOW_CONTRAST:
            flat.append(name)
        # Empty tiles are all alike and no mistake.
        if state.size and state.contrast > _LOW_CONTRAST:
            other = first.setdefault(state.digest, name)
            if other != name:
                again.append(f"{name} is {other} again")
        if state.turned and state.size == (height, width) and width != height:
            stored.append(f"{name} is {state.size[0]}x{state.size[1]}")
    if len(flat) < max(_MANY, _MANY_SHARE * len(states)):
        flat = []
    return [
        *found("same picture twice", again, remedy=_SAME_PICTURE),
        *found("image without contrast, 8 bits stored in 16", black, remedy=_8_BITS_IN_16),
        *found("image without contrast", flat, remedy=_NO_CONTRAST),
        *found("size stated before the EXIF rotation", stored, remedy=_BEFORE_ROTATION),
    ]
