"""The ways to classify a query, and all that follows from the choice: outputs, scores, detections, cost and loss."""

from dataclasses import dataclass
from math import log
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from smca.errors import InputError


class Classification(Protocol):
    """What heads, matcher, criterion, postprocessor, drawings and converters ask.

    Two that are equal decide alike; a model refuses parts that were built with different ones. One with an attribute
    ``uses_iou`` that is true gets IoUs as the last argument of :meth:`matching_cost`, (..., T) of the pairs, and of
    :meth:`loss`, (L, B, Q) of matched queries with their objects and 0 of others.
    """

    has_no_object_output: bool
    """Whether the last output means "no object"."""

    def num_outputs(self, num_classes: int) -> int:
        """K outputs for so many classes."""

    def reset_bias(self, bias: Tensor) -> None:
        """Initialise the bias of the layer that gives the logits, (K,), in place."""

    def scores(self, logits: Tensor) -> Tensor:
        """Logits (..., K) -> probabilities of the classes (..., num_classes)."""

    def select(self, logits: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
        """The best detections of each image, best first.

        Args:
            logits: (B, Q, K).
            limit: most detections of an image, D at most.

        Returns:
            Scores, classes and queries, (B, D) each.
        """

    def matching_cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (..., K), labels (T,) -> cost of each pair (..., T)."""

    def loss(self, logits: Tensor, classes: Tensor, num_boxes: Tensor | float) -> Tensor:
        """Classification loss of every layer.

        Args:
            logits: (L, B, Q, K).
            classes: (L, B, Q) int64, the number of classes where a query has no object.
            num_boxes: what the loss may be averaged over.

        Returns:
            (L,), over all queries of a layer.
        """


@dataclass(frozen=True, kw_only=True)
class FocalClassification:
    """Independent sigmoids with the focal loss; SMCA and the 300-query DETR baseline.

    A query may answer with several classes: detections are the best (query, class) pairs, without NMS.

    Attributes:
        alpha, gamma: of the focal loss.
        eps: keeps the logarithms of the matching cost finite.
        prior_probability: every output at the start, which keeps the loss stable.
    """

    alpha: float = 0.25
    gamma: float = 2.0
    eps: float = 1e-8
    prior_probability: float = 0.01

    has_no_object_output = False

    def num_outputs(self, num_classes: int) -> int:
        return num_classes

    def reset_bias(self, bias: Tensor) -> None:
        nn.init.constant_(bias, -log((1 - self.prior_probability) / self.prior_probability))

    def scores(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def select(self, logits: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
        num_classes = logits.shape[-1]
        scores, pairs = self.scores(logits).flatten(1).topk(min(limit, logits[0].numel()))
        return scores, pairs % num_classes, pairs.div(num_classes, rounding_mode="floor")

    def matching_cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Positive minus negative focal term."""
        # Class by class in memory: several times faster to gather and to compute with than query by query.
        return self.focal_cost(logits.movedim(-1, 0)[labels].sigmoid()).movedim(0, -1)

    def focal_cost(self, p: Tensor) -> Tensor:
        """Probabilities of the classes of all pairs -> their costs, without gradients."""
        with torch.no_grad():
            q = 1 - p
            negative = (p**self.gamma).mul_((q + self.eps).log_())
            positive = q.pow_(self.gamma).mul_((p + self.eps).log_())
            # Both without the logarithms' minus.
            return negative.mul_(1 - self.alpha).sub_(positive, alpha=self.alpha)

    def loss(self, logits: Tensor, classes: Tensor, num_boxes: Tensor | float) -> Tensor:
        """Summed over queries, divided by the number of boxes."""
        one_hot = one_hot_of(classes, logits)
        loss = sigmoid_focal_loss(logits, one_hot, alpha=self.alpha, gamma=self.gamma)
        return loss.sum((1, 2, 3)) / num_boxes


def one_hot_of(classes: Tensor, logits: Tensor) -> Tensor:
    """Classes (...), K for none, as zeros and ones of the shape (..., K) and dtype of logits."""
    return (classes[..., None] == torch.arange(logits.shape[-1], device=classes.device)).to(
        logits.dtype
    )


@dataclass(frozen=True, kw_only=True)
class CrossEntropyClassification:
    """Softmax over the classes and a last "no object" output; DETR as published.

    Each query answers with its best class, "no object" left out.

    Attributes:
        no_object_weight: of the loss of queries without an object.
    """

    no_object_weight: float = 0.1

    has_no_object_output = True

    def num_outputs(self, num_classes: int) -> int:
        return num_classes + 1

    def reset_bias(self, bias: Tensor) -> None:
        """PyTorch's default stays."""

    def scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)[..., :-1]

    def select(self, logits: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
        scores, classes = self.scores(logits).max(-1)
        scores, queries = scores.topk(min(limit, scores.shape[1]))
        return scores, classes.gather(1, queries), queries

    def matching_cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Minus the class probability."""
        return -logits.softmax(-1)[..., labels]

    def loss(self, logits: Tensor, classes: Tensor, num_boxes: Tensor | float) -> Tensor:
        """Weighted mean over queries."""
        num_layers, num_outputs = logits.shape[0], logits.shape[-1]
        weight = logits.new_ones(num_outputs)
        weight[-1] = self.no_object_weight
        loss = F.cross_entropy(logits.flatten(0, 2), classes.flatten(), weight, reduction="none")
        total_weight = weight[classes].view(num_layers, -1).sum(1)
        return loss.view(num_layers, -1).sum(1) / total_weight


def check_same_classification(classification: Classification, **parts: object) -> None:
    """Refuse parts that would classify in another way than the model.

    Raises:
        InputError: if a part, by its name in the config, was built with another one; a part without one passes.
    """
    for name, part in parts.items():
        other = getattr(part, "classification", classification)
        if other != classification:
            raise InputError(
                f"model.{name}.classification is {other}, but model.classification {classification}: set that one, "
                "to which the parts refer"
            )


def class_scores(classification: Classification, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (..., K) -> every query's best score and its class, (...) each."""
    best = classification.scores(logits).max(-1)
    return best.values, best.indices
