"""From the columns of a data set to what is trained and evaluated on, and one line that says what was left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from detectron2.structures import BoxMode

from smca.data.checks.box_faults import clip_boxes, find_box_doubts
from smca.data.checks.box_format import BoxFormat
from smca.errors import InputError

from .coco_tables import CocoTables

# A resized image has rounded sides: its aspect may differ by that much from the stated one.
_ROUNDED_PIXELS = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class UsableDataset:
    """N images and M objects of ``tables``, and which of them can be used.

    Attributes:
        name: of the data set.
        tables: in pixels of the images as they are: where a file has another resolution than stated, size, boxes and
            areas are scaled to it. Boxes are not cut.
        paths: (N,) of the image files.
        keep_image: (N,) bool. An image whose aspect is not the stated one is left out: nobody knows which pixels
            its boxes mean.
        box_format: the likely one of the data set's boxes.
        scaled: how many images have another resolution than stated.
    """

    name: str
    tables: CocoTables
    paths: list[str]
    keep_image: np.ndarray
    box_format: BoxFormat
    scaled: int

    @property
    def keep_object(self) -> np.ndarray:
        """(M,) bool, crowds included. Boxes that nothing can be learned from are left out."""
        return self.keep_image[self.tables.image_index] & ~self.tables.faults.unusable

    @property
    def boxes(self) -> np.ndarray:
        """(M, 4) float64 (x, y, width, height) to train on, cut at the image's edges."""
        return clip_boxes(self.tables.boxes, self.tables.object_sizes)

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
                "height": int(tables.sizes[i, 1]),
                "width": int(tables.sizes[i, 0]),
                "image_id": tables.image_ids[i],
                "annotations": objects[i],
            }
            for i in sorted(kept, key=lambda i: tables.image_ids[i])
        ]

    def summary(self) -> str:
        """Such as "pets: 12 images (3 without objects), 40 objects of 2 classes; dropped: 1 box without area"."""
        tables, faults = self.tables, self.tables.faults.named()
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
        faulty = {
            kind: int((mask & in_kept & ~tables.is_crowd).sum()) for kind, mask in faults.items()
        }
        clipped = faulty.pop("partly outside the image")
        dropped = [
            (int((~self.keep_image).sum()), "image of another shape", "images of another shape"),
            *((count, f"box {kind}", f"boxes {kind}") for kind, count in faulty.items()),
            (tables.of_unknown_images, "box of no image", "boxes of images that it does not have"),
            (int((in_kept & tables.is_crowd).sum()), "crowd", "crowds"),
        ]
        told = [_count(*entry) for entry in dropped if entry[0]]
        if told:
            text += f"; dropped: {', '.join(told)}"
        if clipped:
            text += f"; clipped: {_count(clipped, 'box', 'boxes')}"
        if self.scaled:
            text += f"; scaled: boxes of {_count(self.scaled, 'image')} of another size than stated"
        return text

    def warnings(self) -> list[str]:
        """Sentences about what training can do nothing about, but the user should know."""
        said = [f"{self.name}: {note}" for note in self.tables.notes]
        if not self.box_format.is_coco:
            said.append(f"{self.name}: {_wrong_format(self.box_format)}")
        else:
            counted = self.keep_image[self.tables.image_index] & ~self.tables.is_crowd
            doubts = find_box_doubts(self.tables.boxes, self.tables.faults, counted)
            said += [
                f"{self.name}: {doubt.sentence}; check with smca-check-dataset" for doubt in doubts
            ]
        if not (self.keep_object & ~self.tables.is_crowd).any():
            said.append(f"{self.name} has no object to learn from")
        return said


def select_usable(
    name: str, tables: CocoTables, paths: Sequence[str], actual_sizes: np.ndarray | None = None
) -> UsableDataset:
    """What of a data set can be used.

    Args:
        name: of the data set.
        tables: what it says.
        paths: (N,) of its image files.
        actual_sizes: (N, 2) float64 (width, height) in pixels of the files; None trusts what the data set says.

    Raises:
        InputError: if no image is left, or boxes are shares of the image's size, of which nothing could be learned.
    """
    sizes, keep_image, scaled = tables.sizes, np.ones(len(paths), dtype=bool), 0
    if actual_sizes is not None:
        tables = dataclasses.replace(
            tables, sizes=np.where(np.isfinite(sizes), sizes, actual_sizes)
        )
    box_format = tables.box_format
    if box_format.normalised:
        raise InputError(f"{name}: {_wrong_format(box_format)}")
    if actual_sizes is not None:
        keep_image = same_aspect(tables.sizes, actual_sizes)
        if not keep_image.any():
            (said_w, said_h), (width, height) = sizes[0].astype(int), actual_sizes[0].astype(int)
            raise InputError(
                f"every image of {name} has another shape than the data set says, the first is {paths[0]}: "
                f"{width}x{height} instead of {said_w}x{said_h} (width x height, turned as its EXIF data says)"
            )
        scaled = int(((actual_sizes != tables.sizes).any(axis=1) & keep_image).sum())
        tables = _scaled(tables, actual_sizes, keep_image)
    return UsableDataset(name, tables, list(paths), keep_image, box_format, scaled)


def _scaled(tables: CocoTables, sizes: np.ndarray, mask: np.ndarray) -> CocoTables:
    """With other sizes of the images, and in images of the mask with other boxes and areas."""
    factor = np.where(mask[:, None], sizes / tables.sizes, 1.0)
    boxes, areas = tables.boxes, tables.areas
    if (factor != 1).any():
        boxes = boxes * np.tile(factor, 2)[tables.image_index]
        areas = areas * factor.prod(axis=1)[tables.image_index]
    return dataclasses.replace(tables, sizes=sizes, boxes=boxes, areas=areas)


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
