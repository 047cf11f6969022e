from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from smca.errors import InputError
from smca.layers import MLP, SeparableBias, separable_log_prior, xavier_uniform_matrices_

from .records import FeatureLevel

REFERENCE_STRIDE = 32
"""Stride at which the bandwidth is beta itself; the exponent at stride s is multiplied by s / 32."""


@dataclass(frozen=True)
class SpatialPrior:
    """Where the queries of one decoder layer look.

    Attributes:
        center_logits: (B, Q, 2) centre (x, y) before the sigmoid, shared by heads, levels and layers.
        centers: S tensors (B, Q, H, 2), centres (x, y) in cells of the level.
        scales: S tensors (B, Q, H, 2), inverse widths (s_x, s_y) in 1 / cells of the level.
        betas: S bandwidths.
        level_weights: (B, Q, S) scale-selection weights alpha, or None where all levels weigh the same.
        cell_origin: where in its cell a whole coordinate is: 0 at the corner, as the paper's, 0.5 in the middle.
    H is 1 for a head-shared prior.
    """

    center_logits: Tensor
    centers: list[Tensor]
    scales: list[Tensor]
    betas: list[float]
    level_weights: Tensor | None
    cell_origin: float = 0.0

    @property
    def references(self) -> Tensor:
        """(1, B, Q, 2) logits that the boxes of all layers are predicted relative to."""
        return self.center_logits[None]

    def bias(self, index: int, level: FeatureLevel) -> SeparableBias:
        """Logarithm of the prior over the cells of one level, equation (4)."""
        return self.log_prior(index, level.size)

    def log_prior(self, level: int, size: tuple[int, int]) -> SeparableBias:
        """Equation (4) for one level of (h, w) cells, terms (B, H, Q, h) and (B, H, Q, w)."""
        return separable_log_prior(
            self.centers[level], self.scales[level], size, beta=self.betas[level]
        )


