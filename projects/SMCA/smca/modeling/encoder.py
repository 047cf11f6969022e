import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from smca.errors import InputError
from smca.layers import FeedForward, MultiheadAttention, run_layer, xavier_uniform_matrices_

from .records import FeatureLevel

BlockKind = Literal["intra", "multi"]
MOST_BLOCKS = 100
"""A description that comes with a file could ask for so many that building them would take hours."""


class EncoderBlock(nn.Module):
    """One transformer block over the tokens of S levels, equation (1).

    An ``intra`` block attends inside each level, a ``multi`` block over the tokens of all levels at once. The two
    differ only in which levels share a softmax; where weights are a level's own, a multi block still projects
    each token with its own level's weights before the joint softmax.
    """

    def __init__(
        self,
        *,
        kind: BlockKind,
        embed_dim: int,
        num_heads: int,
        ffn_dim: int,
        dropout: float,
        num_levels: int,
        share_attention: bool = True,
        share_ffn: bool = True,
        pre_norm: bool = False,
    ):
        """
        Args:
            kind: "intra" or "multi".
            embed_dim, num_heads, ffn_dim: C, H and the hidden width of the feed-forward network.
            dropout: on attention weights, the two residual branches and the hidden layer.
            num_levels: S.
            share_attention, share_ffn: one set of weights for all levels, or one per level. Norms are shared.
            pre_norm: norms before attention and feed-forward network, not behind their sums.
        """
        super().__init__()
        self.kind = kind
        self.pre_norm = pre_norm
        self.attention = nn.ModuleList(
            MultiheadAttention(embed_dim, num_heads, dropout)
            for _ in range(1 if share_attention else num_levels)
        )
        self.ffn = nn.ModuleList(
            FeedForward(embed_dim, ffn_dim, dropout) for _ in range(1 if share_ffn else num_levels)
        )
        self.norm1 = nn.LayerNorm(embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        xavier_uniform_matrices_(self)

    def forward(self, levels: list[FeatureLevel]) -> list[FeatureLevel]:
        seen = levels
        if self.pre_norm:
            seen = [level.with_tokens(self.norm1(level.tokens)) for level in levels]
        if self.kind == "intra":
            attended = [update for item in enumerate(seen) for update in self._attend([item])]
        else:
            attended = self._attend(list(enumerate(seen)))
        return [
            level.with_tokens(self._finish(index, level.tokens, update))
            for index, (level, update) in enumerate(zip(levels, attended, strict=True))
        ]

    def _attend(self, group: list[tuple[int, FeatureLevel]]) -> list[Tensor]:
        """Joint softmax over the tokens of a group of (index, level) -> one (B, N_s, C) update per level."""
        projected = []
        for index, level in group:
            attention = _of_level(self.attention, index)
            located = level.tokens + level.position
            projected.append(
                (
                    attention.project_query(located),
                    *attention.project_key_value(located, level.tokens),
                )
            )
        query, key, value = (torch.cat(parts, dim=2) for parts in zip(*projected, strict=True))
        lengths = [level.tokens.shape[1] for _, level in group]
        # A softmax over all of the group has no weights: it is any level's.
        first, _ = group[0]
        attend = _of_level(self.attention, first).attend
        heads = attend(query, key, value, _attention_mask(group))
        return [
            _of_level(self.attention, index).merge_heads(part)
            for (index, _), part in zip(group, heads.split(lengths, dim=2), strict=True)
        ]

    def _finish(self, index: int, tokens: Tensor, update: Tensor) -> Tensor:
        ffn = _of_level(self.ffn, index)
        if self.pre_norm:
            tokens = tokens + self.dropout(update)
            return tokens + self.dropout(ffn(self.norm2(tokens)))
        tokens = self.norm1(tokens + self.dropout(update))
        update = ffn(tokens)
        return self.norm2(tokens + self.dropout(update))


def _of_level(modules: nn.ModuleList, index: int) -> nn.Module:
    """A level's own module, or the one that all levels share."""
    return modules[index] if len(modules) > 1 else modules[0]


def _attention_mask(group: list[tuple[int, FeatureLevel]]) -> Tensor | None:
    masks = [level.attention_mask for _, level in group]
    return None if masks[0] is None else torch.cat(masks, dim=-1)


class Encoder(nn.Module):
    """A sequence of intra- and multi-scale blocks, for the full model 2 intra, 1 multi, 2 intra."""

    def __init__(
        self,
        *,
        blocks: str | Sequence[BlockKind],
        embed_dim: int = 256,
        num_heads: int = 8,
        ffn_dim: int = 2048,
        dropout: float = 0.1,
        num_levels: int = 1,
        share_attention: bool = True,
        share_ffn: bool = True,
        activation_checkpointing: bool = False,
        pre_norm: bool = False,
    ):
        """
        Args:
            blocks: the paper's notation, such as "2Intra-Multi-2Intra", or the kind of each block in a list. With
                one level the two kinds are the same.
            others: as in :class:`EncoderBlock`.
            activation_checkpointing: compute activations again in the backward pass instead of keeping them.
            pre_norm: as in :class:`EncoderBlock`, and a last norm behind all blocks.

        Raises:
            InputError: for a kind of block that does not exist.
        """
        super().__init__()
        self.num_levels = num_levels
        self.activation_checkpointing = activation_checkpointing
        self.blocks = nn.ModuleList(
            EncoderBlock(
                kind=kind,
                embed_dim=embed_dim,
                num_heads=num_heads,
                ffn_dim=ffn_dim,
                dropout=dropout,
                num_levels=num_levels,
                share_attention=share_attention,
                share_ffn=share_ffn,
                pre_norm=pre_norm,
            )
            for kind in parse_blocks(blocks)
        )
        self.norm = nn.LayerNorm(embed_dim) if pre_norm else None

    def forward(self, levels: list[FeatureLevel]) -> list[FeatureLevel]:
        """Levels in, the same levels with encoded tokens out."""
        for block in self.blocks:
            levels = run_layer(block, levels, recompute=self.activation_checkpointing)
        if self.norm is not None:
            levels = [level.with_tokens(self.norm(level.tokens)) for level in levels]
        return levels


def parse_blocks(blocks: str | Sequence[str]) -> list[BlockKind]:
    """Kinds of the encoder's blocks: "2Intra-Multi" -> ["intra", "intra", "multi"]; a list is checked only.

    Raises:
        InputError: for a word other than "intra" and "multi", or no or too many blocks.
    """
    if not isinstance(blocks, Sequence):
        raise InputError(f"encoder.blocks {blocks!r} must be words, such as '2Intra-Multi-2Intra'")
    words = blocks.split("-") if isinstance(blocks, str) else [str(word) for word in blocks]
    kinds = []
    for word in words:
        match = re.fullmatch(r"(\d*)(intra|multi)", word.strip().lower())
        if match is None:
            raise InputError(
                f"encoder.blocks {blocks!r} has the unknown word {word!r}; write Intra or Multi, each with a count "
                "before it if you like, joined by '-', such as '2Intra-Multi-2Intra'"
            )
        count = match[1] or "1"
        if len(count) > 3 or len(kinds) + int(count) > MOST_BLOCKS:
            raise InputError(f"encoder.blocks {blocks!r} has more than {MOST_BLOCKS} blocks")
        kinds += [match[2]] * int(count)
    if not kinds:
        raise InputError(f"encoder.blocks {blocks!r} has no block, at least 1 is needed")
    return kinds
