"""Norms before each part, against PyTorch's own layers, which know no positions: those are added by hand."""

from dataclasses import replace

import torch
from torch import nn

from helpers.builders import draw_parameters, feature_levels
from smca.modeling import DecoderLayer, Encoder

C, HEADS, FFN = 8, 2, 12


def renamed(state, names):
    found = {}
    for name, tensor in state.items():
        for ours, theirs in names.items():
            if name.startswith(ours):
                found[theirs + name.removeprefix(ours)] = tensor
    return found


def test_encoder_equals_torchs():
    encoder = Encoder(
        blocks="2Intra", embed_dim=C, num_heads=HEADS, ffn_dim=FFN, dropout=0.0, pre_norm=True
    )
    encoder = draw_parameters(encoder).double()
    (level,) = feature_levels([(96, 64), (40, 128)], (32,), C)
    level = replace(level, position=torch.zeros_like(level.position))

    (found,) = encoder([level])

    tokens = level.tokens
    for block in encoder.blocks:
        theirs = nn.TransformerEncoderLayer(
            C, HEADS, FFN, 0.0, batch_first=True, norm_first=True, dtype=torch.float64
        )
        names = {"attention.0.": "self_attn.", "ffn.0.": "", "norm": "norm"}
        theirs.load_state_dict(renamed(block.state_dict(), names))
        tokens = theirs(tokens, src_key_padding_mask=level.padding_mask)
    expected = encoder.norm(tokens)
    valid = ~level.padding_mask
    torch.testing.assert_close(found.tokens[valid], expected[valid], atol=1e-12, rtol=0)


def test_positions_are_added_behind_the_norm():
    encoder = Encoder(
        blocks="Intra", embed_dim=C, num_heads=HEADS, ffn_dim=FFN, dropout=0.0, pre_norm=True
    )
    encoder = draw_parameters(encoder).double()
    (level,) = feature_levels([(96, 64)], (32,), C)

    (found,) = encoder([level])

    (block,) = encoder.blocks
    normal = block.norm1(level.tokens)
    located = normal + level.position
    tokens = level.tokens + block.attention[0](located, located, normal)
    tokens = tokens + block.ffn[0](block.norm2(tokens))
    torch.testing.assert_close(found.tokens, encoder.norm(tokens), atol=1e-12, rtol=0)


def test_decoder_layer_equals_torchs():
    layer = DecoderLayer(embed_dim=C, num_heads=HEADS, ffn_dim=FFN, dropout=0.0, pre_norm=True)
    layer = draw_parameters(layer).double()
    (level,) = feature_levels([(96, 64), (40, 128)], (32,), C)
    level = replace(level, position=torch.zeros_like(level.position))
    target = torch.randn(2, 5, C, dtype=torch.float64)

    found = layer(target, torch.zeros_like(target), [level])

    theirs = nn.TransformerDecoderLayer(
        C, HEADS, FFN, 0.0, batch_first=True, norm_first=True, dtype=torch.float64
    )
    names = {
        "self_attention.": "self_attn.",
        "co_attention.": "multihead_attn.",
        "ffn.": "",
        "norm": "norm",
    }
    theirs.load_state_dict(renamed(layer.state_dict(), names))
    expected = theirs(target, level.tokens, memory_key_padding_mask=level.padding_mask)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_query_positions_are_added_behind_the_norms():
    layer = DecoderLayer(embed_dim=C, num_heads=HEADS, ffn_dim=FFN, dropout=0.0, pre_norm=True)
    layer = draw_parameters(layer).double()
    levels = feature_levels([(96, 64)], (32,), C)
    target, position = torch.randn(2, 1, 5, C, dtype=torch.float64)

    found = layer(target, position, levels)

    normal = layer.norm1(target)
    located = normal + position
    expected = target + layer.self_attention(located, located, normal)
    expected = expected + layer.co_attention(layer.norm2(expected) + position, levels)
    expected = expected + layer.ffn(layer.norm3(expected))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
