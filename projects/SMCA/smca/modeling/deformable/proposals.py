from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smca.layers import MLP, at_least_float32, full_precision

from ..classification import Classification
from ..records import FeatureLevel
from .level_tokens import cell_centers, join_levels

_NEAREST = 0.01
"""Proposals whose centre or side is nearer to 0 or 1 are left out."""


@dataclass(frozen=True)
class Proposals:
    """A box of each encoded cell.

    Attributes:
        logits: (B, N, K) class outputs; the first one says whether there is an object.
        boxes: (B, N, 4) logits of (cx, cy, w, h); infinite where a cell proposes none.
    """

    logits: Tensor
    boxes: Tensor

    def best(self, limit: int) -> Tensor:
        """(B, limit, 4) logits of the boxes that most likely have an object, without gradient.

        Cells that propose none come last, and stand for those that an image has too few of: which and how many queries
        an image has does not depend on the padding of its batch.
        """
        boxes = self.boxes.detach()
        scores = self.logits[..., 0].masked_fill(boxes.isinf().any(-1), float("-inf"))
        scores = F.pad(scores, (0, limit), value=float("-inf"))
        boxes = F.pad(boxes, (0, 0, 0, limit), value=float("inf"))
        return boxes.gather(1, scores.topk(limit).indices[..., None].expand(-1, -1, 4))


class EncoderProposals(nn.Module):
    """The first of two stages: each encoded cell says how likely it has an object, and refines a box around itself.

    The box of a cell on level s has its centre and a side of 0.05 * 2^s of the image. A cell in padding, or whose box
    is not within (0.01, 0.99) in every coordinate, proposes none: its tokens are zeroed, its boxes infinite logits.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        num_classes: int,
        classification: Classification,
        base_side: float = 0.05,
    ):
        """
        Args:
            embed_dim: C.
            num_classes: classes of the data set; the classifier has its outputs for them, as in the released model,
                though it learns whether there is an object only, in the first one.
            classification: the model's.
            base_side: side of a box of the finest level, as a share of the image.
        """
        super().__init__()
        self.num_classes = num_classes
        self.base_side = base_side
        self.projection = nn.Linear(embed_dim, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        self.objectness = nn.Linear(embed_dim, classification.num_outputs(num_classes))
        self.box = MLP(embed_dim, embed_dim, 4, num_layers=3)
        nn.init.xavier_uniform_(self.projection.weight)
        classification.reset_bias(self.objectness.bias)
        nn.init.zeros_(self.box.layers[-1].weight)
        nn.init.zeros_(self.box.layers[-1].bias)

    def forward(self, levels: Sequence[FeatureLevel]) -> Proposals:
        """Of encoded levels."""
        joined = join_levels(levels)
        with full_precision(joined.tokens):
            around, proposes = self.initial_boxes(levels)
            tokens = at_least_float32(joined.tokens).masked_fill(~proposes, 0.0)
            tokens = self.norm(self.projection(tokens))
            return Proposals(self.objectness(tokens), self.box(tokens) + around)

    def initial_boxes(self, levels: Sequence[FeatureLevel]) -> tuple[Tensor, Tensor]:
        """(B, N, 4) logits before refinement, infinite where a cell proposes none; (B, N, 1) bool whether it does."""
        boxes = []
        for index, level in enumerate(levels):
            center = cell_centers(level).expand(level.tokens.shape[0], -1, -1)
            side = torch.full_like(center, self.base_side * 2**index)
            boxes.append(torch.cat([center, side], -1))
        boxes = torch.cat(boxes, 1)
        # The centres of padded cells are beyond 1.
        proposes = ((boxes > _NEAREST) & (boxes < 1 - _NEAREST)).all(-1, keepdim=True)
        return boxes.logit().masked_fill(~proposes, float("inf")), proposes
