from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .feature_level import FeatureLevel
from .target import Target


@dataclass(frozen=True)
class Queries:
    """What a decoder starts from.

    Attributes:
        content: (B, Q, C).
        position: (B, Q, C), added to the content where queries attend.
        references: (B, Q, 2 or 4) logits of points or boxes that the queries start at, for decoders that use them.
        attention_mask: (Q, Q) bool, True where a query (row) may attend to another (column); None where all may.
        split: takes what the heads give for all Q queries apart, for queries that are there in training only: the
            outputs to be matched, and "more" of them, a :class:`~smca.modeling.MoreOutputs` by name.
    """

    content: Tensor
    position: Tensor
    references: Tensor | None = None
    attention_mask: Tensor | None = None
    split: Callable[[dict[str, Any]], dict[str, Any]] | None = None


class LearnedQueries(nn.Embedding):
    """DETR's: no content, a learned position for each of Q queries.

    Any module that takes the same arguments and returns :class:`Queries` can be a decoder's source of queries. The
    targets are those of a training step, so that a source may make queries from the ground truth; in inference there
    are none.
    """

    def __init__(self, num_queries: int, embed_dim: int):
        super().__init__(num_queries, embed_dim)

    def forward(
        self,
        levels: Sequence[FeatureLevel],
        image_sizes: Tensor,
        targets: Sequence[Target] | None = None,
    ) -> Queries:
        """
        Args:
            levels: encoded feature levels, for sources that select their queries from them; not looked at here.
            image_sizes: (B, 2) unpadded (width, height) in pixels.
            targets: B targets in training.
        """
        position = self.weight.expand(len(image_sizes), -1, -1)
        return Queries(content=torch.zeros_like(position), position=position)
