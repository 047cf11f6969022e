from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

# PyTorch 2.6 does not tell the two apart.
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def sample_levels(
    values: Tensor, sizes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Weighted sum of values sampled bilinearly, zeros outside of the maps.

    Without gradients on a CPU it takes the rows of all corners at once, which is three times as fast as sampling level
    by level.

    Args:
        values: (B, N, H, D), the cells of all S levels behind each other, row by row.
        sizes: (h, w) of the levels.
        locations: (B, Q, H, S, K, 2) as (x, y) in [0, 1] of the map, 0 its left or upper border.
        weights: (B, Q, H, S, K).

    Returns:
        (B, Q, H * D), heads behind each other.
    """
    gathers = values.device.type == "cpu" and not torch.is_grad_enabled()
    # A graph that is exported has one operator per level then, which runtimes know; torch.compile would take that
    # operator apart, which is several times slower.
    gathers = gathers and not _is_exporting()
    return (gather_corners if gathers else sample_grids)(values, sizes, locations, weights)


def sample_grids(
    values: Tensor, sizes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """:func:`sample_levels` by PyTorch's own bilinear sampling, one level after the other."""
    batch, num_queries = locations.shape[:2]
    # grid_sample counts from -1 to 1.
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)
    weights = weights.transpose(1, 2).flatten(0, 1)[:, None]
    maps = values.permute(0, 2, 3, 1).flatten(0, 1)  # (B * H, D, N)
    total = None
    for level, part in enumerate(maps.split([h * w for h, w in sizes], dim=-1)):
        sampled = F.grid_sample(
            part.unflatten(-1, sizes[level]),
            grids[:, :, level],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        update = (sampled * weights[:, :, :, level]).sum(-1)
        total = update if total is None else total + update
    return total.view(batch, -1, num_queries).transpose(1, 2)


def gather_corners(
    values: Tensor, sizes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """:func:`sample_levels` as a weighted sum of rows: the four cells around each of the S * K points of a head."""
    batch, num_cells, num_heads, channels = values.shape
    bags = batch * locations.shape[1] * num_heads
    integers = {"dtype": torch.int32, "device": values.device}
    head = torch.arange(num_heads, **integers).view(-1, 1, 1)
    image = torch.arange(batch, **integers).view(-1, 1, 1, 1, 1)
    starts = list(accumulate([0, *(h * w for h, w in sizes[:-1])]))
    widths = torch.tensor([w for _, w in sizes], **integers)[:, None]
    starts = torch.tensor(starts, **integers)[:, None] + image * num_cells
    x, y = (axis.contiguous() for axis in locations.unbind(-1))
    columns = _neighbours(x, [w for _, w in sizes])
    lines = _neighbours(y, [h for h, _ in sizes])
    rows, factors = [], []
    for line, line_share in lines:
        line, line_share = line * widths + starts, line_share * weights
        for column, column_share in columns:
            rows.append((line + column) * num_heads + head)
            factors.append(line_share * column_share)
    summed = F.embedding_bag(
        torch.stack(rows, -1).view(bags, -1),
        values.reshape(-1, channels),
        per_sample_weights=torch.stack(factors, -1).view(bags, -1),
        mode="sum",
    )
    return summed.view(batch, -1, num_heads * channels)


def _neighbours(places: Tensor, counts: list[int]) -> list[tuple[Tensor, Tensor]]:
    """The two cells of an axis that a place lies between, and their shares of it; those outside of the map have none.

    Args:
        places: (B, Q, H, S, K) in [0, 1] of the map.
        counts: cells of the axis, of each level.
    """
    limits = torch.tensor(counts, dtype=torch.int32, device=places.device)[:, None]
    places = places * limits - 0.5
    first = places.floor()
    share = places - first
    # Far outside is as good as two cells outside, and fits into the integers.
    first = first.clamp(-2, max(counts)).to(torch.int32)
    found = []
    for cell, part in ((first, 1 - share), (first + 1, share)):
        inside = (cell >= 0) & (cell < limits)
        found.append((cell.clamp(min=0).minimum(limits - 1), part * inside))
    return found
