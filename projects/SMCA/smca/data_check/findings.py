"""What is wrong with a data set's annotations, counted by kind."""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from smca.data.checks.box_format import BoxFormat, Layout
from smca.data.sources import coco_repairs as repairs
from smca.data.sources.coco_records import UNKNOWN_IMAGE, CocoFile
from smca.data.sources.coco_tables import CocoTables

MAX_EXAMPLES = 20


class Finding(NamedTuple):
    """A kind of fault or hint.

    Attributes:
        kind: short name.
        count: how often.
        remedy: what ``--fix`` does about it, or else what the user can do.
        fixable: whether ``--fix`` does it.
        examples: sentences or names of records, the first few.
    """

    kind: str
    count: int
    remedy: str
    fixable: bool
    examples: list[str]


def wrong_format(box_format: BoxFormat) -> str:
    """The kind of fault of a data set whose boxes look like another format than COCO's."""
    return f"boxes look like {box_format.describe()}"


_OTHER_FORMATS = [
    BoxFormat(layout, normalised) for normalised in (False, True) for layout in Layout
][1:]
REMEDIES = {
    repairs.WHOLE_NUMBER_AS_TEXT.kind: "writes it as a number",
    repairs.NUMBER_AS_ID.kind: "writes it as the other ids are",
    repairs.NUMBER_AS_NAME.kind: "writes it as text",
    repairs.FIVE_NUMBERS.kind: "takes the four that are the box where that is clear, else leaves out the annotation",
    repairs.BOX_IN_SEGMENTATION.kind: "takes the box around the segmentation",
    "malformed image": "leaves out the image and its annotations",
    "malformed annotation": "leaves out the annotation",
    "malformed category": "leaves out the category and its annotations",
    "duplicate image id": "leaves out the second image; the annotations stay with the first",
    "duplicate category id": "leaves out the second category",
    "category name used twice": "renames all but the last",
    "unknown category": "leaves out the annotation",
    UNKNOWN_IMAGE: "leaves out the annotation",
    "annotation without id": "gives it an id",
    "duplicate annotation id": "gives the later ones new ids",
    **dict.fromkeys(
        map(wrong_format, _OTHER_FORMATS), "rewrites all boxes as (x, y, width, height) in pixels"
    ),
    "box not finite": "leaves out the annotation",
    "box without area": "leaves out the annotation",
    "box outside the image": "leaves out the annotation",
    "box partly outside the image": "cuts it at the image's edge",
    "missing image file": "leaves out the image and its annotations",
    "unreadable image file": "leaves out the image and its annotations",
    "image of another size": "scales the boxes if the shape is the same, else leaves out the image",
}
"""What ``--fix`` does about each kind of fault that it can do something about."""

TOO_MANY_OBJECTS = "more objects than queries"
NO_OBJECTS = "no object to learn from"


def found(
    kind: str, rows: Sequence, show: Callable[[Any], str] = str, remedy: str = ""
) -> list[Finding]:
    """One finding, or none where there is no row.

    Args:
        kind: of fault or hint.
        rows: what has it, such as numbers of objects.
        show: names a row.
        remedy: what can be done where ``--fix`` does nothing.
    """
    if not len(rows):
        return []
    examples = [show(row) for row in rows[:MAX_EXAMPLES]]
    fixable = kind in REMEDIES
    return [Finding(kind, len(rows), REMEDIES.get(kind, remedy), fixable, examples)]


def joined(findings: Sequence[Finding]) -> list[Finding]:
    """Those of one kind as one, in the order of the first of them."""
    by_kind: dict[str, Finding] = {}
    for one in findings:
        known = by_kind.get(one.kind)
        if known is not None:
            examples = [*known.examples, *one.examples][:MAX_EXAMPLES]
            one = one._replace(count=known.count + one.count, examples=examples)
        by_kind[one.kind] = one
    return list(by_kind.values())


