import torch
from torch import Tensor, nn

from ..heads import DetectionHeads


class DeformableHeads(DetectionHeads):
    """DETR's heads with boxes that start small around their references, and, if wanted, classes of each layer's own."""

    def __init__(
        self,
        *,
        num_layers: int = 6,
        share_layers: bool = True,
        initial_size: float = -2.0,
        **options,
    ):
        """
        Args:
            num_layers: decoder layers.
            share_layers: one classifier for all layers, or one for each.
            initial_size: logit of width and height at the start; -2 is a side of 0.12.
            options: of :class:`DetectionHeads`.
        """
        super().__init__(**options)
        if not share_layers:
            shape = self.classifier.in_features, self.classifier.out_features
            self.classifier = nn.ModuleList(nn.Linear(*shape) for _ in range(num_layers))
            for classifier in self.classifier:
                self.classification.reset_bias(classifier.bias)
        if self.box is not None:
            last = self.box.layers[-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            nn.init.constant_(last.bias[2:], initial_size)

    def _classify(self, hidden: Tensor) -> Tensor:
        """Of fewer layers than there are, they are the last ones."""
        if not isinstance(self.classifier, nn.ModuleList):
            return super()._classify(hidden)
        used = list(self.classifier)[-len(hidden) :]
        return torch.stack([classify(h) for classify, h in zip(used, hidden, strict=True)])
