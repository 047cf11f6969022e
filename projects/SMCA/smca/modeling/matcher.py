from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou, generalized_box_iou

from .classification import Classification
from .records import Target


@dataclass(frozen=True)
class Matches:
    """Matched pairs of all L layers, M per layer (every layer matches equally many), images in order.

    Attributes:
        image: (L, M) int64 index of the image.
        query: (L, M) int64 index of the query, ascending inside an image.
        target: (L, M) int64 index into the image's own targets.
    """

    image: Tensor
    query: Tensor
    target: Tensor


class HungarianMatcher:
    """One-to-one assignment of queries to objects with the least total cost, for all layers and images at once.

    The cost of a pair is the classification cost, the L1 distance of (cx, cy, w, h) and minus the GIoU, weighted.
    Costs of the whole batch are computed on the device and copied to the host once.
    """

    def __init__(
        self,
        *,
        classification: Classification,
        class_weight: float = 2.0,
        box_weight: float = 5.0,
        giou_weight: float = 2.0,
    ):
        self.classification = classification
        self.class_weight = class_weight
        self.box_weight = box_weight
        self.giou_weight = giou_weight

    @torch.no_grad()
    def __call__(self, logits: Tensor, boxes: Tensor, targets: list[Target]) -> Matches:
        """Pair queries with objects, in every layer and image on their own.

        Args:
            logits: (L, B, Q, K).
            boxes: (L, B, Q, 4) as (cx, cy, w, h) in [0, 1].
            targets: B targets; an image may have none, or more than Q, of which Q are then matched.

        Raises:
            FloatingPointError: if a cost is not finite, naming layer and image.
        """
        # Here, since only training needs it and it takes a third of a second.
        from scipy.optimize import linear_sum_assignment

        num_layers, _, num_queries, _ = logits.shape
        costs = [
            self.cost(logits[:, index], boxes[:, index], target)
            for index, target in enumerate(targets)
        ]
        host = torch.cat([cost.flatten() for cost in costs]).cpu().numpy()
        offsets = np.cumsum([0] + [cost.numel() for cost in costs])
        parts = []
        for image, (start, stop) in enumerate(pairwise(offsets)):
            per_layer = host[start:stop].reshape(num_layers, num_queries, -1)
            _check_finite(per_layer, image)
            pairs = np.stack([np.stack(linear_sum_assignment(cost)) for cost in per_layer])
            images = np.full_like(pairs[:, :1], image)
            parts.append(np.concatenate([images, pairs], axis=1))
        matches = np.concatenate(parts, axis=2).astype(np.int64)  # (L, 3, M)
        image, query, target = torch.from_numpy(matches).to(logits.device).unbind(1)
        return Matches(image=image, query=query, target=target)

    def cost(self, logits: Tensor, boxes: Tensor, target: Target) -> Tensor:
        """Cost of all pairs of one image: logits (L, Q, K), boxes (L, Q, 4), T targets -> (L, Q, T)."""
        num_layers, num_queries, _ = logits.shape
        flat = boxes.flatten(0, 1)
        wanted = target.boxes.to(flat.dtype)
        l1_cost = torch.cdist(flat, wanted, p=1)
        corners = box_convert(flat, "cxcywh", "xyxy"), box_convert(wanted, "cxcywh", "xyxy")
        if getattr(self.classification, "uses_iou", False):
            iou = box_iou(*corners).view(num_layers, num_queries, -1)
            class_cost = self.classification.matching_cost(logits, target.labels, iou)
        else:
            class_cost = self.classification.matching_cost(logits, target.labels)
        giou = generalized_box_iou(*corners)
        box_cost = self.box_weight * l1_cost - self.giou_weight * giou
        return self.class_weight * class_cost + box_cost.view(num_layers, num_queries, -1)


def _check_finite(costs: np.ndarray, image: int) -> None:
    finite = np.isfinite(costs).all(axis=(1, 2))
    if not finite.all():
        raise FloatingPointError(
            f"the matching cost of image {image} of the batch is not finite in decoder layer "
            f"{int(np.argmin(finite))}: the model's outputs or the image's boxes hold NaN or infinity"
        )
