"""The two ways to classify a query: what matching costs, the loss, and what a score is."""

from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss


class FocalClassification:
    """Independent sigmoids with the focal loss; SMCA and the 300-query DETR baseline."""

    num_extra_outputs = 0

    def __init__(self, *, alpha: float = 0.25, gamma: float = 2.0, eps: float = 1e-8):
        self.alpha = alpha
        self.gamma = gamma
        self.eps = eps

    def matching_cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Positive minus negative focal term: logits (..., K), labels (T,) -> (..., T)."""
        p = logits.sigmoid()[..., labels]
        negative = (1 - self.alpha) * p**self.gamma * -(1 - p + self.eps).log()
        positive = self.alpha * (1 - p) ** self.gamma * -(p + self.eps).log()
        return positive - negative

    def loss(self, logits: Tensor, classes: Tensor, num_boxes: Tensor | float) -> Tensor:
        """Summed over queries, divided by the number of boxes.

        Args:
            logits: (L, B, Q, K).
            classes: (L, B, Q) int64, K where a query has no object.
            num_boxes: divisor.

        Returns:
            (L,).
        """
        one_hot = F.one_hot(classes, logits.shape[-1] + 1)[..., :-1].to(logits.dtype)
        loss = sigmoid_focal_loss(logits, one_hot, alpha=self.alpha, gamma=self.gamma)
        return loss.sum((1, 2, 3)) / num_boxes


class CrossEntropyClassification:
    """Softmax over the classes and a last "no object" output; DETR as published."""

    num_extra_outputs = 1

    def __init__(self, *, no_object_weight: float = 0.1):
        self.no_object_weight = no_object_weight

    def matching_cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Minus the class probability: logits (..., K), labels (T,) -> (..., T)."""
        return -logits.softmax(-1)[..., labels]

    def loss(self, logits: Tensor, classes: Tensor, num_boxes: Tensor | float) -> Tensor:
        """Weighted mean over queries; arguments as in :meth:`FocalClassification.loss`, no object is K - 1."""
        num_layers, num_outputs = logits.shape[0], logits.shape[-1]
        weight = logits.new_ones(num_outputs)
        weight[-1] = self.no_object_weight
        loss = F.cross_entropy(logits.flatten(0, 2), classes.flatten(), weight, reduction="none")
        total_weight = weight[classes].view(num_layers, -1).sum(1)
        return loss.view(num_layers, -1).sum(1) / total_weight


Classification = FocalClassification | CrossEntropyClassification
