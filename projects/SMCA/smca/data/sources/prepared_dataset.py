"""From the columns of a data set to what is trained and evaluated on, and one line that says what was left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from detectron2.structures import BoxMode

from smca.data.checks.box_doubts import find_box_doubts
from smca.data.checks.box_format import BoxFormat, find_box_format
from smca.data.checks.coco_faults import BoxFaults, clip_boxes, find_box_faults
from smca.errors import InputError

from .coco_tables import CocoTables

# A resized image has rounded sides: its aspect may differ by that much from the stated one.
_ROUNDED_PIXELS = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedDataset:
    """N images and M objects of ``tables``, and what becomes of them.

    Attributes:
        name: of the data set.
        tables: as the data set has them.
        paths: (N,) of the image files.
        sizes: (N, 2) float64 (width, height) in pixels of the images as they are, inf where unknown.
        keep_image: (N,) bool. An image whose aspect is not the stated one is left out: nobody knows which pixels
            its boxes mean.
        keep_object: (M,) bool, crowds included. Boxes that nothing can be learned from are left out.
        boxes: (M, 4) float64 (x, y, width, height) in pixels of the images as they are: scaled where the file has
            another resolution than stated, then cut at the image's edges.
        ground_truth: (M, 4) float64, scaled but not cut, for the evaluation.
        areas: (M,) float64 in pixels of the images as they are, for the evaluation.
        faults: of the scaled boxes.
        box_format: the likely one of the data set's boxes.
        scaled: how many images have another resolution than stated.
    """

    name: str
    tables: CocoTables
    paths: list[str]
    sizes: np.ndarray
    keep_image: np.ndarray
    keep_object: np.ndarray
    boxes: np.ndarray
    ground_truth: np.ndarray
    areas: np.ndarray
    faults: BoxFaults
    box_format: BoxFormat
    scaled: int

    def records(self) -> list[dict]:
        """Detectron2's dataset dicts, images in the order of their ids, objects in the order of the file."""
        tables = self.tables
        objects: list[list[dict]] = [[] for _ in tables.image_ids]
        chosen = np.flatnonzero(self.keep_object)
        columns = zip(
            tables.image_index[chosen].tolist(),
            self.boxes[chosen].tolist(),
            tables.class_index[chosen].tolist(),
            tables.is_crowd[chosen].tolist(),
            strict=True,
        )
        for image, box, label, crowd in columns:
            objects[image].append(
                {
                    "iscrowd": int(crowd),
                    "bbox": box,
                    "category_id": label,
                    "bbox_mode": BoxMode.XYWH_ABS,
                }
            )
        kept = np.flatnonzero(self.keep_image).tolist()
        return [
            {
                "file_name": self.paths[i],
                "height": int(self.sizes[i, 1]),
                "width": int(self.sizes[i, 0]),
                "image_id": tables.image_ids[i],
                "annotations": objects[i],
            }
            for i in sorted(kept, key=lambda i: tables.image_ids[i])
        ]

    def summary(self) -> str:
        """Such as "pets: 12 images (3 without objects), 40 objects of 2 classes; dropped: 1 box without area"."""
        tables, faults = self.tables, self.faults
        in_kept = self.keep_image[tables.image_index]
        trained = self.keep_object & ~tables.is_crowd
        with_objects = np.zeros(len(tables.image_ids), dtype=bool)
        with_objects[tables.image_index[trained]] = True
        empty = int((self.keep_image & ~with_objects).sum())
        images = int(self.keep_image.sum())
        text = (
            f"{self.name}: {_count(images, 'image')} ({empty} without objects), "
            f"{_count(int(trained.sum()), 'object')} of {_count(len(tables.class_names), 'class', 'classes')}"
        )
        objects = in_kept & ~tables.is_crowd
        dropped = [
            (int((~self.keep_image).sum()), "image of another shape", "images of another shape"),
            (int((objects & faults.not_finite).sum()), "box not finite", "boxes not finite"),
            (int((objects & faults.without_area).sum()), "box without area", "boxes without area"),
            (int((objects & faults.outside).sum()), "box outside", "boxes outside the image"),
            (tables.of_unknown_images, "box of no image", "boxes of images that it does not have"),
            (int((in_kept & tables.is_crowd).sum()), "crowd", "crowds"),
        ]
        told = [_count(*entry) for entry in dropped if entry[0]]
        if told:
            text += f"; dropped: {', '.join(told)}"
        clipped = int((objects & faults.partly_outside).sum())
        if clipped:
            text += f"; clipped: {_count(clipped, 'box', 'boxes')}"
        if self.scaled:
            text += f"; scaled: boxes of {_count(self.scaled, 'image')} of another size than stated"
        return text

    def warnings(self) -> list[str]:
        """Sentences about what training can do nothing about, but the user should know."""
        said = []
        if not self.box_format.is_coco:
            said.append(f"{self.name}: {_wrong_format(self.box_format)}")
        else:
            counted = self.keep_image[self.tables.image_index] & ~self.tables.is_crowd
            doubts = find_box_doubts(self.ground_truth, self.faults, counted)
            said += [
                f"{self.name}: {doubt.sentence}; check with smca-check-dataset" for doubt in doubts
            ]
        if not (self.keep_object & ~self.tables.is_crowd).any():
            said.append(f"{self.name} has no object to learn from")
        return said


