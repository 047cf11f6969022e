"""Trainable parameters, in the paper's tables and by hand."""

import pytest
import torch
from detectron2.config import instantiate
from torchvision.models import resnet50

from helpers.builders import model_config, trainable_parameters

C = 256
ATTENTION = 4 * (C * C + C)
NORM = 2 * C
PARTS = ("backbone", "neck", "encoder", "decoder", "heads")


def linear(n_in, n_out):
    return n_in * n_out + n_out


def ffn(hidden):
    return linear(C, hidden) + linear(hidden, C)


def encoder_layers(count, hidden):
    return count * (ATTENTION + ffn(hidden) + 2 * NORM)


def decoder_layers(queries, hidden):
    return 6 * (2 * ATTENTION + ffn(hidden) + 3 * NORM) + NORM + queries * C


def modulation(num_levels, selection):
    center = 2 * linear(C, C) + linear(C, 2)
    layer = NORM + 2 * linear(C, num_levels * 8 * 2) + (linear(C, num_levels) if selection else 0)
    return center + 6 * layer


def heads(outputs):
    return linear(C, outputs) + 2 * linear(C, C) + linear(C, 4)


def resnet50_beyond_res2():
    """Convolutions only: the norms are frozen."""
    with torch.device("meta"):
        theirs = resnet50()
    stages = (theirs.layer2, theirs.layer3, theirs.layer4)
    return sum(p.numel() for stage in stages for p in stage.parameters() if p.dim() == 4)


def counts(name, **edits):
    config = model_config(name)
    config.merge_with(edits)
    with torch.device("meta"):
        model = instantiate(config)
    parts = {part: trainable_parameters(getattr(model, part)) for part in PARTS}
    assert sum(parts.values()) == trainable_parameters(model)
    return parts, sum(parts.values()) / 1e6


def test_published_detr():
    parts, millions = counts("detr_published", num_classes=91)

    assert parts == {
        "backbone": resnet50_beyond_res2(),
        "neck": linear(2048, C),
        "encoder": encoder_layers(6, 2048),
        "decoder": decoder_layers(100, 2048),
        "heads": heads(92),
    }
    assert millions == pytest.approx(41.30, abs=0.005)


def test_single_scale():
    parts, millions = counts("smca_single_scale")

    assert parts == {
        "backbone": resnet50_beyond_res2(),
        "neck": linear(2048, C),
        "encoder": encoder_layers(6, 2048),
        "decoder": decoder_layers(300, 2048) + modulation(1, selection=False),
        "heads": heads(80),
    }
    assert millions == pytest.approx(41.535, abs=0.0005)


def test_full():
    parts, millions = counts("smca")

    assert parts == {
        "backbone": resnet50_beyond_res2(),
        "neck": linear(1024, C) + linear(2048, C) + 9 * 2048 * C + C + 3 * C,
        "encoder": encoder_layers(5, 1024),
        "decoder": decoder_layers(300, 1024) + modulation(3, selection=True),
        "heads": heads(80),
    }
    assert millions == pytest.approx(39.53, abs=0.005)


@pytest.mark.parametrize(
    ("edits", "millions"),
    [
        ({"encoder": {"blocks": "3Intra"}}, 37.95),
        ({"encoder": {"blocks": "3Multi"}}, 37.95),
        ({"encoder": {"blocks": "5Intra"}}, 39.53),
        ({"encoder": {"share_attention": False}}, 42.16),
        ({"encoder": {"share_ffn": False}}, 44.78),
        ({"encoder": {"share_attention": False, "share_ffn": False}}, 47.41),
        ({"backbone": {"depth": 101}}, 58.47),
    ],
)
def test_variants_of_the_full_model(edits, millions):
    assert counts("smca", **edits)[1] == pytest.approx(millions, abs=0.01)


def test_own_key_value_projections_add_what_the_design_says():
    shared = counts("smca")[1]
    own = counts("smca", decoder={"share_key_value": False})[1]

    assert own - shared == pytest.approx(1.58, abs=0.005)


@pytest.mark.parametrize(
    ("name", "trainable"),
    [
        ("deformable_detr_single_scale", 33_844_193),
        ("deformable_detr", 39_847_265),
        ("deformable_detr_refine", 40_627_260),
        ("deformable_detr_two_stage", 40_959_129),
        # Published DETR's, and the norm behind the encoder.
        ("up_detr", 41_302_880),
    ],
)
def test_released_rivals(name, trainable):
    parts, _ = counts(name, num_classes=91)

    assert sum(parts.values()) == trainable
