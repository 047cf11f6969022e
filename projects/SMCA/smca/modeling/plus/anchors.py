from collections.abc import Sequence

import torch
from torch import Tensor, nn

from smca.errors import InputError
from smca.layers.size_reference import check_size_reference, size_shift

from ..records import FeatureLevel, Queries, Target


class AnchorQueries(nn.Module):
    """Q queries that start at boxes of their own, which are learnt as their contents are (DAB-DETR)."""

    def __init__(
        self,
        *,
        num_queries: int,
        embed_dim: int,
        initial_side: float = 0.2,
        size_reference: float | None = None,
    ):
        """
        Args:
            num_queries: Q.
            embed_dim: C.
            initial_side: width and height of all boxes before training, a share of the image or of
                ``size_reference``; their centres are drawn all over the image.
            size_reference: side in pixels that widths and heights are relative to, see
                :class:`~smca.modeling.DetectionHeads`; None is the image's own.

        Raises:
            InputError: for a side that is no share, or a size reference that is no side.
        """
        super().__init__()
        if not 0 < initial_side < 1:
            raise InputError(f"queries.initial_side must be in (0, 1), got {initial_side}")
        check_size_reference(size_reference, "queries")
        self.initial_side = initial_side
        self.size_reference = size_reference
        self.content = nn.Embedding(num_queries, embed_dim)
        self.anchors = nn.Embedding(num_queries, 4)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        # As in DETR: what a query holds comes from the image, and drawn contents would drown it.
        nn.init.zeros_(self.content.weight)
        nn.init.uniform_(self.anchors.weight[:, :2], 0.02, 0.98)
        self.anchors.weight[:, 2:] = self.initial_side
        self.anchors.weight.copy_(self.anchors.weight.logit())

    def forward(
        self,
        levels: Sequence[FeatureLevel],
        image_sizes: Tensor,
        targets: Sequence[Target] | None = None,
    ) -> Queries:
        """Called as :class:`~smca.modeling.LearnedQueries`; positions are left to the decoder's ``query_position``."""
        content = self.content.weight.expand(image_sizes.shape[0], -1, -1)
        anchors = self.anchors.weight.expand(image_sizes.shape[0], -1, -1)
        if self.size_reference is not None:
            anchors = anchors + size_shift(self.size_reference, image_sizes.to(anchors.dtype))
        return Queries(content, torch.zeros_like(content), references=anchors)