def prepare(
    name: str, tables: CocoTables, paths: Sequence[str], actual_sizes: np.ndarray | None = None
) -> PreparedDataset:
    """
    Args:
        name: of the data set.
        tables: what it says.
        paths: (N,) of its image files.
        actual_sizes: (N, 2) float64 (width, height) in pixels of the files; None trusts what the data set says.

    Raises:
        InputError: if no image is left, or boxes are shares of the image's size, of which nothing could be learned.
    """
    stated = tables.sizes
    if actual_sizes is not None:
        stated = np.where(np.isfinite(stated), stated, actual_sizes)
    box_format = find_box_format(tables.boxes, stated[tables.image_index])
    if box_format.normalised:
        raise InputError(f"{name}: {_wrong_format(box_format)}")
    keep_image = np.ones(len(paths), dtype=bool)
    sizes, factor = tables.sizes, np.ones((len(paths), 2))
    differs = np.zeros(len(paths), dtype=bool)
    if actual_sizes is not None:
        differs = (actual_sizes != sizes).any(axis=1) & np.isfinite(sizes).all(axis=1)
        keep_image = ~differs | same_aspect(sizes, actual_sizes)
        if not keep_image.any():
            (said_w, said_h), (width, height) = sizes[0].astype(int), actual_sizes[0].astype(int)
            raise InputError(
                f"every image of {name} has another shape than the data set says, the first is {paths[0]}: "
                f"{width}x{height} instead of {said_w}x{said_h} (width x height, turned as its EXIF data says)"
            )
        scaled = differs & keep_image
        factor[scaled] = actual_sizes[scaled] / sizes[scaled]
        sizes = actual_sizes
    boxes, areas = tables.boxes, tables.areas
    if factor.size and (factor != 1).any():
        boxes = boxes * np.tile(factor, 2)[tables.image_index]
        areas = areas * factor.prod(axis=1)[tables.image_index]
    faults = find_box_faults(boxes, sizes[tables.image_index])
    return PreparedDataset(
        name=name,
        tables=tables,
        paths=list(paths),
        sizes=sizes,
        keep_image=keep_image,
        keep_object=keep_image[tables.image_index] & ~faults.unusable,
        boxes=clip_boxes(boxes, sizes[tables.image_index]),
        ground_truth=boxes,
        areas=areas,
        faults=faults,
        box_format=box_format,
        scaled=int((differs & keep_image).sum()),
    )


def _wrong_format(box_format: BoxFormat) -> str:
    advice = "check with smca-check-dataset, whose --fix can also rewrite them"
    if box_format.layout is None:
        advice = "multiply them by the image's size, and check with smca-check-dataset"
    return f"its boxes look like {box_format.describe()}, but COCO's are (x, y, width, height) in pixels; {advice}"


def same_aspect(stated: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """(N,) bool: whether an image may be a resized version of one of the stated size, sides rounded.

    Args:
        stated, actual: (N, 2) float64 (width, height) in pixels.
    """
    lowest = ((actual - _ROUNDED_PIXELS) / stated).max(axis=1)
    highest = ((actual + _ROUNDED_PIXELS) / stated).min(axis=1)
    return lowest <= highest


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
