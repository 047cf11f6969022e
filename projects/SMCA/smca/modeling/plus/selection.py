import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smca.errors import InputError
from smca.layers import MLP, at_least_float32, full_precision

from ..classification import Classification
from ..criterion import MoreOutputs, check_weight
from ..records import FeatureLevel, Queries, Target

# Cells whose middle is nearer to the border than this share of the image propose nothing, as in Deformable DETR: the
# logits of their boxes would be large.
_BORDER = 0.01


class SelectedQueries(nn.Module):
    """Queries that start where the encoder saw something: mixed query selection (DINO).

    Every cell of the encoded levels proposes a box around itself and scores its classes; the boxes of the best Q are
    the queries' first references, without gradient. Contents are learnt, as always. The proposals that were taken
    have losses of their own, as "encoder". Where an image has fewer than Q cells that propose, the other queries start
    at its middle: which and how many queries it has does not depend on the padding of its batch.
    """

    def __init__(
        self,
        *,
        num_queries: int,
        embed_dim: int,
        num_classes: int,
        classification: Classification,
        cell_side: float = 2.0,
        weight: float = 1.0,
    ):
        """
        Args:
            num_queries: Q.
            embed_dim: C.
            num_classes: of the data set.
            classification: the model's.
            cell_side: side of the box around a cell that it predicts relative to, in cells.
            weight: of the losses of the proposals that were taken.

        Raises:
            InputError: for a side that is not positive, or a weight that is negative.
        """
        super().__init__()
        if not 0 < cell_side < math.inf:
            raise InputError(f"queries.cell_side must be positive, got {cell_side}")
        check_weight(weight)
        self.num_queries = num_queries
        self.num_classes = num_classes
        self.classification = classification
        self.cell_side = cell_side
        self.weight = weight
        self.content = nn.Embedding(num_queries, embed_dim)
        self.token = nn.Linear(embed_dim, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        self.classifier = nn.Linear(embed_dim, classification.num_outputs(num_classes))
        self.box = MLP(embed_dim, embed_dim, 4, num_layers=3)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.content.weight)
        for part in (self.token, self.norm, self.classifier, *self.box.layers):
            part.reset_parameters()
        self.classification.reset_bias(self.classifier.bias)
        nn.init.zeros_(self.box.layers[-1].weight)
        nn.init.zeros_(self.box.layers[-1].bias)

    def forward(
        self,
        levels: Sequence[FeatureLevel],
        image_sizes: Tensor,
        targets: Sequence[Target] | None = None,
    ) -> Queries:
        """Called as :class:`~smca.modeling.LearnedQueries`."""
        tokens = torch.cat([level.tokens for level in levels], 1)
        with full_precision(tokens):
            proposals, valid = cell_boxes(levels, image_sizes, self.cell_side)
            # As many more that propose nothing, so that no image has too few, whatever its size.
            tokens, proposals, valid = (
                F.pad(values, (0, 0, 0, self.num_queries))
                for values in (at_least_float32(tokens), proposals, valid[..., None])
            )
            # Padding and borders: what is there must not be seen, and is taken last.
            hidden = self.norm(self.token(tokens.masked_fill(~valid, 0.0)))
            logits = self.classifier(hidden)
            best = self.classification.scores(logits).amax(-1).masked_fill(~valid[..., 0], -1)
            chosen = best.topk(self.num_queries).indices[..., None]
            logits, hidden, proposals, valid = (
                values.gather(1, chosen.expand(-1, -1, values.shape[-1]))
                for values in (logits, hidden, proposals, valid)
            )
            boxes = (proposals + self.box(hidden)).masked_fill(~valid, 0.0)
        content = self.content.weight.expand(chosen.shape[0], -1, -1)
        outputs = {"pred_logits": logits[None], "pred_boxes": boxes.sigmoid()[None]}
        return Queries(
            content=content,
            position=torch.zeros_like(content),
            references=boxes.detach(),
            split=None if targets is None else _Split(MoreOutputs(outputs, weight=self.weight)),
        )


def cell_boxes(
    levels: Sequence[FeatureLevel], image_sizes: Tensor, side: float
) -> tuple[Tensor, Tensor]:
    """A box around each cell of all levels.

    Args:
        levels: S levels.
        image_sizes: (B, 2) unpadded (width, height) in pixels.
        side: of the boxes, in cells of their level.

    Returns:
        Logits of the boxes (B, N, 4), finite, and whether a cell's middle is inside of the image and not at its border,
        (B, N) bool; N are the cells of all levels in order.
    """
    boxes = []
    for level in levels:
        h, w = level.size
        y, x = torch.meshgrid(
            torch.arange(h).to(image_sizes), torch.arange(w).to(image_sizes), indexing="ij"
        )
        middles = (torch.stack([x, y], -1).flatten(0, 1) + 0.5) * level.stride
        sides = torch.full_like(middles, side * level.stride)
        boxes.append(torch.cat([middles, sides], -1))
    shares = torch.cat(boxes) / image_sizes.repeat(1, 2)[:, None]
    centers = shares[..., :2]
    valid = ((centers > _BORDER) & (centers < 1 - _BORDER)).all(-1)
    return shares.logit(eps=_BORDER), valid


@dataclass(frozen=True)
class _Split:
    """All queries are to be matched; the encoder's proposals are more."""

    proposals: MoreOutputs

    def __call__(self, outputs: dict[str, Any]) -> dict[str, Any]:
        return {**outputs, "more": {"encoder": self.proposals}}
