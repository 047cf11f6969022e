"""Parts whose sizes must stay sizes when they are traced."""

import torch
from torch import nn

from helpers.builders import draw_parameters
from smca.modeling import FeatureLevel
from smca.modeling.deformable import DeformableEncoder

CHANNELS = 8


class OfMaps(nn.Module):
    """The encoder of levels that are made of maps (B, C, h, w) and their masks."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, *tensors):
        maps, masks = tensors[:2], tensors[2:]
        levels = [
            FeatureLevel(
                tokens=values.flatten(2).transpose(1, 2),
                position=torch.zeros_like(values).flatten(2).transpose(1, 2),
                padding_mask=mask.flatten(1),
                size=tuple(values.shape[-2:]),
                stride=8 * 2**index,
            )
            for index, (values, mask) in enumerate(zip(maps, masks, strict=True))
        ]
        return torch.cat([level.tokens for level in self.encoder(levels)], 1)


def tensors_of(height, width):
    sizes = [(2 * height, 2 * width), (height, width)]
    masks = [torch.zeros(2, *size, dtype=torch.bool) for size in sizes]
    masks[0][1, :, -2:] = masks[1][1, :, -1:] = True
    return (*(torch.randn(2, CHANNELS, *size) for size in sizes), *masks)


@torch.no_grad()
def test_deformable_attention_is_traced_for_any_size():
    encoder = DeformableEncoder(
        num_layers=1, embed_dim=CHANNELS, num_heads=2, ffn_dim=8, dropout=0.0, num_levels=2
    )
    part = OfMaps(draw_parameters(encoder)).eval()
    axes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    of_masks = dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)
    traced = torch.export.export(
        part, tensors_of(3, 4), dynamic_shapes={"tensors": (axes, axes, of_masks, of_masks)}
    ).module()
    for size in ((3, 4), (5, 2), (2, 9)):
        tensors = tensors_of(*size)
        torch.testing.assert_close(traced(*tensors), part(*tensors))
