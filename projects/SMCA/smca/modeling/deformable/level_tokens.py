from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..records import FeatureLevel


@dataclass(frozen=True)
class LevelTokens:
    """The cells of all levels behind each other.

    Attributes:
        tokens, position: (B, N, C), N the cells of all levels.
        padding_mask: (B, N) bool, True where a cell is padding; None when no image of the batch is padded.
        sizes: (h, w) of each level.
    """

    tokens: Tensor
    position: Tensor
    padding_mask: Tensor | None
    sizes: list[tuple[int, int]]


def join_levels(levels: Sequence[FeatureLevel]) -> LevelTokens:
    masks = [level.padding_mask for level in levels]
    return LevelTokens(
        tokens=torch.cat([level.tokens for level in levels], 1),
        position=torch.cat([level.position for level in levels], 1),
        padding_mask=None if masks[0] is None else torch.cat(masks, 1),
        sizes=[level.size for level in levels],
    )


def split_levels(tokens: Tensor, levels: Sequence[FeatureLevel]) -> list[FeatureLevel]:
    """(B, N, C) tokens of all levels back into the levels they are of."""
    parts = tokens.split([h * w for h, w in (level.size for level in levels)], dim=1)
    return [level.with_tokens(part) for level, part in zip(levels, parts, strict=True)]


def valid_sizes(level: FeatureLevel) -> Tensor:
    """(B or 1, 2) valid columns and rows of a level, at least float32; images fill its upper left corner."""
    h, w = level.size
    tokens = level.tokens
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    if level.padding_mask is None:
        return torch.tensor([[w, h]], dtype=dtype, device=tokens.device)
    valid = ~level.padding_mask.unflatten(1, (h, w))
    return torch.stack([valid[:, 0].sum(1), valid[:, :, 0].sum(1)], -1).to(dtype)


def valid_ratios(levels: Sequence[FeatureLevel]) -> Tensor:
    """(B or 1, S, 2) share of each level's columns and rows that is valid."""
    shares = []
    for level in levels:
        size, (h, w) = valid_sizes(level), level.size
        # Not new_tensor, which makes numbers of the sizes of a graph that is exported.
        shares.append(size / torch.tensor([w, h], dtype=size.dtype, device=size.device))
    return torch.stack(shares, 1)


def cell_centers(level: FeatureLevel) -> Tensor:
    """(B or 1, N, 2) centre (x, y) of each cell in [0, 1] of the valid area, beyond 1 in padding; at least float32."""
    size = valid_sizes(level)
    h, w = level.size
    y, x = torch.meshgrid(
        torch.arange(h, dtype=size.dtype, device=size.device) + 0.5,
        torch.arange(w, dtype=size.dtype, device=size.device) + 0.5,
        indexing="ij",
    )
    return torch.stack([x, y], -1).flatten(0, 1) / size[:, None]
