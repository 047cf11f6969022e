"""What in a data set may be meant so but is worth a look: no faults, and nothing that ``--fix`` touches."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator, Sequence

import numpy as np

from smca.data.checks.box_faults import find_box_doubts
from smca.data.image_files import BACKSLASH_ADVICE, is_file
from smca.data.sources.coco_tables import CocoTables

from .findings import Finding, finding, show_box
from .image_check import ImageState

# 12 bits in a file of 16 bits have a contrast of 15.
_LOW_CONTRAST = 16
_MANY, _MANY_SHARE = 3, 0.05


def find_hints(tables: CocoTables, root: str, states: Sequence[ImageState]) -> list[Finding]:
    """What there is of hints.

    Args:
        tables: of the readable records.
        root: the folder of the images.
        states: of the N image files; empty if they were not read.
    """
    names = tables.file_names
    return [
        hint
        for hint in (
            _doubled_files(names),
            _doubled_boxes(tables),
            *_doubtful_boxes(tables),
            _unused_classes(tables),
            _backslashes(names),
            _doubled_folder(names, root),
            *(_of_states(tables, states) if states else ()),
        )
        if hint is not None
    ]


def _doubled_files(names: Sequence[str]) -> Finding | None:
    again = [name for name, count in collections.Counter(names).items() if count > 1]
    advice = "An image with two records is trained on twice, each time with a part of its objects."
    return finding("file name used twice", len(again), again, advice) if again else None


def _doubled_boxes(tables: CocoTables) -> Finding | None:
    keys = np.column_stack([tables.image_index, tables.class_index, tables.boxes])
    rows = np.flatnonzero(np.isfinite(keys).all(axis=1) & ~tables.is_crowd)
    # The same objects stand one after the other, in the order of the file.
    order = rows[np.lexsort(keys[rows].T)]
    again = (keys[order[1:]] == keys[order[:-1]]).all(axis=1)
    doubled = np.sort(order[1:][again])
    if not doubled.size:
        return None
    texts = (f"{tables.describe(i)} in {tables.file_names[tables.image_index[i]]}" for i in doubled)
    advice = "The same box of the same class in the same image asks the model for two detections."
    return finding("box drawn twice", int(doubled.size), texts, advice)


def _doubtful_boxes(tables: CocoTables) -> Iterator[Finding]:
    if not tables.box_format.is_coco:
        # That is a fault, and says more.
        return
    for doubt in find_box_doubts(tables.boxes, tables.faults, ~tables.is_crowd):
        rows = np.flatnonzero(doubt.mask)
        texts = (show_box(tables, i) for i in rows)
        yield finding(doubt.kind, int(rows.size), texts, f"{doubt.sentence}.")


def _unused_classes(tables: CocoTables) -> Finding | None:
    used = np.bincount(tables.class_index[~tables.is_crowd], minlength=len(tables.class_names)) > 0
    unused = [name for name, is_used in zip(tables.class_names, used, strict=True) if not is_used]
    if not unused or not used.any():
        return None
    advice = "The model gets a class for each, and learns to predict none of them."
    return finding("class without objects", len(unused), unused, advice)


def _backslashes(names: Sequence[str]) -> Finding | None:
    found = [name for name in names if "\\" in name]
    advice = f"{BACKSLASH_ADVICE[0].upper()}{BACKSLASH_ADVICE[1:]}."
    return finding("backslash in a file name", len(found), found, advice) if found else None


def _doubled_folder(names: Sequence[str], root: str) -> Finding | None:
    """File names that repeat the folder's name, such as images/a.jpg in images/."""
    parent, folder = os.path.split(os.path.abspath(root))
    found = [
        name
        for name in names
        if name.startswith(f"{folder}/")
        and not is_file(os.path.join(root, name))
        and is_file(os.path.join(parent, name))
    ]
    advice = (
        f"The file names hold the folder already: give {parent or '.'} as the folder of the images."
    )
    return finding("folder named twice", len(found), found, advice) if found else None


def _of_states(tables: CocoTables, states: Sequence[ImageState]) -> Iterator[Finding]:
    names = tables.file_names
    first: dict[str, str] = {}
    again = []
    for name, state in zip(names, states, strict=True):
        # Empty tiles are all alike and no mistake.
        if state.size and state.contrast > _LOW_CONTRAST:
            other = first.setdefault(state.digest, name)
            if other != name:
                again.append(f"{name} is {other} again")
    if again:
        advice = "The same pixels under two names weigh twice, and in training and validation they spoil the numbers."
        yield finding("same picture twice", len(again), again, advice)
    black = [name for name, state in zip(names, states, strict=True) if state.has_8_bits_in_more]
    if black:
        advice = "They are black: 16 or 32 bits are scaled to 8, but all values are below 256. Convert them to 8 bits."
        yield finding("image without contrast, 8 bits stored in 16", len(black), black, advice)
    flat = [
        name
        for name, state in zip(names, states, strict=True)
        if state.size and state.contrast <= _LOW_CONTRAST and not state.has_8_bits_in_more
    ]
    if len(flat) >= _MANY and len(flat) >= _MANY_SHARE * len(states):
        advice = (
            "Training sees next to nothing in them. Values of 12 bits in files of 16 bits look so: scale them to the "
            "whole range of the file."
        )
        yield finding("image without contrast", len(flat), flat, advice)
    stored = [
        f"{name} is {state.size[0]}x{state.size[1]}"
        for name, state, (width, height) in zip(names, states, tables.sizes.tolist(), strict=True)
        if state.turned and state.size == (height, width) and width != height
    ]
    if stored:
        advice = (
            "Their EXIF data turns them, but the sizes, and so probably the boxes, are of the unturned picture: turn "
            "the files for good, or remove the orientation from them, whichever fits the boxes."
        )
        yield finding("size stated before the EXIF rotation", len(stored), stored, advice)
