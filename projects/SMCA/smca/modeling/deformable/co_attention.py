from torch import Tensor

from smca.layers import DeformableAttention

from ..records import FeatureLevel
from .level_tokens import join_levels
from .sampling import SamplingReference


class DeformableCoAttention(DeformableAttention):
    """Deformable attention of queries with feature levels, in the place of a decoder layer's co-attention."""

    def __init__(self, *, embed_dim: int, num_heads: int, num_levels: int = 1, num_points: int = 4):
        super().__init__(embed_dim, num_heads, num_levels=num_levels, num_points=num_points)

    def forward(
        self, query: Tensor, levels: list[FeatureLevel], prior: SamplingReference
    ) -> Tensor:
        """Sample the levels around the queries' references.

        Args:
            query: (B, Q, C) with its position.
            levels: S levels.
            prior: of :class:`ReferenceSampling`.

        Returns:
            (B, Q, C).
        """
        joined = join_levels(levels)
        return super().forward(
            query, prior.points, joined.tokens, joined.sizes, joined.padding_mask
        )

    def seen_points(
        self,
        query: Tensor,
        levels: list[FeatureLevel],
        prior: SamplingReference,
        *,
        chosen: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Where the queries look, which :meth:`forward` does not keep.

        Args:
            query, levels, prior: as for :meth:`forward`.
            chosen: (D,) indices of the queries that are asked for; all where there are none.

        Returns:
            As :meth:`~smca.layers.DeformableAttention.sampling_points`, of D queries.
        """
        chosen = slice(None) if chosen is None else chosen
        sizes = [level.size for level in levels]
        return self.sampling_points(query[:, chosen], prior.points[:, chosen], sizes)
