from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from smca.device import copy_to
from smca.layers.precision import at_least_float32

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
        # Image by image: all layers of one image fit a processor's cache, those of the batch do not.
        costs = [
            self._cost(logits[:, index], boxes[:, index], target)
            for index, target in enumerate(targets)
        ]
        host = torch.cat([cost.flatten() for cost in costs]).cpu().numpy()
        offsets = np.cumsum([0] + [cost.numel() for cost in costs])
        parts = []
        for image, (start, stop) in enumerate(pairwise(offsets)):
            num_targets = (stop - start) // (num_layers * num_queries)
            per_layer = host[start:stop].reshape(num_targets, num_layers, num_queries)
            per_layer = per_layer.transpose(1, 2, 0)
            _check_finite(per_layer, image)
            pairs = np.stack([np.stack(linear_sum_assignment(cost)) for cost in per_layer])
            images = np.full_like(pairs[:, :1], image)
            parts.append(np.concatenate([images, pairs], axis=1))
        matches = np.concatenate(parts, axis=2).astype(np.int64)  # (L, 3, M)
        image, query, target = copy_to(torch.from_numpy(matches), logits.device).unbind(1)
        return Matches(image=image, query=query, target=target)

    @torch.no_grad()
    def cost(self, logits: Tensor, boxes: Tensor, target: Target) -> Tensor:
        """Cost of all pairs of one image: logits (L, Q, K), boxes (L, Q, 4), T targets -> (L, Q, T)."""
        return self._cost(logits, boxes, target).permute(1, 2, 0)

    def _cost(self, logits: Tensor, boxes: Tensor, target: Target) -> Tensor:
        """Of one image as in :meth:`cost`, but (T, L, Q): the long dimension last makes element-wise steps fast.

        So does working in place: fresh memory costs more than the arithmetic.
        """
        shape = (-1, *boxes.shape[:2])
        found = at_least_float32(boxes).flatten(0, 1).T.contiguous()  # (4, L * Q)
        wanted = target.boxes.to(found.dtype).T[..., None]  # (4, T, 1)
        l1_cost = _sum_of_distances(found, wanted)
        iou, giou = _iou_and_giou(found, wanted)
        iou_of_pairs = ()
        if getattr(self.classification, "uses_iou", False):
            iou_of_pairs = (iou.view(shape).permute(1, 2, 0),)
        class_cost = self.classification.matching_cost(
            at_least_float32(logits), target.labels, *iou_of_pairs
        )
        box_cost = l1_cost.mul_(self.box_weight).sub_(giou.mul_(self.giou_weight))
        return self.class_weight * class_cost.permute(2, 0, 1) + box_cost.view(shape)


def _sum_of_distances(found: Tensor, wanted: Tensor) -> Tensor:
    """L1 distance of boxes (4, N) and (4, T, 1), coordinates first -> (T, N)."""
    total = (found[0] - wanted[0]).abs_()
    for a, b in zip(found[1:], wanted[1:], strict=True):
        total += (a - b).abs_()
    return total


def _iou_and_giou(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes (4, N) and (4, T, 1) as (cx, cy, w, h), coordinates first -> (T, N) each."""
    (low, high), (other_low, other_high) = _corners(found), _corners(wanted)
    common, enclosing = 1.0, 1.0
    for axis in range(2):
        first, other = (low[axis], high[axis]), (other_low[axis], other_high[axis])
        overlap = torch.minimum(first[1], other[1]).sub_(torch.maximum(first[0], other[0]))
        extent = torch.maximum(first[1], other[1]).sub_(torch.minimum(first[0], other[0]))
        common = overlap.clamp_(min=0).mul_(common)
        enclosing = extent.clamp_(min=0).mul_(enclosing)
    area, other_area = (high - low).prod(0), (other_high - other_low).prod(0)
    union = (area + other_area).sub_(common)
    iou = common.div_(union)
    return iou, union.sub_(enclosing).div_(enclosing).add_(iou)


def _corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    half = boxes[2:] * 0.5
    return boxes[:2] - half, boxes[:2] + half


def _check_finite(costs: np.ndarray, image: int) -> None:
    finite = np.isfinite(costs).all(axis=(1, 2))
    if not finite.all():
        raise FloatingPointError(
            f"the matching cost of image {image} of the batch is not finite in decoder layer "
            f"{int(np.argmin(finite))}: the model's outputs or the image's boxes hold NaN or infinity"
        )
