import torch
from torch import Tensor, nn

from smca.layers import DeformableAttention, FeedForward, run_layer, xavier_uniform_matrices_

from ..records import FeatureLevel
from .level_tokens import LevelTokens, cell_centers, join_levels, split_levels, valid_ratios
from .sampling import on_padded_maps


class DeformableEncoderLayer(nn.Module):
    """Each cell attends to a few points around it, on every level; feed-forward; post-norm."""

    def __init__(
        self,
        *,
        embed_dim: int,
        num_heads: int,
        ffn_dim: int,
        dropout: float,
        num_levels: int,
        num_points: int,
    ):
        super().__init__()
        self.attention = DeformableAttention(
            embed_dim, num_heads, num_levels=num_levels, num_points=num_points
        )
        self.ffn = FeedForward(embed_dim, ffn_dim, dropout)
        self.norm1 = nn.LayerNorm(embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        xavier_uniform_matrices_(self)
        self.attention.reset_parameters()

    def forward(self, tokens: Tensor, joined: LevelTokens, reference: Tensor) -> Tensor:
        """Encode all levels together.

        Args:
            tokens: (B, N, C) so far.
            joined: all levels, for positions, padding and sizes.
            reference: (B, N, S, 2), each cell's place on every padded map.
        """
        located = tokens + joined.position
        update = self.attention(located, reference, tokens, joined.sizes, joined.padding_mask)
        tokens = self.norm1(tokens + self.dropout(update))
        return self.norm2(tokens + self.dropout(self.ffn(tokens)))


class DeformableEncoder(nn.Module):
    """Layers of multi-scale deformable self-attention over the cells of all levels."""

    def __init__(
        self,
        *,
        num_layers: int = 6,
        embed_dim: int = 256,
        num_heads: int = 8,
        ffn_dim: int = 1024,
        dropout: float = 0.1,
        num_levels: int = 4,
        num_points: int = 4,
        activation_checkpointing: bool = False,
    ):
        """
        Args:
            num_layers: layers.
            embed_dim, num_heads, ffn_dim: C, H and the hidden width of the feed-forward network.
            dropout: on the two residual branches and the hidden layer.
            num_levels, num_points: S and K of :class:`smca.layers.DeformableAttention`.
            activation_checkpointing: compute activations again in the backward pass instead of keeping them.
        """
        super().__init__()
        self.num_levels = num_levels
        self.activation_checkpointing = activation_checkpointing
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(
                embed_dim=embed_dim,
                num_heads=num_heads,
                ffn_dim=ffn_dim,
                dropout=dropout,
                num_levels=num_levels,
                num_points=num_points,
            )
            for _ in range(num_layers)
        )

    def forward(self, levels: list[FeatureLevel]) -> list[FeatureLevel]:
        """Levels in, the same levels with encoded tokens out."""
        joined = join_levels(levels)
        centers = torch.cat(
            [cell_centers(level).expand(joined.tokens.shape[0], -1, -1) for level in levels], 1
        )
        reference = on_padded_maps(centers, valid_ratios(levels))
        tokens = joined.tokens
        for layer in self.layers:
            recompute = self.activation_checkpointing
            tokens = run_layer(layer, tokens, joined, reference, recompute=recompute)
        return split_levels(tokens, levels)
