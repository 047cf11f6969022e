from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from smca.layers import (
    CoAttention,
    FeedForward,
    MultiheadAttention,
    at_least_float32,
    full_precision,
)

from .feature_level import FeatureLevel
from .modulation import SpatialModulation, SpatialPrior


@dataclass(frozen=True)
class DecoderOutput:
    """
    Attributes:
        hidden: (L, B, Q, C) normalised output of every layer.
        priors: the spatial prior of every layer; empty for plain DETR.
        image_sizes: (B, 2) unpadded (width, height) in pixels.
    """

    hidden: Tensor
    priors: list[SpatialPrior]
    image_sizes: Tensor

    @property
    def center_logits(self) -> Tensor | None:
        """(B, Q, 2) initial centres (x, y) before the sigmoid; None for plain DETR."""
        return self.priors[0].center_logits if self.priors else None


class DecoderLayer(nn.Module):
    """Self-attention of the queries, (spatially modulated) co-attention with the image, feed-forward; post-norm."""

    def __init__(
        self,
        *,
        embed_dim: int,
        num_heads: int,
        ffn_dim: int,
        dropout: float,
        num_levels: int,
        share_key_value: bool,
    ):
        super().__init__()
        self.self_attention = MultiheadAttention(embed_dim, num_heads, dropout)
        self.co_attention = CoAttention(
            embed_dim, num_heads, dropout, num_levels=num_levels, share_key_value=share_key_value
        )
        self.ffn = FeedForward(embed_dim, ffn_dim, dropout)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.norm3 = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        target: Tensor,
        query_position: Tensor,
        levels: list[FeatureLevel],
        prior: SpatialPrior | None,
    ) -> Tensor:
        """(B, Q, C) target and query position -> (B, Q, C)."""
        located = target + query_position
        target = self.norm1(target + self.dropout(self.self_attention(located, located, target)))
        update = self.co_attention(
            target + query_position,
            [level.tokens + level.position for level in levels],
            [level.tokens for level in levels],
            [_co_attention_bias(s, level, prior) for s, level in enumerate(levels)],
            None if prior is None else prior.level_weights,
        )
        target = self.norm2(target + self.dropout(update))
        return self.norm3(target + self.dropout(self.ffn(target)))


def _co_attention_bias(
    index: int, level: FeatureLevel, prior: SpatialPrior | None
) -> Tensor | None:
    """Logarithm of the prior with padded cells at minus infinity; for plain DETR only the padding mask."""
    if prior is None:
        return level.attention_mask
    bias = prior.log_prior(index, level.size)
    if level.attention_mask is None:
        return bias
    return bias.masked_fill(~level.attention_mask, float("-inf"))


class Decoder(nn.Module):
    """Learned object queries decoded against the encoded levels; SMCA with a modulation, DETR without."""

    def __init__(
        self,
        *,
        num_queries: int = 300,
        num_layers: int = 6,
        embed_dim: int = 256,
        num_heads: int = 8,
        ffn_dim: int = 2048,
        dropout: float = 0.1,
        num_levels: int = 1,
        share_key_value: bool = True,
        modulation: SpatialModulation | None = None,
        activation_checkpointing: bool = False,
    ):
        """
        Args:
            num_queries: Q.
            num_layers: L.
            embed_dim, num_heads, ffn_dim, dropout: as in the encoder.
            num_levels: S.
            share_key_value: see :class:`smca.layers.CoAttention`.
            modulation: predicts the spatial priors; None is DETR's plain co-attention.
            activation_checkpointing: as in :class:`Encoder`.

        Raises:
            ValueError: if the modulation was built for another number of layers, heads or levels.
        """
        super().__init__()
        if modulation is not None:
            _check_modulation(modulation, num_layers, num_heads, num_levels)
        self.num_levels = num_levels
        self.query_embedding = nn.Embedding(num_queries, embed_dim)
        self.layers = nn.ModuleList(
            DecoderLayer(
                embed_dim=embed_dim,
                num_heads=num_heads,
                ffn_dim=ffn_dim,
                dropout=dropout,
                num_levels=num_levels,
                share_key_value=share_key_value,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.modulation = modulation
        self.activation_checkpointing = activation_checkpointing

    def forward(self, levels: list[FeatureLevel], image_sizes: Tensor) -> DecoderOutput:
        """
        Args:
            levels: encoded feature levels.
            image_sizes: (B, 2) unpadded (width, height) in pixels.
        """
        query_position = self.query_embedding.weight.expand(len(image_sizes), -1, -1)
        target = torch.zeros_like(query_position)
        hidden, priors = [], []
        for index, layer in enumerate(self.layers):
            prior = None
            if self.modulation is not None:
                center_logits = priors[0].center_logits if priors else None
                with full_precision(target):
                    located = at_least_float32(target + query_position)
                    prior = self.modulation(index, located, center_logits, levels, image_sizes)
                priors.append(prior)
            target = self._run(layer, target, query_position, levels, prior)
            hidden.append(self.norm(target))
        return DecoderOutput(torch.stack(hidden), priors, image_sizes)

    def _run(self, layer: DecoderLayer, *inputs: object) -> Tensor:
        if self.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)


def _check_modulation(
    modulation: SpatialModulation, num_layers: int, num_heads: int, num_levels: int
) -> None:
    asked = (num_layers, num_levels)
    built = (len(modulation.layers), modulation.num_levels)
    heads = modulation.layers[0].shape[1]
    if asked != built or heads not in (1, num_heads):
        raise ValueError(
            f"decoder.modulation was built for {built[0]} layers, {built[1]} levels and {heads} heads, "
            f"the decoder has {num_layers}, {num_levels} and {num_heads}"
        )
