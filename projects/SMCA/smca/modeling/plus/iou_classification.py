from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from smca.errors import InputError

from ..classification import FocalClassification, one_hot_of


@dataclass(frozen=True, kw_only=True)
class IouClassification(FocalClassification):
    """Independent sigmoids that learn how well the query's box fits, not only what it holds.

    With u the IoU of a matched query's box with its object, p an output, and q = u ** target_power:

        matched class:   -(q log p + (1 - q) log(1 - p))
        all others:      -negative_weight * p ** gamma * log(1 - p)

    A target power of 1 is near the varifocal loss, and 1.5 is the matchability-aware loss of DEIM. ``alpha`` of the
    focal loss is left to the matching cost, which counts p * u ** cost_power in p's place (Stable-DINO); a power of 0
    leaves boxes to their own costs.

    Attributes:
        gamma: as above, and of the matching cost.
        target_power, cost_power, negative_weight: as above.
    """

    target_power: float = 1.5
    cost_power: float = 0.0
    negative_weight: float = 1.0

    uses_iou = True
    """That loss and matching cost are given IoUs."""

    def __post_init__(self) -> None:
        for name in ("target_power", "cost_power", "negative_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(
                    f"classification.{name} must be at least 0, got {getattr(self, name)}"
                )

    def matching_cost(self, logits: Tensor, labels: Tensor, ious: Tensor) -> Tensor:
        """Logits (..., K), labels (T,), IoUs (..., T) -> cost of each pair (..., T)."""
        return self.focal_cost(logits.sigmoid()[..., labels] * ious**self.cost_power)

    def loss(
        self, logits: Tensor, classes: Tensor, num_boxes: Tensor | float, ious: Tensor
    ) -> Tensor:
        """Summed over queries, divided by the number of boxes; ``ious`` (L, B, Q) of matched queries, else 0."""
        one_hot = one_hot_of(classes, logits)
        target = one_hot * ious.to(logits.dtype)[..., None] ** self.target_power
        negative = self.negative_weight * logits.detach().sigmoid() ** self.gamma
        weight = torch.where(one_hot > 0, 1.0, negative)
        loss = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="none")
        return loss.sum((1, 2, 3)) / num_boxes
