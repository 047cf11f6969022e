from collections.abc import Mapping
from typing import Any

from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import box_convert

from smca.errors import InputError

from .classification import Classification


class Postprocessor:
    """The best detections of each image, as the classification selects them.

    A subclass whose heads have more outputs adds fields with :meth:`more_fields`.
    """

    def __init__(self, *, classification: Classification, max_detections: int = 100):
        """
        Args:
            classification: the model's.
            max_detections: most detections of an image.

        Raises:
            InputError: for a limit below 1.
        """
        if type(max_detections) is not int or max_detections < 1:
            raise InputError(f"max_detections is {max_detections!r}, it must be at least 1")
        self.classification = classification
        self.max_detections = max_detections

    def __call__(
        self, outputs: Mapping[str, Tensor], image_sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """The best detections of each image.

        Args:
            outputs: of the last decoder layer, "pred_logits" (B, Q, K), "pred_boxes" (B, Q, 4) as (cx, cy, w, h) in
                [0, 1], and whatever else the heads give.
            image_sizes: (height, width) in pixels the boxes are scaled to.

        Returns:
            Per image, by falling score, ``pred_boxes`` (xyxy in pixels), ``scores`` and ``pred_classes``.
        """
        scores, classes, queries = self.classification.select(
            outputs["pred_logits"], self.max_detections
        )
        boxes = outputs["pred_boxes"]
        # One copy to the device, not one per image.
        scales = boxes.new_tensor([(w, h, w, h) for h, w in image_sizes])[:, None]
        corners = box_convert(boxes, "cxcywh", "xyxy") * scales
        return [
            Instances(
                size,
                pred_boxes=Boxes(corners[index, queries[index]]),
                scores=scores[index],
                pred_classes=classes[index],
                **self.more_fields(outputs, index, queries[index]),
            )
            for index, size in enumerate(image_sizes)
        ]

    def more_fields(
        self, outputs: Mapping[str, Tensor], image: int, queries: Tensor
    ) -> dict[str, Any]:
        """Further fields of an image's ``Instances``, for the (D,) queries of its detections in their order."""
        return {}
