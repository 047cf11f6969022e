"""A detection data set as columns, whether it came from a COCO json or from the user's own code."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Sequence

import numpy as np

from smca.checkpoint.loading.class_rows import NamedClasses
from smca.data.checks.box_faults import BoxFaults, find_box_faults
from smca.data.checks.box_format import BoxFormat, find_box_format
from smca.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class CocoTables:
    """N images, M objects (crowds among them) and K classes; every index is within its column.

    Attributes:
        image_ids: (N,) of the data set, all numbers or all strings.
        file_names: (N,) as the data set gives them.
        sizes: (N, 2) float64 stated (width, height) in pixels; inf where nothing is stated.
        class_ids: (K,) the data set's category ids; None for a class that it does not have.
        class_names: (K,) all different.
        annotation_ids: (M,) as they are, None where there is none.
        positions: (M,) int64, place of the object in the data set's list, from 0.
        image_index: (M,) int64.
        class_index: (M,) int64.
        boxes: (M, 4) float64 (x, y, width, height) in pixels, unchecked: not finite, negative, anywhere.
        areas: (M,) float64 in pixels, as COCO's evaluation takes them to tell small from large.
        is_crowd: (M,) bool.
        of_unknown_images: annotations left out since no image has their image_id.
        unknown_image_examples: sentences about the first of them.
        from_json: whether annotations were records of a file.
        has_annotations: False for a file without a list of annotations, such as COCO's test sets.
        origins: (M,) file and line of each object, where annotations are many files.
        notes: sentences about what became of something that another reader may take otherwise.
    """

    image_ids: list
    file_names: list[str]
    sizes: np.ndarray
    class_ids: list
    class_names: list[str]
    annotation_ids: list
    positions: np.ndarray
    image_index: np.ndarray
    class_index: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray
    of_unknown_images: int = 0
    unknown_image_examples: tuple[str, ...] = ()
    from_json: bool = False
    has_annotations: bool = True
    origins: list[str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def object_sizes(self) -> np.ndarray:
        """(M, 2) float64 (width, height) in pixels of each object's image."""
        return self.sizes[self.image_index]

    @functools.cached_property
    def faults(self) -> BoxFaults:
        """Of the boxes."""
        return find_box_faults(self.boxes, self.object_sizes)

    @functools.cached_property
    def box_format(self) -> BoxFormat:
        """The likely one of the boxes."""
        return find_box_format(self.boxes, self.object_sizes)

    def with_classes(self, names: Sequence[str], *, label: str, other: str) -> CocoTables:
        """The same objects with the classes of another data set, matched by name.

        Args:
            names: its classes, in its order.
            label, other: what this and the other data set are called in messages.

        Raises:
            InputError: if an object has a class that is not among ``names``, or two classes of objects are the same
                one there. Classes without objects are let go.
        """
        names = list(names)
        if names == self.class_names:
            return self
        number = match_classes(self.class_names, names)
        used = np.bincount(self.class_index, minlength=len(self.class_names)) > 0
        first: dict[int, str] = {}
        for index, name in enumerate(self.class_names):
            if used[index] and name in number and first.setdefault(number[name], name) != name:
                raise InputError(
                    f"{label} has objects of the categories {first[number[name]]!r} and {name!r}, which are both "
                    f"{names[number[name]]!r} in {other}; make them one category"
                )
            if used[index] and name not in number:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
                hint = f"; is it {near[0]!r} there?" if near else ""
                raise InputError(
                    f"{label} has objects of category {name!r} (id {self.class_ids[index]}), which {other} does not "
                    f"have{hint} Give both files the same category names"
                )
        ids: list = [None] * len(names)
        # Those with objects last, for they have the place.
        for index in np.argsort(used, kind="stable").tolist():
            name = self.class_names[index]
            if name in number:
                ids[number[name]] = self.class_ids[index]
        new_index = np.array([number.get(name, 0) for name in self.class_names], dtype=np.int64)
        return dataclasses.replace(
            self, class_ids=ids, class_names=names, class_index=new_index[self.class_index]
        )

    def id_map(self) -> dict:
        """The data set's category id -> class, of the classes that it has."""
        return {
            class_id: index for index, class_id in enumerate(self.class_ids) if class_id is not None
        }

    def describe(self, index: int) -> str:
        """Names an object in messages."""
        if self.origins is not None:
            return self.origins[index]
        return f"annotation {self.positions[index]} (id {self.annotation_ids[index]})"


def match_classes(names: Sequence[str], known: Sequence[str]) -> dict[str, int]:
    """Place among ``known`` of each name that is there.

    Names are compared as for the rows of a checkpoint, except that a name which is there letter by letter is that one.
    """
    exact = {name: index for index, name in enumerate(known)}
    rows = NamedClasses(source=tuple(known), target=tuple(names)).rows()
    places = {name: exact.get(name, row) for name, row in zip(names, rows, strict=True)}
    return {name: place for name, place in places.items() if place is not None}


def distinct_names(names: Sequence[str], ids: Sequence) -> list[str]:
    """Of two categories of one name the last keeps it: exporters write a placeholder before the real class."""
    last = {name: index for index, name in enumerate(names)}
    return [
        name if last[name] == index else f"{name} (id {ids[index]})"
        for index, name in enumerate(names)
    ]


def describe_difference(first: Sequence[str], second: Sequence[str]) -> str:
    """Says in a few words how two lists of class names differ; empty if they do not."""
    if list(first) == list(second):
        return ""
    only_first = [name for name in first if name not in set(second)]
    only_second = [name for name in second if name not in set(first)]
    if not only_first and not only_second:
        return (
            f"the same names in another order, {', '.join(first[:5])} and {', '.join(second[:5])}"
        )
    parts = [
        f"only the {place} has {', '.join(map(repr, some[:5]))}{' ...' if len(some) > 5 else ''}"
        for place, some in (("first", only_first), ("second", only_second))
        if some
    ]
    return " and ".join(parts)
