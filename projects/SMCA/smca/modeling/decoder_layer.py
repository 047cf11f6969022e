from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor, nn

from smca.layers import (
    CoAttention,
    FeedForward,
    MultiheadAttention,
    SeparableBias,
    dense_bias,
    xavier_uniform_matrices_,
)

from .records import FeatureLevel


class Prior(Protocol):
    """What a modulation gives for one decoder layer, and :class:`LevelCoAttention` looks through."""

    level_weights: Tensor | None
    """(B, Q, S) weights of the levels, summing to 1; None weighs them equally."""

    def bias(self, index: int, level: FeatureLevel) -> Tensor | SeparableBias | None:
        """Additive logits for the cells of one level, (B, H or 1, Q, N) or in two terms; None for none."""


class LevelCoAttention(CoAttention):
    """Co-attention of queries with feature levels, modulated by a prior, equations (5), (6), (8) and (9)."""

    def forward(
        self, query: Tensor, levels: list[FeatureLevel], prior: Prior | None = None
    ) -> Tensor:
        """Attend to the levels, each through its prior.

        Args:
            query: (B, Q, C) with its position.
            levels: S levels; padded cells are left out.
            prior: None is DETR's plain cross-attention.

        Returns:
            (B, Q, C).
        """
        return super().forward(
            query,
            [level.tokens + level.position for level in levels],
            [level.tokens for level in levels],
            [_masked_bias(s, level, prior) for s, level in enumerate(levels)],
            None if prior is None else prior.level_weights,
        )

    def attention_maps(
        self,
        query: Tensor,
        levels: list[FeatureLevel],
        prior: Prior | None = None,
        *,
        chosen: Tensor | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Where the queries look, which :meth:`forward` does not keep.

        Args:
            query, levels, prior: as for :meth:`forward`.
            chosen: (D,) indices of the queries that are asked for; all where there are none.

        Returns:
            Per level the weights of its cells (B, H, D, N) before modulation, softmax(q k / sqrt(d)), and after it,
            softmax(q k / sqrt(d) + log G). Each sums to 1; those of several levels are still to be weighed.
        """
        chosen = slice(None) if chosen is None else chosen
        projected = self.project_query(query[:, chosen])
        maps = []
        for s, level in enumerate(levels):
            key, _ = self.project_level(s, level.tokens + level.position, level.tokens)
            before = self.attention_weights(projected, key, level.attention_mask)
            bias = dense_bias(_masked_bias(s, level, prior))
            if bias is not None and bias.is_floating_point():
                bias = bias[:, :, chosen]
            maps.append((before, self.attention_weights(projected, key, bias)))
        return maps


def _masked_bias(
    index: int, level: FeatureLevel, prior: Prior | None
) -> Tensor | SeparableBias | None:
    """Logarithm of the prior with padded cells at minus infinity; without a prior only the padding mask."""
    bias = None if prior is None else prior.bias(index, level)
    if bias is None:
        return level.attention_mask
    if level.attention_mask is None:
        return bias
    if isinstance(bias, SeparableBias):
        return replace(bias, allowed=level.attention_mask)
    return bias.masked_fill(~level.attention_mask, float("-inf"))


class DecoderLayer(nn.Module):
    """Self-attention of the queries, co-attention with the image, feed-forward.

    A decoder takes any module that is called as this one; what it makes of ``prior`` is its own affair.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 256,
        num_heads: int = 8,
        ffn_dim: int = 2048,
        dropout: float = 0.1,
        num_levels: int = 1,
        share_key_value: bool = True,
        co_attention: nn.Module | None = None,
        pre_norm: bool = False,
    ):
        """
        Args:
            embed_dim, num_heads, ffn_dim, dropout: as in the encoder.
            num_levels: S.
            share_key_value: see :class:`smca.layers.CoAttention`.
            co_attention: called with query (B, Q, C), levels and prior, as :class:`LevelCoAttention`, which is taken
                where none is given; one with ``reset_parameters`` is initialised by it.
            pre_norm: norms before each of the three, not behind their sums.
        """
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attention = MultiheadAttention(embed_dim, num_heads, dropout)
        self.co_attention = co_attention or LevelCoAttention(
            embed_dim, num_heads, dropout, num_levels=num_levels, share_key_value=share_key_value
        )
        self.ffn = FeedForward(embed_dim, ffn_dim, dropout)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.norm3 = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        xavier_uniform_matrices_(self)
        if hasattr(self.co_attention, "reset_parameters"):
            self.co_attention.reset_parameters()

    def forward(
        self,
        target: Tensor,
        query_position: Tensor,
        levels: list[FeatureLevel],
        prior: Any = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """One layer's update of the queries.

        Args:
            target, query_position: (B, Q, C).
            levels: encoded feature levels.
            prior: of the decoder's modulation for this layer; None without one.
            attention_mask: (Q, Q) bool, True where a query (row) may attend to another.

        Returns:
            (B, Q, C).
        """
        if self.pre_norm:
            return self._norms_first(target, query_position, levels, prior, attention_mask)
        located = target + query_position
        update = self.self_attention(located, located, target, attention_mask)
        target = self.norm1(target + self.dropout(update))
        update = self.co_attention(target + query_position, levels, prior)
        target = self.norm2(target + self.dropout(update))
        return self.norm3(target + self.dropout(self.ffn(target)))

    def _norms_first(
        self,
        target: Tensor,
        query_position: Tensor,
        levels: list[FeatureLevel],
        prior: Any,
        attention_mask: Tensor | None,
    ) -> Tensor:
        normal = self.norm1(target)
        located = normal + query_position
        update = self.self_attention(located, located, normal, attention_mask)
        target = target + self.dropout(update)
        update = self.co_attention(self.norm2(target) + query_position, levels, prior)
        target = target + self.dropout(update)
        return target + self.dropout(self.ffn(self.norm3(target)))
