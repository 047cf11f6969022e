"""DESIGN's table: what every tensor of the transformer starts from."""

import math

import pytest
import torch

from smca.modeling import (
    Decoder,
    DetectionHeads,
    Encoder,
    FocalClassification,
    Neck,
    SpatialModulation,
)

EMBED_DIM = 256


@pytest.fixture(scope="module")
def transformer():
    """One layer of everything at full width; three levels with all their own weights."""
    torch.manual_seed(0)
    shape = {"embed_dim": EMBED_DIM, "num_heads": 8, "num_levels": 3}
    encoder = Encoder(blocks="Multi", ffn_dim=512, share_attention=False, share_ffn=False, **shape)
    modulation = SpatialModulation(num_layers=1, scale_selection=True, **shape)
    decoder = Decoder(
        num_queries=300,
        num_layers=1,
        ffn_dim=512,
        share_key_value=False,
        modulation=modulation,
        **shape,
    )
    return torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder})


def test_matrices_are_xavier_uniform(transformer):
    checked = set()
    for name, parameter in transformer.named_parameters():
        if parameter.dim() < 2 or "query_embedding" in name or name.endswith(".scale.weight"):
            continue
        # Packed projections count as one matrix of 768 x 256, as in DETR.
        rows, columns = parameter.shape
        bound = math.sqrt(6 / (rows + columns))
        assert parameter.abs().max() <= bound, name
        assert parameter.abs().max() > 0.98 * bound, name
        assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05), name
        checked.add(name)
    assert {
        "encoder.blocks.0.attention.2.in_proj_weight",
        "encoder.blocks.0.attention.2.out_proj.weight",
        "encoder.blocks.0.ffn.1.linear2.weight",
        "decoder.layers.0.co_attention.in_proj_weight",
        "decoder.layers.0.co_attention.level_key_value.1.weight",
        "decoder.modulation.center.layers.2.weight",
        "decoder.modulation.layers.0.offset.weight",
        "decoder.modulation.layers.0.level_selection.weight",
    } <= checked
    assert transformer.encoder.blocks[0].attention[0].in_proj_weight.shape == (768, 256)


def test_scale_starts_at_one_whatever_the_query(transformer):
    scale = transformer.decoder.modulation.layers[0].scale

    assert (scale.weight == 0).all()
    assert (scale.bias == 1).all()


def test_query_embedding_is_standard_normal(transformer):
    embedding = transformer.decoder.query_embedding.weight

    assert embedding.mean().item() == pytest.approx(0, abs=0.02)
    assert embedding.std().item() == pytest.approx(1, abs=0.02)


def test_attention_biases_are_zero(transformer):
    biases = [
        parameter
        for name, parameter in transformer.named_parameters()
        if name.endswith(("in_proj_bias", "out_proj.bias"))
    ]

    assert len(biases) == 2 * (3 + 2)
    assert all((bias == 0).all() for bias in biases)


def test_other_biases_and_norms_are_torchs_own(transformer):
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.LayerNorm):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
            assert module.eps == 1e-5
        elif isinstance(module, torch.nn.Linear) and not name.endswith(("out_proj", ".scale")):
            bound = 1 / math.sqrt(module.in_features)
            assert 0 < module.bias.abs().max() <= bound, name


def test_level_embedding_is_standard_normal():
    neck = Neck(
        in_features=["res5"],
        in_channels=[4],
        in_strides=[32],
        strides=[32, 64, 128],
        embed_dim=EMBED_DIM,
    )

    assert neck.level_embedding.std().item() == pytest.approx(1, abs=0.1)


def test_heads_are_torchs_own_but_for_the_focal_bias():
    heads = DetectionHeads(
        embed_dim=EMBED_DIM, num_classes=80, classification=FocalClassification()
    )

    torch.testing.assert_close(heads.classifier.bias.sigmoid(), torch.full((80,), 0.01))
    bound = 1 / math.sqrt(EMBED_DIM)
    for weight in (heads.classifier.weight, heads.box.layers[0].weight, heads.box.layers[2].weight):
        assert 0.9 * bound < weight.abs().max() <= bound
