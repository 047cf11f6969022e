from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import box_convert


class FocalPostprocessor:
    """Independent sigmoids: the best (query, class) pairs, without NMS. A query may answer with several classes."""

    def __init__(self, *, max_detections: int = 100):
        self.max_detections = _checked(max_detections)

    def __call__(
        self, logits: Tensor, boxes: Tensor, image_sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """
        Args:
            logits: (B, Q, K) of the last decoder layer.
            boxes: (B, Q, 4) as (cx, cy, w, h) in [0, 1].
            image_sizes: (height, width) in pixels the boxes are scaled to.

        Returns:
            Per image, by falling score, ``pred_boxes`` (xyxy in pixels), ``scores`` and ``pred_classes``.
        """
        num_classes = logits.shape[-1]
        pair_scores = logits.sigmoid().flatten(1)
        scores, pairs = pair_scores.topk(min(self.max_detections, pair_scores.shape[1]), dim=1)
        return _make_instances(
            scores, pairs % num_classes, pairs // num_classes, boxes, image_sizes
        )


class SoftmaxPostprocessor:
    """Cross entropy: each query answers with its best class, "no object" left out."""

    def __init__(self, *, max_detections: int = 100):
        self.max_detections = _checked(max_detections)

    def __call__(
        self, logits: Tensor, boxes: Tensor, image_sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """As :meth:`FocalPostprocessor.__call__`; the last of the K outputs is "no object"."""
        query_scores, query_classes = logits.softmax(-1)[..., :-1].max(-1)
        scores, queries = query_scores.topk(min(self.max_detections, logits.shape[1]), dim=1)
        return _make_instances(
            scores, query_classes.gather(1, queries), queries, boxes, image_sizes
        )


def _checked(max_detections: int) -> int:
    if type(max_detections) is not int or max_detections < 1:
        raise ValueError(f"max_detections is {max_detections!r}, it must be at least 1")
    return max_detections


def _make_instances(
    scores: Tensor,
    classes: Tensor,
    queries: Tensor,
    boxes: Tensor,
    image_sizes: list[tuple[int, int]],
) -> list[Instances]:
    # One copy to the device, not one per image.
    scales = boxes.new_tensor([(w, h, w, h) for h, w in image_sizes])[:, None]
    corners = box_convert(boxes, "cxcywh", "xyxy") * scales
    return [
        Instances(
            size,
            pred_boxes=Boxes(corners[index, queries[index]]),
            scores=scores[index],
            pred_classes=classes[index],
        )
        for index, size in enumerate(image_sizes)
    ]
