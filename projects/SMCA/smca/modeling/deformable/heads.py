from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..heads import DetectionHeads
from ..records import DecoderOutput, FeatureLevel


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

    def forward(
        self,
        decoded: DecoderOutput,
        levels: Sequence[FeatureLevel] = (),
        features: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """As :class:`DetectionHeads`; of fewer layers than there are, they are the last ones."""
        if not isinstance(self.classifier, nn.ModuleList):
            return super().forward(decoded, levels, features)
        hidden = decoded.hidden
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        used = list(self.classifier)[-len(hidden) :]
        logits = torch.stack([classify(h) for classify, h in zip(used, hidden, strict=True)])
        return {
            "pred_logits": logits.to(dtype),
            "pred_boxes": self._boxes(decoded, dtype).sigmoid(),
        }
