import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.utils import comm
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert

from smca.device import copy_to
from smca.errors import InputError

from .classification import Classification
from .matcher import HungarianMatcher, Matches
from .records import Target


@dataclass(frozen=True)
class MoreOutputs:
    """Further outputs with losses of their own: of denoising queries, query groups, an encoder's proposals.

    Attributes:
        outputs: "pred_logits" (L, B, Q, K) and "pred_boxes" (L, B, Q, 4), L and Q as they like.
        matches: known pairs, where they need not be found.
        targets: B targets; the batch's own where there are none.
        weight: of all of these losses.
        num_boxes: what they are averaged over, where it is not the number of objects.
    """

    outputs: Mapping[str, Tensor]
    matches: Matches | None = None
    targets: list[Target] | None = None
    weight: float = 1.0
    num_boxes: float | None = None


def check_weight(weight: float) -> None:
    """Refuse the weight of further losses, of a source of queries, if it would have them grow.

    Raises:
        InputError: if it is not a finite number from 0.
    """
    if not 0 <= weight < math.inf:
        raise InputError(f"queries.weight must be at least 0, got {weight}")


class SetCriterion:
    """DETR's set prediction loss on every decoder layer: classification, L1 and GIoU of matched pairs."""

    def __init__(
        self,
        *,
        matcher: HungarianMatcher,
        classification: Classification,
        class_weight: float = 2.0,
        box_weight: float = 5.0,
        giou_weight: float = 2.0,
        more_weights: Mapping[str, float] | None = None,
    ):
        """
        Args:
            matcher: pairs queries with objects, layer by layer.
            classification: the model's.
            class_weight, box_weight, giou_weight: weights of the three losses, the same for all layers.
            more_weights: of losses that a subclass adds, by name; 1 where not given.
        """
        self.matcher = matcher
        self.classification = classification
        self.weights = {
            "loss_ce": class_weight,
            "loss_bbox": box_weight,
            "loss_giou": giou_weight,
            **(more_weights or {}),
        }

    def __call__(
        self, outputs: Mapping[str, Any], targets: list[Target], num_boxes: float | None = None
    ) -> dict[str, Tensor]:
        """Weighted losses by name, ready to be summed.

        Args:
            outputs: "pred_logits" (L, B, Q, K) and "pred_boxes" (L, B, Q, 4), see the heads; perhaps "more", a
                :class:`MoreOutputs` by name, whose losses are called "name_loss_ce" and so on, and perhaps "weight", a
                number that the losses of what is matched are multiplied by.
            targets: B targets.
            num_boxes: what boxes are averaged over; None is the number of objects of the batch, averaged over ranks
                and at least 1.
        """
        if num_boxes is None:
            num_boxes = _average_box_count(targets, outputs["pred_logits"])
        named = self._weighted(outputs, self.match(outputs, targets), targets, num_boxes)
        if "weight" in outputs:
            named = {key: outputs["weight"] * value for key, value in named.items()}
        for name, more in outputs.get("more", {}).items():
            wanted = targets if more.targets is None else more.targets
            matches = self.match(more.outputs, wanted) if more.matches is None else more.matches
            count = num_boxes if more.num_boxes is None else more.num_boxes
            losses = self._weighted(more.outputs, matches, wanted, count)
            named |= {f"{name}_{key}": more.weight * value for key, value in losses.items()}
        return named

    def match(self, outputs: Mapping[str, Tensor], targets: list[Target]) -> Matches:
        """Which query of each layer answers for which object."""
        return self.matcher(outputs["pred_logits"], outputs["pred_boxes"], targets)

    def losses(
        self,
        outputs: Mapping[str, Tensor],
        matches: Matches,
        targets: list[Target],
        num_boxes: float | Tensor,
    ) -> dict[str, Tensor]:
        """Losses of matched outputs, unweighted.

        Args:
            outputs: "pred_logits" (L, B, Q, K) and "pred_boxes" (L, B, Q, 4).
            matches: from :meth:`match`, or known.
            targets: B targets.
            num_boxes: what boxes are averaged over.

        Returns:
            "loss_ce", "loss_bbox" and "loss_giou", each (L,), before weighting.
        """
        logits, boxes = outputs["pred_logits"], outputs["pred_boxes"]
        starts = torch.tensor([0] + [len(t.labels) for t in targets[:-1]]).cumsum(0)
        position = copy_to(starts, logits.device)[matches.image] + matches.target
        labels = torch.cat([t.labels for t in targets])[position]
        target_boxes = torch.cat([t.boxes for t in targets])[position].to(boxes.dtype)
        layers = torch.arange(len(boxes), device=boxes.device)[:, None]
        matched = boxes[layers, matches.image, matches.query]
        l1 = F.l1_loss(matched, target_boxes, reduction="none").sum((1, 2))
        giou = paired_giou_loss(matched, target_boxes)
        return {
            "loss_ce": self._class_loss(
                logits, matches, labels, (matched, target_boxes), num_boxes
            ),
            "loss_bbox": l1 / num_boxes,
            "loss_giou": giou.sum(1) / num_boxes,
        }

    def _class_loss(
        self,
        logits: Tensor,
        matches: Matches,
        labels: Tensor,
        boxes: tuple[Tensor, Tensor],
        num_boxes: float | Tensor,
    ) -> Tensor:
        """(L,); ``boxes`` are the matched ones and their objects', (L, M, 4) each."""
        classes = self._query_classes(logits, matches, labels)
        if not getattr(self.classification, "uses_iou", False):
            return self.classification.loss(logits, classes, num_boxes)
        ious = logits.new_zeros(classes.shape)
        layers = torch.arange(len(classes), device=classes.device)[:, None]
        ious[layers, matches.image, matches.query] = paired_iou(*boxes).detach()
        return self.classification.loss(logits, classes, num_boxes, ious)

    def _weighted(
        self, outputs: Mapping[str, Tensor], matches: Matches, targets: list[Target], num_boxes: Any
    ) -> dict[str, Tensor]:
        """The last layer's losses by their name, those of the others with the layer's number behind it."""
        num_layers = outputs["pred_logits"].shape[0]
        named = {}
        for name, values in self.losses(outputs, matches, targets, num_boxes).items():
            for layer, value in enumerate(values.unbind()):
                suffix = "" if layer == num_layers - 1 else f"_{layer}"
                named[name + suffix] = self.weights.get(name, 1.0) * value
        return named

    def _query_classes(self, logits: Tensor, matches: Matches, labels: Tensor) -> Tensor:
        """Class of every query (L, B, Q); unmatched ones get the number of classes, which means no object."""
        no_object = logits.shape[-1] - int(self.classification.has_no_object_output)
        classes = logits.new_full(logits.shape[:-1], no_object, dtype=torch.int64)
        layers = torch.arange(len(classes), device=classes.device)[:, None]
        classes[layers, matches.image, matches.query] = labels
        return classes


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes (..., 4) as (cx, cy, w, h), pair by pair -> (...); 0 of two without area."""
    low = torch.maximum(*(boxes[..., :2] - boxes[..., 2:] / 2 for boxes in (first, second)))
    high = torch.minimum(*(boxes[..., :2] + boxes[..., 2:] / 2 for boxes in (first, second)))
    common = (high - low).clamp(min=0).prod(-1)
    union = first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - common
    return common / union.clamp(min=torch.finfo(union.dtype).tiny)


def paired_giou_loss(first: Tensor, second: Tensor) -> Tensor:
    """1 - GIoU of boxes (..., 4) as (cx, cy, w, h), pair by pair -> (...).

    Number by number torchvision's ``generalized_box_iou_loss``, which indexes by a mask: for that a host waits for its
    GPU.
    """
    (x1, y1, x2, y2), (other_x1, other_y1, other_x2, other_y2) = (
        box_convert(boxes, "cxcywh", "xyxy").unbind(-1) for boxes in (first, second)
    )
    width = torch.minimum(x2, other_x2) - torch.maximum(x1, other_x1)
    height = torch.minimum(y2, other_y2) - torch.maximum(y1, other_y1)
    common = torch.where((width > 0) & (height > 0), width * height, 0.0)
    union = (x2 - x1) * (y2 - y1) + (other_x2 - other_x1) * (other_y2 - other_y1) - common
    enclosing = (torch.maximum(x2, other_x2) - torch.minimum(x1, other_x1)) * (
        torch.maximum(y2, other_y2) - torch.minimum(y1, other_y1)
    )
    eps = 1e-7
    return 1 - (common / (union + eps) - (enclosing - union) / (enclosing + eps))


def _average_box_count(targets: list[Target], like: Tensor) -> Tensor:
    count = like.new_tensor(float(sum(len(t.labels) for t in targets)))
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(count)
        count = count / comm.get_world_size()
    return count.clamp(min=1.0)
