"""The ground truth of a data set in memory, as pycocotools takes it."""

from __future__ import annotations

import contextlib
import io
import logging
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO

from smca.data.sources.detection_dataset import loaded_dataset

logger = logging.getLogger(__name__)


class GroundTruth(NamedTuple):
    """Images, categories and annotations are numbered from 1: evaluation in C++ takes no other ids, and the original
    takes an object of id 0 for a missed one.

    Attributes:
        coco: under these numbers. An image's "path" is that of its file once the data set has been loaded.
        image_numbers: number of each of the data set's image ids.
        category_numbers: number of each of its category ids, in the order of the ids.
        category_names: of each of its category ids.
        has_annotations: False where there is nothing to compare with.
    """

    coco: COCO
    image_numbers: dict
    category_numbers: dict
    category_names: dict
    has_annotations: bool


def load_ground_truth(name: str) -> GroundTruth:
    """
    All boxes count as the data set has them, also those that training cannot use, so that numbers are those of any
    other evaluation of the same file; only boxes that are not finite, and images of another shape than stated, are
    left out.

    Args:
        name: a registered data set, a COCO json or the user's own code; it need not have been loaded.

    Raises:
        InputError: if its annotations cannot be read.
    """
    dataset = loaded_dataset(name)
    tables = dataset.tables
    images = np.flatnonzero(dataset.keep_image).tolist()
    image_numbers = {tables.image_ids[i]: number for number, i in enumerate(images, start=1)}
    known = [
        (class_id, class_name)
        for class_id, class_name in zip(tables.class_ids, tables.class_names, strict=True)
        if class_id is not None
    ]
    names = dict(sorted(known, key=lambda entry: entry[0]))
    numbers = {class_id: number for number, class_id in enumerate(names, start=1)}
    kept = dataset.keep_image[tables.image_index] & ~tables.faults.not_finite
    chosen = np.flatnonzero(kept)
    columns = zip(
        tables.image_index[chosen].tolist(),
        tables.class_index[chosen].tolist(),
        tables.boxes[chosen].tolist(),
        tables.areas[chosen].tolist(),
        tables.is_crowd[chosen].tolist(),
        strict=True,
    )
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": number, "file_name": tables.file_names[i], "path": dataset.paths[i]}
            for number, i in enumerate(images, start=1)
        ],
        "categories": [{"id": numbers[k], "name": names[k]} for k in names],
        "annotations": [
            {
                "id": number,
                "image_id": image_numbers[tables.image_ids[image]],
                "category_id": numbers[tables.class_ids[label]],
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image, label, box, area, crowd) in enumerate(columns, start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    unmatched = int((kept & tables.faults.unusable & ~tables.is_crowd).sum())
    if unmatched:
        logger.warning(
            "%s: %d boxes have no area or lie outside their image; nothing can match them, so they count as missed. "
            "smca-check-dataset --fix leaves them out.",
            name, unmatched,
        )  # fmt: skip
    return GroundTruth(coco, image_numbers, numbers, names, tables.has_annotations)
