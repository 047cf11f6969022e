from dataclasses import dataclass

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
        ends = np.cumsum([cost.numel() for cost in costs])[:-1]
        per_image = [x.reshape(-1, num_layers, num_queries) for x in np.split(host, ends)]
        if not np.isfinite(host).all():
            raise FloatingPointError(_where_not_finite(per_image))
        parts = []
        for index, of_image in enumerate(per_image):
            # (L, 2, M), targets and queries: scipy would turn round a matrix with more rows than columns.
            pairs = np.array([linear_sum_assignment(cost) for cost in of_image.swapaxes(0, 1)])
            parts.append(np.concatenate([np.full_like(pairs[:, :1], index), pairs], axis=1))
        matches = np.concatenate(parts, axis=2).astype(np.int64)  # (L, 3, M)
        order = np.argsort(matches[:, :1] * num_queries + matches[:, 2:], axis=2)
        matches = np.take_along_axis(matches, order, axis=2)
        image, target, query = copy_to(torch.from_numpy(matches), logits.device).unbind(1)
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
        cost = _sum_of_distances(self.box_weight * found, self.box_weight * wanted)
        iou, giou = _iou_and_giou(found, wanted)
        iou_of_pairs = ()
        if getattr(self.classification, "uses_iou", False):
            iou_of_pairs = (iou.view(shape).permute(1, 2, 0),)
        class_cost = self.classification.matching_cost(
            at_least_float32(logits), target.labels, *iou_of_pairs
        )
        cost = cost.sub_(giou, alpha=self.giou_weight).view(shape)
        return cost.add_(class_cost.permute(2, 0, 1), alpha=self.class_weight)


def _sum_of_distances(found: Tensor, wanted: Tensor) -> Tensor:
    """L1 distance of boxes (4, N) and (4, T, 1), coordinates first -> (T, N)."""
    total = (found[0] - wanted[0]).abs_()
    for a, b in zip(found[1:], wanted[1:], strict=True):
        total += (a - b).abs_()
    return total


def _iou_and_giou(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes (4, N) and (4, T, 1) as (cx, cy, w, h), coordinates first -> (T, N) each."""
    (low, high), (other_low, other_high) = _corners(found), _corners(wanted)
    # From the corners, as what boxes share is: with other roundings the IoU of equal boxes would be above 1.
    sides, other_sides = high - low, other_high - other_low
    shared, whole = [], []
    for axis in range(2):
        overlap = torch.minimum(high[axis], other_high[axis])
        overlap.sub_(torch.maximum(low[axis], other_low[axis]))
        # Both sides together less what they share, which is negative where they lie apart.
        whole.append((sides[axis] + other_sides[axis]).sub_(overlap))
        shared.append(overlap.clamp_(min=0))
    common, enclosing = (extents[0].mul_(extents[1]) for extents in (shared, whole))
    area, other_area = sides.prod(0), other_sides.prod(0)
    union = (area + other_area).sub_(common)
    iou = common.div_(union)
    return iou, union.sub_(enclosing).div_(enclosing).add_(iou)


def _corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    half = boxes[2:] * 0.5
    return boxes[:2] - half, boxes[:2] + half


def _where_not_finite(costs: list[np.ndarray]) -> str:
    """A sentence of the first layer of the first image that has a cost (T, L, Q) which is not finite."""
    finite = [np.isfinite(of_image).all(axis=(0, 2)) for of_image in costs]
    image = next(index for index, layers in enumerate(finite) if not layers.all())
    return (
        f"the matching cost of image {image} of the batch is not finite in decoder layer "
        f"{int(np.argmin(finite[image]))}: the model's outputs or the image's boxes hold NaN or infinity"
    )
