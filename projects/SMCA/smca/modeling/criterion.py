import torch
from detectron2.utils import comm
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou_loss

from .classification import Classification
from .matcher import HungarianMatcher, Matches, Target


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
    ):
        """
        Args:
            matcher: pairs queries with objects, layer by layer.
            classification: focal or cross-entropy classification, the same as the matcher's.
            class_weight, box_weight, giou_weight: weights of the three losses, the same for all layers.
        """
        self.matcher = matcher
        self.classification = classification
        self.weights = {
            "loss_ce": class_weight,
            "loss_bbox": box_weight,
            "loss_giou": giou_weight,
        }

    def __call__(
        self, outputs: dict[str, Tensor], targets: list[Target], num_boxes: float | None = None
    ) -> dict[str, Tensor]:
        """Weighted losses by name, ready to be summed; arguments as in :meth:`losses`."""
        per_layer = self.losses(outputs, targets, num_boxes)
        num_layers = outputs["pred_logits"].shape[0]
        named = {}
        for name, values in per_layer.items():
            for layer, value in enumerate(values.unbind()):
                suffix = "" if layer == num_layers - 1 else f"_{layer}"
                named[name + suffix] = self.weights[name] * value
        return named

    def losses(
        self, outputs: dict[str, Tensor], targets: list[Target], num_boxes: float | None = None
    ) -> dict[str, Tensor]:
        """
        Args:
            outputs: "pred_logits" (L, B, Q, K) and "pred_boxes" (L, B, Q, 4), see the heads.
            targets: B targets.
            num_boxes: what boxes are averaged over; None is the number of objects of the batch, averaged over ranks
                and at least 1.

        Returns:
            "loss_ce", "loss_bbox" and "loss_giou", each (L,), before weighting.
        """
        logits, boxes = outputs["pred_logits"], outputs["pred_boxes"]
        matches = self.matcher(logits, boxes, targets)
        if num_boxes is None:
            num_boxes = _average_box_count(targets, logits)
        starts = torch.tensor([0] + [len(t.labels) for t in targets[:-1]]).cumsum(0)
        position = starts.to(logits.device)[matches.image] + matches.target
        labels = torch.cat([t.labels for t in targets])[position]
        target_boxes = torch.cat([t.boxes for t in targets])[position].to(boxes.dtype)
        classes = self._query_classes(logits, matches, labels)
        layers = torch.arange(len(boxes), device=boxes.device)[:, None]
        matched = boxes[layers, matches.image, matches.query]
        l1 = F.l1_loss(matched, target_boxes, reduction="none").sum((1, 2))
        giou = generalized_box_iou_loss(
            box_convert(matched, "cxcywh", "xyxy"), box_convert(target_boxes, "cxcywh", "xyxy")
        )
        return {
            "loss_ce": self.classification.loss(logits, classes, num_boxes),
            "loss_bbox": l1 / num_boxes,
            "loss_giou": giou.sum(1) / num_boxes,
        }

    def _query_classes(self, logits: Tensor, matches: Matches, labels: Tensor) -> Tensor:
        """Class of every query (L, B, Q); unmatched ones get the number of classes, which means no object."""
        no_object = logits.shape[-1] - self.classification.num_extra_outputs
        classes = logits.new_full(logits.shape[:-1], no_object, dtype=torch.int64)
        layers = torch.arange(len(classes), device=classes.device)[:, None]
        classes[layers, matches.image, matches.query] = labels
        return classes


def _average_box_count(targets: list[Target], like: Tensor) -> Tensor:
    count = like.new_tensor(float(sum(len(t.labels) for t in targets)))
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(count)
        count = count / comm.get_world_size()
    return count.clamp(min=1.0)
