import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smca.layers import MLP


class DetectionHeads(nn.Module):
    """Class and box predictions shared by all decoder layers, equations (10) to (12)."""

    def __init__(
        self,
        *,
        embed_dim: int,
        num_classes: int,
        no_object_class: bool = False,
        prior_probability: float = 0.01,
        size_reference: float | None = None,
    ):
        """
        Args:
            embed_dim: C.
            num_classes: classes of the data set.
            no_object_class: one more output, the last, for cross entropy; otherwise outputs are independent sigmoids.
            prior_probability: every sigmoid's output at the start, which keeps the focal loss stable.
            size_reference: side in pixels of the image that box widths and heights are predicted relative to, by a
                shift of their logits: convolutions see pixels, and what share of its image a box is could only be
                learnt from where the image ends. None is the paper's form, relative to the image itself.

        Raises:
            ValueError: for a size reference that is no side.
        """
        super().__init__()
        if size_reference is not None and not (
            isinstance(size_reference, int | float) and 0 < size_reference < math.inf
        ):
            raise ValueError(
                f"heads.size_reference is {size_reference!r}, it must be a side in pixels or None"
            )
        self.classifier = nn.Linear(embed_dim, num_classes + int(no_object_class))
        self.size_reference = size_reference
        self.box = MLP(embed_dim, embed_dim, 4, num_layers=3)
        if not no_object_class:
            nn.init.constant_(
                self.classifier.bias, -math.log((1 - prior_probability) / prior_probability)
            )

    def forward(
        self, hidden: Tensor, center_logits: Tensor | None, image_sizes: Tensor | None = None
    ) -> dict[str, Tensor]:
        """
        Args:
            hidden: (L, B, Q, C) decoder output.
            center_logits: (B, Q, 2) of the spatial prior, added to every layer's box centre; None for plain DETR.
            image_sizes: (B, 2) unpadded (width, height) in pixels, for a size reference.

        Returns:
            "pred_logits" (L, B, Q, K) and "pred_boxes" (L, B, Q, 4) as (cx, cy, w, h) in [0, 1] of the unpadded
            image, both at least float32.
        """
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        logits = self.classifier(hidden).to(dtype)
        boxes = self.box(hidden).to(dtype)
        if center_logits is not None:
            boxes = boxes + F.pad(center_logits.to(dtype), (0, 2))
        if self.size_reference is not None:
            shift = (self.size_reference / image_sizes.to(dtype)).log()
            boxes = boxes + F.pad(shift, (2, 0))[:, None]
        return {"pred_logits": logits, "pred_boxes": boxes.sigmoid()}
