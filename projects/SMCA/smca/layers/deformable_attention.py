import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .attention import check_heads
from .level_sampling import sample_levels
from .precision import at_least_float32, full_precision


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention (arXiv 2010.04159, equation 3).

    Each query looks at K points of each of the S levels, which it finds from its reference by offsets of its own:

        output = W sum_(s, k) A_(s, k) V_s(p_(s, k))          for each head, then all heads through W

    A is one softmax over the S * K points, V_s(p) samples a level's projected values linearly between cells, with
    zeros outside of the map and in padded cells.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, num_levels: int = 1, num_points: int = 4):
        """
        Args:
            embed_dim: C.
            num_heads: H, a divisor of C.
            num_levels: S.
            num_points: K, of each level and head.

        Raises:
            InputError: if ``num_heads`` does not divide ``embed_dim``.
        """
        super().__init__()
        check_heads(embed_dim, num_heads)
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        points = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dim, 2 * points)
        self.attention_weights = nn.Linear(embed_dim, points)
        self.value = nn.Linear(embed_dim, embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Each head starts looking in a direction of its own, at k = 1 .. K cells from the reference, evenly."""
        directions = torch.arange(self.num_heads, dtype=torch.float32) * (
            2 * math.pi / self.num_heads
        )
        ring = torch.stack([directions.cos(), directions.sin()], -1)
        # On a square: the farther coordinate is 1.
        ring = ring / ring.abs().amax(-1, keepdim=True)
        distances = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        offsets = (ring[:, None] * distances[:, None])[:, None].expand(-1, self.num_levels, -1, -1)
        nn.init.zeros_(self.sampling_offsets.weight)
        self.sampling_offsets.bias.copy_(offsets.flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value, self.out_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        reference: Tensor,
        values: Tensor,
        sizes: Sequence[tuple[int, int]],
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Sample the levels around each query's reference, and weigh what is found.

        Args:
            query: (B, Q, C) with its position.
            reference: per level a point (B, Q, S, 2) as (x, y) or a box (B, Q, S, 4) as (cx, cy, w, h), in [0, 1] of
                the padded map. Offsets from a point are in cells, those from a box in halves of its sides, divided
                by K.
            values: (B, N, C), the cells of all levels behind each other.
            sizes: (h, w) of the S levels.
            padding_mask: (B, N) bool, True where a cell is padding; None when none is.

        Returns:
            (B, Q, C).
        """
        value = self.value(values)
        if padding_mask is not None:
            value = value.masked_fill(padding_mask[..., None], 0.0)
        locations, weights = self.sampling_points(query, reference, sizes)
        # A coordinate in half precision misses its cell.
        with full_precision(query):
            heads = at_least_float32(value).unflatten(-1, (self.num_heads, -1))
            sampled = sample_levels(heads, sizes, locations, weights)
        return self.out_proj(sampled.to(value.dtype))

    def sampling_points(
        self, query: Tensor, reference: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Where each query looks, and how much each point counts.

        Args:
            query, reference, sizes: as for :meth:`forward`.

        Returns:
            (B, Q, H, S, K, 2) as (x, y) in [0, 1] of the padded map, and (B, Q, H, S, K) that sum to 1 over the S * K
            points of a head; at least float32.
        """
        shape = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*shape, 2))
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1))
        with full_precision(query):
            locations = self._locate(at_least_float32(offsets), at_least_float32(reference), sizes)
            weights = at_least_float32(weights).softmax(-1).unflatten(-1, shape[1:])
        return locations, weights

    def _locate(
        self, offsets: Tensor, reference: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Where to sample, (B, Q, H, S, K, 2) in [0, 1] of the padded map."""
        center = reference[:, :, None, :, None, :2]
        if reference.shape[-1] == 2:
            # Not new_tensor, which makes numbers of the sizes of a graph that is exported.
            cells = torch.tensor(
                [(w, h) for h, w in sizes], dtype=offsets.dtype, device=offsets.device
            )
            return center + offsets / cells[:, None]
        sides = reference[:, :, None, :, None, 2:]
        return center + offsets / self.num_points * sides * 0.5