def find_lack_of_objects(tables: CocoTables) -> list[Finding]:
    """Of a data set without any object to train on."""
    if not tables.is_crowd.all():
        return []
    crowds = len(tables.is_crowd)
    said = f"all {crowds} objects are crowds (iscrowd or ignore is 1), which training leaves out"
    if not tables.has_annotations:
        said = "the file has no list 'annotations'"
    elif not crowds:
        said = "the list 'annotations' is empty"
    remedy = "annotate objects; nothing can be learned without"
    return [Finding(NO_OBJECTS, len(tables.image_ids), remedy, fixable=False, examples=[said])]


def find_record_faults(file: CocoFile) -> list[Finding]:
    """Records that cannot be read, and ids that do not fit together."""
    by_kind = collections.defaultdict(list)
    for problem in file.problems:
        by_kind[problem.kind].append(problem.sentence)
    faults = {kind: found(kind, by_kind[kind]) for kind in REMEDIES}
    unknown = file.tables.of_unknown_images
    if unknown:
        (fault,) = faults[UNKNOWN_IMAGE] or found(UNKNOWN_IMAGE, file.tables.unknown_image_examples)
        faults[UNKNOWN_IMAGE] = [fault._replace(count=unknown)]
    renamed = [f"{old!r}, here called {new!r}" for old, new in file.renamed]
    return [*itertools.chain(*faults.values()), *found("category name used twice", renamed)]


def find_annotation_faults(tables: CocoTables, *, num_queries: int) -> list[Finding]:
    """Ids, boxes and numbers of objects.

    Args:
        tables: of the readable records.
        num_queries: of the model; an image with more objects cannot be detected whole.
    """
    faults, ids = [], tables.annotation_ids
    # The user's own code gives no ids, and needs none.
    if tables.from_json and not set(map(type, ids)) <= {int, str}:
        absent = [i for i, value in enumerate(ids) if not is_id(value)]
        faults += found("annotation without id", absent, tables.describe)
    faults += found("duplicate annotation id", repeated_ids(ids), tables.describe)
    box = functools.partial(show_box, tables)
    if not tables.box_format.is_coco:
        remedy = "multiply them by the image's size; nothing tells whether they start at a corner or at the centre"
        faults += found(wrong_format(tables.box_format), range(len(tables.boxes)), box, remedy)
    for kind, mask in tables.faults.named().items():
        faults += found(f"box {kind}", np.flatnonzero(mask), box)
    counts = objects_per_image(tables)
    crowded = np.flatnonzero(counts > num_queries)
    return faults + found(
        TOO_MANY_OBJECTS,
        crowded[np.argsort(-counts[crowded], kind="stable")],
        lambda i: (
            f"image (id {tables.image_ids[i]}) {tables.file_names[i]} has {counts[i]} objects"
        ),
        f"set model.decoder.num_queries above {counts.max(initial=0)}, it is {num_queries}",
    )


def objects_per_image(tables: CocoTables) -> np.ndarray:
    """(N,) int64, crowds not counted."""
    return np.bincount(
        tables.image_index[~tables.is_crowd], minlength=len(tables.image_ids)
    ).astype(np.int64)


def repeated_ids(ids: Sequence) -> list[int]:
    """Places of ids that stood before, in order; what is no id at all is passed over."""
    if set(map(type, ids)) <= {int} and len(set(ids)) == len(ids):
        return []
    seen: set = set()
    places = []
    for place, value in enumerate(ids):
        if not is_id(value):
            continue
        if value in seen:
            places.append(place)
        seen.add(value)
    return places


def is_id(value) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def show_box(tables: CocoTables, index: int) -> str:
    """Names an object, its box and its image."""
    image = tables.image_index[index]
    box = ", ".join(f"{v:.6g}" for v in tables.boxes[index])
    size = "x".join(f"{v:.0f}" for v in tables.sizes[image])
    return f"{tables.describe(index)} [{box}] in {tables.file_names[image]} ({size})"
