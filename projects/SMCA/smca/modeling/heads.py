from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smca.errors import InputError
from smca.layers import MLP
from smca.layers.size_reference import check_size_reference, size_shift

from .classification import Classification
from .records import DecoderOutput, FeatureLevel


class DetectionHeads(nn.Module):
    """Class and box predictions shared by all decoder layers, equations (10) to (12)."""

    def __init__(
        self,
        *,
        embed_dim: int,
        num_classes: int,
        classification: Classification,
        size_reference: float | None = None,
        predict_boxes: bool = True,
    ):
        """
        Args:
            embed_dim: C.
            num_classes: classes of the data set.
            classification: the model's; says how many outputs there are and how they start.
            size_reference: side in pixels of the image that box widths and heights are predicted relative to, by a
                shift of their logits: convolutions see pixels, and what share of its image a box is could only be
                learnt from where the image ends. None is the paper's form, relative to the image itself.
            predict_boxes: False where the decoder refines boxes and gives them.

        Raises:
            InputError: for a size reference that is no side.
        """
        super().__init__()
        check_size_reference(size_reference, "heads")
        self.num_classes = num_classes
        self.classification = classification
        self.size_reference = size_reference
        self.classifier = nn.Linear(embed_dim, classification.num_outputs(num_classes))
        self.box = MLP(embed_dim, embed_dim, 4, num_layers=3) if predict_boxes else None
        classification.reset_bias(self.classifier.bias)

    def forward(
        self,
        decoded: DecoderOutput,
        levels: Sequence[FeatureLevel] = (),
        features: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Class logits and boxes of every query, after each layer.

        Args:
            decoded: of the L layers to predict from. Its references are added to the boxes: the centre of the spatial
                prior to all layers' centres.
            levels, features: the encoded levels and the backbone's features, for heads that look at the image again.

        Returns:
            "pred_logits" (L, B, Q, K) and "pred_boxes" (L, B, Q, 4) as (cx, cy, w, h) in [0, 1] of the unpadded
            image, both at least float32.
        """
        dtype = torch.promote_types(decoded.hidden.dtype, torch.float32)
        logits = self._classify(decoded.hidden).to(dtype)
        return {"pred_logits": logits, "pred_boxes": self._boxes(decoded, dtype).sigmoid()}

    def _classify(self, hidden: Tensor) -> Tensor:
        return self.classifier(hidden)

    def _boxes(self, decoded: DecoderOutput, dtype: torch.dtype) -> Tensor:
        """(L, B, Q, 4) logits."""
        if self.box is None:
            if decoded.boxes is None:
                raise InputError(
                    "heads.predict_boxes is False, but the decoder has no refinement that gives boxes"
                )
            return decoded.boxes.to(dtype)
        boxes = self.box(decoded.hidden).to(dtype)
        if decoded.references is not None:
            references = decoded.references.to(dtype)
            boxes = boxes + F.pad(references, (0, 4 - references.shape[-1]))
        if self.size_reference is not None:
            boxes = boxes + size_shift(self.size_reference, decoded.image_sizes.to(dtype))
        return boxes
