from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from smca.layers import at_least_float32, full_precision, sine_coordinate_encoding

from ..classification import Classification
from ..criterion import MoreOutputs
from ..records import FeatureLevel, Queries, Target
from .proposals import EncoderProposals, Proposals


class ContentQueries(nn.Module):
    """Q queries with a learned position, content and, from the position, a point to start at."""

    def __init__(self, *, num_queries: int, embed_dim: int):
        """
        Args:
            num_queries: Q.
            embed_dim: C.
        """
        super().__init__()
        self.position = nn.Embedding(num_queries, embed_dim)
        self.content = nn.Embedding(num_queries, embed_dim)
        self.reference_points = nn.Linear(embed_dim, 2)
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)

    def forward(
        self,
        levels: Sequence[FeatureLevel],
        image_sizes: Tensor,
        targets: Sequence[Target] | None = None,
    ) -> Queries:
        """The same queries for every image.

        Args:
            levels, targets: not looked at.
            image_sizes: (B, 2) unpadded (width, height) in pixels.
        """
        position = self.position.weight.expand(image_sizes.shape[0], -1, -1)
        with full_precision(position):
            references = self.reference_points(at_least_float32(position))
        content = self.content.weight.expand(image_sizes.shape[0], -1, -1)
        return Queries(content=content, position=position, references=references)


class ProposalQueries(nn.Module):
    """The second of two stages: queries that start at the best boxes an encoder proposes, and are made of them."""

    def __init__(
        self,
        *,
        num_queries: int,
        embed_dim: int,
        num_classes: int,
        classification: Classification,
        base_side: float = 0.05,
    ):
        """
        Args:
            num_queries: Q; an image with fewer cells has as many.
            embed_dim: C, an even number.
            num_classes, classification, base_side: of :class:`EncoderProposals`.
        """
        super().__init__()
        self.num_queries = num_queries
        self.embed_dim = embed_dim
        self.proposals = EncoderProposals(
            embed_dim=embed_dim,
            num_classes=num_classes,
            classification=classification,
            base_side=base_side,
        )
        self.projection = nn.Linear(2 * embed_dim, 2 * embed_dim)
        self.norm = nn.LayerNorm(2 * embed_dim)
        nn.init.xavier_uniform_(self.projection.weight)

    def forward(
        self,
        levels: Sequence[FeatureLevel],
        image_sizes: Tensor,
        targets: Sequence[Target] | None = None,
    ) -> Queries:
        """Queries that start at the encoder's best proposals.

        Args:
            levels: encoded feature levels.
            image_sizes: not looked at.
            targets: B targets in training, where all proposals have losses of their own, called "enc".
        """
        proposals = self.proposals(levels)
        references = proposals.best(self.num_queries)
        code = sine_coordinate_encoding(references.sigmoid(), self.embed_dim // 2)
        position, content = self.norm(self.projection(code)).chunk(2, -1)
        return Queries(
            content=content,
            position=position,
            references=references,
            split=None if targets is None else _WithProposals(proposals, targets),
        )


class _WithProposals:
    """Adds the losses of the proposals, for which every object is of the first class."""

    def __init__(self, proposals: Proposals, targets: Sequence[Target]):
        self.proposals = proposals
        self.targets = [replace(t, labels=torch.zeros_like(t.labels)) for t in targets]

    def __call__(self, outputs: dict[str, Any]) -> dict[str, Any]:
        proposed = {
            "pred_logits": self.proposals.logits[None],
            "pred_boxes": self.proposals.boxes.sigmoid()[None],
        }
        more = {**outputs.get("more", {}), "enc": MoreOutputs(proposed, targets=self.targets)}
        return {**outputs, "more": more}
