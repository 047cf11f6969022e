"""What is wrong with a data set's annotations, counted by kind."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

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


def finding(kind: str, count: int, examples: Iterable[str], remedy: str = "") -> Finding:
    fixable = kind in REMEDIES
    shown = [text for text, _ in zip(examples, range(MAX_EXAMPLES), strict=False)]
    return Finding(kind, count, REMEDIES[kind] if fixable else remedy, fixable, shown)


def find_lack_of_objects(tables: CocoTables) -> list[Finding]:
    """Of a data set without any object to train on."""
    if not tables.is_crowd.all():
        return []
    crowds = int(tables.is_crowd.sum())
    said = f"all {crowds} objects are crowds (iscrowd or ignore is 1), which training leaves out"
    if not tables.has_annotations:
        said = "the file has no list 'annotations'"
    elif not crowds:
        said = "the list 'annotations' is empty"
    remedy = "annotate objects; nothing can be learned without"
    return [finding(NO_OBJECTS, len(tables.image_ids), [said], remedy)]


def find_record_faults(file: CocoFile) -> list[Finding]:
    """Records that cannot be read, and ids that do not fit together."""
    found = []
    by_kind = collections.defaultdict(list)
    for problem in file.problems:
        by_kind[problem.kind].append(problem.sentence)
    counts = {kind: len(sentences) for kind, sentences in by_kind.items()}
    if file.tables.of_unknown_images:
        counts[UNKNOWN_IMAGE] = file.tables.of_unknown_images
        by_kind[UNKNOWN_IMAGE] = by_kind[UNKNOWN_IMAGE] or file.tables.unknown_image_examples
    for kind in REMEDIES:
        if kind in counts:
            found.append(finding(kind, counts[kind], by_kind[kind]))
    if file.renamed:
        sentences = [f"{old!r}, here called {new!r}" for old, new in file.renamed]
        found.append(finding("category name used twice", len(sentences), sentences))
    return found


def find_annotation_faults(tables: CocoTables, *, num_queries: int) -> list[Finding]:
    """Ids, boxes and numbers of objects.

    Args:
        tables: of the readable records.
        num_queries: of the model; an image with more objects cannot be detected whole.
    """
    found = _find_id_faults(tables)
    if not tables.box_format.is_coco:
        examples = (show_box(tables, i) for i in range(len(tables.boxes)))
        remedy = "multiply them by the image's size; nothing tells whether they start at a corner or at the centre"
        found.append(finding(wrong_format(tables.box_format), len(tables.boxes), examples, remedy))
    for kind, mask in tables.faults.named().items():
        rows = np.flatnonzero(mask)
        if rows.size:
            examples = (show_box(tables, i) for i in rows)
            found.append(finding(f"box {kind}", int(rows.size), examples))
    counts = objects_per_image(tables)
    crowded = np.flatnonzero(counts > num_queries)
    if crowded.size:
        order = crowded[np.argsort(-counts[crowded], kind="stable")]
        examples = (
            f"image (id {tables.image_ids[i]}) {tables.file_names[i]} has {counts[i]} objects"
            for i in order
        )
        remedy = f"set model.decoder.num_queries above {counts.max()}, it is {num_queries}"
        found.append(finding(TOO_MANY_OBJECTS, int(crowded.size), examples, remedy))
    return found


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


def _find_id_faults(tables: CocoTables) -> list[Finding]:
    found = []
    ids = tables.annotation_ids
    absent = []
    # The user's own code gives no ids, and needs none.
    if tables.from_json and not set(map(type, ids)) <= {int, str}:
        absent = [i for i, value in enumerate(ids) if not is_id(value)]
    if absent:
        found.append(
            finding("annotation without id", len(absent), (tables.describe(i) for i in absent))
        )
    again = repeated_ids(ids)
    if again:
        found.append(
            finding("duplicate annotation id", len(again), (tables.describe(i) for i in again))
        )
    return found


def show_box(tables: CocoTables, index: int) -> str:
    """Names an object, its box and its image."""
    image = tables.image_index[index]
    box = ", ".join(f"{v:.6g}" for v in tables.boxes[index])
    size = "x".join(f"{v:.0f}" for v in tables.sizes[image])
    return f"{tables.describe(index)} [{box}] in {tables.file_names[image]} ({size})"
