"""Counts and distributions of a data set's objects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from smca.data.sources.coco_tables import CocoTables

from .findings import objects_per_image

COCO_AREAS = (32**2, 96**2)
"""COCO's borders between small, medium and large, in pixels."""


class Statistics(NamedTuple):
    """Of the boxes with an area that are finite and overlap their image, crowds aside; U of them.

    Attributes:
        images, empty_images, objects, crowds: how many; empty are images without such an object.
        class_names: (K,).
        objects_of_class, images_of_class: (K,) int64.
        side: (U,) float64, square root of the box's area in pixels.
        aspect: (U,) float64, width over height.
        objects_in_image: (N,) int64.
        image_sizes: (N, 2) float64 stated (width, height) in pixels.
    """

    images: int
    empty_images: int
    objects: int
    crowds: int
    class_names: list[str]
    objects_of_class: np.ndarray
    images_of_class: np.ndarray
    side: np.ndarray
    aspect: np.ndarray
    objects_in_image: np.ndarray
    image_sizes: np.ndarray

    def share_by_size(self) -> tuple[float, float, float]:
        """Shares of small, medium and large boxes, as COCO tells them apart."""
        if not self.side.size:
            return (0.0, 0.0, 0.0)
        small, medium = ((self.side**2 < border).mean() for border in COCO_AREAS)
        return (float(small), float(medium - small), float(1 - medium))


def describe(tables: CocoTables) -> Statistics:
    usable = ~tables.faults.unusable & ~tables.is_crowd
    classes, images = tables.class_index[usable], tables.image_index[usable]
    count = len(tables.class_names)
    pairs = np.unique(images * count + classes)
    width, height = tables.boxes[usable, 2], tables.boxes[usable, 3]
    with np.errstate(over="ignore"):
        side = np.sqrt(width) * np.sqrt(height)
        aspect = width / height
    return Statistics(
        images=len(tables.image_ids),
        empty_images=int((np.bincount(images, minlength=len(tables.image_ids)) == 0).sum()),
        objects=int(usable.sum()),
        crowds=int(tables.is_crowd.sum()),
        class_names=tables.class_names,
        objects_of_class=np.bincount(classes, minlength=count),
        images_of_class=np.bincount(pairs % count, minlength=count),
        side=side,
        aspect=aspect,
        objects_in_image=objects_per_image(tables),
        image_sizes=tables.sizes,
    )
