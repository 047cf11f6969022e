"""The encoder's layers against the attention's own forward pass, cell by cell."""

import torch
from torch.nn import functional as F

from helpers.builders import draw_parameters, feature_levels
from smca.modeling.deformable import DeformableEncoder

SIZES = [(96, 64), (40, 128)]


def built(num_layers=1):
    encoder = DeformableEncoder(
        num_layers=num_layers,
        embed_dim=8,
        num_heads=2,
        ffn_dim=12,
        dropout=0.0,
        num_levels=2,
        num_points=3,
    )
    return draw_parameters(encoder).double()


def test_a_cell_looks_from_its_own_middle_on_every_level():
    encoder = built()
    levels = feature_levels(SIZES, (32, 64), 8)

    found = encoder(levels)

    layer = encoder.layers[0]
    values = torch.cat([level.tokens for level in levels], 1)
    mask = torch.cat([level.padding_mask for level in levels], 1)
    valid = [[(2, 3), (1, 2)], [(4, 2), (2, 1)]]
    padded = [(4, 3), (2, 2)]
    for b in range(2):
        for s, level in enumerate(levels):
            h, w = level.size
            for n in range(h * w):
                x = (n % w + 0.5) / valid[b][s][0]
                y = (n // w + 0.5) / valid[b][s][1]
                places = [
                    (x * valid[b][t][0] / padded[t][0], y * valid[b][t][1] / padded[t][1])
                    for t in range(2)
                ]
                token = level.tokens[b, n]
                update = layer.attention(
                    (token + level.position[b, n])[None, None],
                    torch.tensor(places, dtype=torch.float64)[None, None],
                    values[b : b + 1],
                    [(3, 4), (2, 2)],
                    mask[b : b + 1],
                )[0, 0]
                token = layer.norm1(token + update)
                hidden = F.relu(layer.ffn.linear1(token))
                expected = layer.norm2(token + layer.ffn.linear2(hidden))
                torch.testing.assert_close(found[s].tokens[b, n], expected, atol=1e-10, rtol=0)


def test_a_fresh_layer_keeps_the_ring():
    """Matrices are drawn for the whole layer, but not those of the attention."""
    encoder = DeformableEncoder(num_layers=2, embed_dim=16, num_heads=8, num_levels=1)

    for layer in encoder.layers:
        assert not layer.attention.sampling_offsets.weight.any()
        assert not layer.attention.attention_weights.weight.any()
        assert layer.attention.sampling_offsets.bias.abs().max() == 4
    first, second = (layer.ffn.linear1.weight for layer in encoder.layers)
    assert not torch.equal(first, second)
