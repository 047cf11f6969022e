import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from smca.errors import InputError

from ..modulation import LayerModulation, PerLayerModulation, SpatialPrior
from ..records import FeatureLevel

# Of the paper's prior at stride 32: exp(-d^2 / 8) with the distance d in cells.
_PAPER_WIDTH = 8 * 32**2
# Offsets of the heads before training, in half sides of the box.
_SPREAD = 0.5
_CELL_ORIGIN = 0.5


class BoxModulation(PerLayerModulation):
    """Spatial prior that follows the box: equations (3), (4), (6) and (7) relative to each layer's reference.

    With (c, w, h) the reference's box, offsets o and inverse widths s of each head in units of half its sides:

        centre = c + o (w, h) / 2,    log G = -(s_x^2 (d_x / (w / 2))^2 + s_y^2 (d_y / (h / 2))^2) / beta

    Cells are where their middles are, half a cell from their corners, as boxes of a few cells make it visible. Heads
    start evenly around the box's middle, a quarter of its sides from it, and with s = 1.

    The paper's prior is exp(-d^2 s^2 / 8) with distances in cells of stride 32. For a box of side m pixels both are as
    wide if beta = 4 * 8 * 32^2 / m^2, which is what ``typical_side`` m gives.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        num_heads: int,
        num_layers: int,
        num_levels: int = 1,
        scale_selection: bool = False,
        typical_side: float = 96.0,
    ):
        """
        Args:
            embed_dim, num_heads, num_layers, num_levels, scale_selection: as in
                :class:`~smca.modeling.SpatialModulation`.
            typical_side: side in pixels of a box whose prior starts as wide as the paper's, for all layers; 96 is three
                cells of stride 32. With a larger one the priors of all boxes are narrower.

        Raises:
            InputError: for a side that is not positive.
        """
        super().__init__()
        if not 0 < typical_side < math.inf:
            raise InputError(f"modulation.typical_side must be positive, got {typical_side}")
        self.beta = 4 * _PAPER_WIDTH / typical_side**2
        self.num_levels = num_levels
        self.layers = nn.ModuleList(
            LayerModulation(
                embed_dim=embed_dim,
                num_levels=num_levels,
                num_heads=num_heads,
                offsets=True,
                scale="independent",
                scale_selection=scale_selection and num_levels > 1,
            )
            for _ in range(num_layers)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        for layer in self.layers:
            _spread_heads(layer)

    def forward(
        self,
        layer: int,
        located_query: Tensor,
        previous: SpatialPrior | None,
        levels: Sequence[FeatureLevel],
        image_sizes: Tensor,
        reference: Tensor | None = None,
    ) -> SpatialPrior:
        """The layer's prior around its references.

        Args:
            layer, located_query, levels, image_sizes: as in :class:`~smca.modeling.SpatialModulation`.
            previous: not looked at.
            reference: (B, Q, 4) logits of boxes.

        Returns:
            The prior; its centres count cells from the middle of the first one.

        Raises:
            InputError: without references of boxes.
        """
        if reference is None or reference.shape[-1] != 4:
            raise InputError(
                "decoder.modulation follows boxes, but decoder.queries gives no references (B, Q, 4)"
            )
        predictor = self.layers[layer]
        offsets, scales, level_weights = predictor(predictor.norm(located_query))
        dtype = torch.promote_types(reference.dtype, torch.float32)
        boxes = reference.to(dtype).sigmoid() * image_sizes.to(dtype).repeat(1, 2)[:, None]
        center, side = boxes[..., None, :2], boxes[..., None, 2:]
        centers, level_scales = [], []
        for s, level in enumerate(levels):
            # A box smaller than a cell is looked for like one of its size: the exponent stays bounded.
            half_side = (side / level.stride).clamp(min=1) / 2
            centers.append(center / level.stride - _CELL_ORIGIN + offsets[:, :, s] * half_side)
            level_scales.append(scales[:, :, s] / half_side)
        return SpatialPrior(
            center_logits=reference[..., :2],
            centers=centers,
            scales=level_scales,
            betas=[self.beta] * len(levels),
            level_weights=level_weights,
            cell_origin=_CELL_ORIGIN,
        )


@torch.no_grad()
def _spread_heads(layer: LayerModulation) -> None:
    """Heads start around the box's middle, whatever the query: drawn offsets would be larger than the box itself."""
    num_levels, num_heads = layer.shape
    angle = torch.arange(num_heads) * (2 * math.pi / num_heads)
    spread = _SPREAD * torch.stack([angle.cos(), angle.sin()], -1)
    nn.init.zeros_(layer.offset.weight)
    layer.offset.bias.copy_(spread.expand(num_levels, -1, -1).flatten())
