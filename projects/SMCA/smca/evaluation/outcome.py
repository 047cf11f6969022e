"""What an evaluation found, for those that look closer than its numbers do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from .ground_truth import GroundTruth


@dataclasses.dataclass(frozen=True, eq=False)
class Boxes:
    """N boxes of a data set's images, detections or objects.

    Attributes:
        images: (N,) int64, numbers of images in :class:`GroundTruth`, from 1.
        classes: (N,) int64 in 0 .. K-1, categories in the order of their ids.
        boxes: (N, 4) float64 (x, y, width, height) in pixels of the image.
        scores: (N,) float64 in [0, 1]; 1 for objects.
        ignored: (N,) bool; crowds and others that evaluation neither demands nor counts as false. No detection is.
        crowds: (N,) bool.
    """

    images: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    ignored: np.ndarray
    crowds: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: np.ndarray) -> Boxes:
        """Those of a mask or of indices."""
        columns = (getattr(self, field.name)[index] for field in dataclasses.fields(self))
        return Boxes(*columns)

    @classmethod
    def from_annotations(cls, annotations: Sequence[Mapping]) -> Boxes:
        """Of records as pycocotools keeps them, whose numbers of images and categories count from 1."""
        crowds = np.array([bool(a.get("iscrowd", 0)) for a in annotations], dtype=bool)
        areas = np.array([a["area"] for a in annotations], dtype=float)
        is_object = np.array(["score" not in a for a in annotations], dtype=bool)
        # Beyond COCO's range of "all" areas.
        beyond = is_object & ((areas < 0) | (areas > 1e10))
        return cls(
            images=np.array([a["image_id"] for a in annotations], dtype=np.int64),
            classes=np.array([a["category_id"] for a in annotations], dtype=np.int64) - 1,
            boxes=np.array([a["bbox"] for a in annotations], dtype=float).reshape(-1, 4),
            scores=np.array([a.get("score", 1.0) for a in annotations], dtype=float),
            ignored=crowds | beyond,
            crowds=crowds,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class CocoOutcome:
    """One evaluation of N detections on K categories, at T IoU and R recall thresholds.

    Attributes:
        dataset_name: registered name.
        numbers: AP, AP50, ..., ARl in percent, as ``CocoEvaluator.evaluate`` returns them.
        class_ap: AP in percent by class, also those that the data set has no category for; NaN without an object.
        class_names: (K,) of the categories.
        precision: (T, R, K) in [0, 1], over objects of all sizes; -1 for a category without objects.
        iou_thresholds, recall_thresholds: (T,), (R,) in [0, 1].
        max_detections: per image and class that were looked at.
        image_numbers: of the evaluated images, in the order of the evaluation.
        detections: of all images.
        truth: of the data set.
    """

    dataset_name: str
    numbers: Mapping[str, float]
    class_ap: Mapping[str, float]
    class_names: tuple[str, ...]
    precision: np.ndarray
    iou_thresholds: np.ndarray
    recall_thresholds: np.ndarray
    max_detections: int
    image_numbers: tuple[int, ...]
    detections: Boxes
    truth: GroundTruth

    def objects(self) -> Boxes:
        """Of the evaluated images."""
        found = Boxes.from_annotations(self.truth.coco.dataset["annotations"])
        return found[np.isin(found.images, self.image_numbers)]