class LayerModulation(nn.Module):
    """What one decoder layer predicts from o_q, its normalised input: offsets, scales and scale selection."""

    def __init__(
        self,
        *,
        embed_dim: int,
        num_levels: int,
        num_heads: int,
        offsets: bool,
        scale: Literal["fixed", "single", "independent"],
        scale_selection: bool,
    ):
        super().__init__()
        self.shape = (num_levels, num_heads)
        groups = num_levels * num_heads
        scale_dims = {"fixed": 0, "single": 1, "independent": 2}[scale]
        self.norm = nn.LayerNorm(embed_dim)
        self.offset = nn.Linear(embed_dim, groups * 2) if offsets else None
        self.scale = nn.Linear(embed_dim, groups * scale_dims) if scale_dims else None
        self.level_selection = nn.Linear(embed_dim, num_levels) if scale_selection else None

    def reset_scale(self) -> None:
        """Every head starts from the same wide prior: s = 1 whatever the query."""
        if self.scale is not None:
            nn.init.zeros_(self.scale.weight)
            nn.init.ones_(self.scale.bias)

    def forward(self, o_q: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """(B, Q, C) -> offsets (B, Q, S, H, 2) in cells, scales (B, Q, S, H, 2), selection (B, Q, S)."""
        offset = scale = selection = None
        dtype = torch.promote_types(o_q.dtype, torch.float32)
        if self.offset is not None:
            offset = self.offset(o_q).to(dtype).unflatten(-1, (*self.shape, 2))
        if self.scale is not None:
            scale = self.scale(o_q).to(dtype).unflatten(-1, (*self.shape, -1))
            scale = scale.expand(*o_q.shape[:2], *self.shape, 2)
        if self.level_selection is not None:
            selection = self.level_selection(o_q).softmax(-1)  # equation (7)
        return offset, scale, selection


class PerLayerModulation(nn.Module):
    """What modulations share that have a :class:`LayerModulation` for every decoder layer, as ``layers``."""

    layers: nn.ModuleList
    num_levels: int

    def reset_parameters(self) -> None:
        xavier_uniform_matrices_(self)
        for layer in self.layers:
            layer.reset_scale()

    def check_decoder(self, *, num_layers: int, num_heads: int | None, num_levels: int) -> None:
        """Refuse a decoder that this modulation was not built for.

        Raises:
            InputError: if the decoder has another number of layers, heads or levels; ``num_heads`` is None where it is
                not known.
        """
        built = (len(self.layers), self.num_levels)
        heads = self.layers[0].shape[1]
        if (num_layers, num_levels) != built or heads not in (1, num_heads or heads):
            raise InputError(
                f"decoder.modulation was built for {built[0]} layers, {built[1]} levels and {heads} heads, "
                f"the decoder has {num_layers}, {num_levels} and {num_heads}"
            )


class SpatialModulation(PerLayerModulation):
    """Spatial prior of every decoder layer, equations (3), (4), (6) and (7).

    The first layer predicts the centre with an MLP; later layers reuse it and predict only their own offsets and
    scales. The head-shared prior of equation (5) is ``per_head=False``, which has no offsets.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        num_heads: int,
        num_layers: int,
        num_levels: int = 1,
        per_head: bool = True,
        scale: Literal["fixed", "single", "independent"] = "independent",
        scale_selection: bool = False,
        beta: float = 8.0,
    ):
        """
        Args:
            embed_dim, num_heads: C and H of the co-attention.
            num_layers: decoder layers.
            num_levels: S.
            per_head: an offset and scales of its own for every head.
            scale: "fixed" is the constant 1, "single" one scale for both axes, "independent" one for each.
            scale_selection: equation (7); without it levels weigh the same.
            beta: bandwidth at stride 32, see :func:`smca.layers.separable_log_prior`.

        Raises:
            InputError: for an unknown ``scale`` or a ``beta`` that is not positive.
        """
        super().__init__()
        if scale not in ("fixed", "single", "independent"):
            raise InputError(
                f"modulation.scale must be 'fixed', 'single' or 'independent', got {scale!r}"
            )
        if not beta > 0:
            raise InputError(f"modulation.beta must be positive, got {beta}")
        self.beta = beta
        self.num_levels = num_levels
        self.center = MLP(embed_dim, embed_dim, 2, num_layers=3)
        self.layers = nn.ModuleList(
            LayerModulation(
                embed_dim=embed_dim,
                num_levels=num_levels,
                num_heads=num_heads if per_head else 1,
                offsets=per_head,
                scale=scale,
                scale_selection=scale_selection and num_levels > 1,
            )
            for _ in range(num_layers)
        )
        self.reset_parameters()

    def forward(
        self,
        layer: int,
        located_query: Tensor,
        previous: SpatialPrior | None,
        levels: Sequence[FeatureLevel],
        image_sizes: Tensor,
        reference: Tensor | None = None,
    ) -> SpatialPrior:
        """The prior of a layer, from its queries.

        Args:
            layer: index of the decoder layer.
            located_query: (B, Q, C) layer input plus query position; normalised here it is the paper's o_q.
            previous: the prior of the layer before, whose centre is taken over; None in the first layer.
            levels: S feature levels, for their strides.
            image_sizes: (B, 2) unpadded (width, height) in pixels.
            reference: where a decoder with references has the query so far, (B, Q, 2 or 4) logits; this modulation
                predicts its own centre.
        """
        predictor = self.layers[layer]
        o_q = predictor.norm(located_query)
        center_logits = self.center(o_q) if previous is None else previous.center_logits
        offsets, scales, level_weights = predictor(o_q)
        # Cell coordinates reach into the hundreds and are squared: never in half precision.
        dtype = torch.promote_types(center_logits.dtype, torch.float32)
        center = center_logits.to(dtype).sigmoid() * image_sizes[:, None].to(dtype)
        shape = (*center.shape[:2], predictor.shape[1], 2)
        centers, level_scales = [], []
        for s, level in enumerate(levels):
            in_cells = (center / level.stride)[:, :, None].expand(shape)
            centers.append(in_cells if offsets is None else in_cells + offsets[:, :, s])
            level_scales.append(in_cells.new_ones(shape) if scales is None else scales[:, :, s])
        return SpatialPrior(
            center_logits=center_logits,
            centers=centers,
            scales=level_scales,
            betas=[self.beta * REFERENCE_STRIDE / level.stride for level in levels],
            level_weights=level_weights,
        )
