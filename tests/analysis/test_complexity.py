"""Counts of the zoo's models against arithmetic, and of small ones against a real run."""

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import ImageList
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from helpers.builders import small_config
from smca import model_zoo
from smca.analysis import (
    PARTS,
    build_on_meta,
    count_activation_bytes,
    count_multiply_adds,
    count_parameters,
)

SIZE = (800, 1066)
C = 256
NORM = 2 * C
MILLION = 1e6


def linear(n_in, n_out):
    return n_in * n_out + n_out


ATTENTION = 4 * linear(C, C)


def ffn(hidden):
    return linear(C, hidden) + linear(hidden, C)


def bottleneck_stages(blocks, *, dilated=False, stride_in_1x1=False):
    """The convolutions of res2 to res5, each as (stride of its output in pixels, weights)."""
    stages, channels, stride = [], 64, 4
    for index, count in enumerate(blocks):
        width, convolutions = 64 * 2**index, []
        for block in range(count):
            enters = stride
            if block == 0 and index > 0 and not (dilated and index == 3):
                stride *= 2
            convolutions += [
                (stride if stride_in_1x1 else enters, channels * width),
                (stride, 9 * width * width),
                (stride, width * 4 * width),
            ]
            if block == 0:
                convolutions.append((stride, channels * 4 * width))
            channels = 4 * width
        stages.append(convolutions)
    return stages


R50, R101 = (3, 4, 6, 3), (3, 4, 23, 3)


def backbone_trainable(blocks):
    return sum(weights for stage in bottleneck_stages(blocks)[1:] for _, weights in stage)


def neck_full():
    projections = linear(1024, C) + linear(2048, C) + linear(9 * 2048, C)
    return projections + 3 * C


def encoder(blocks, hidden, *, attentions=1, ffns=1):
    return blocks * (attentions * ATTENTION + ffns * ffn(hidden) + 2 * NORM)


def decoder(queries, hidden):
    return 6 * (2 * ATTENTION + ffn(hidden) + 3 * NORM) + NORM + queries * C


def modulation(levels, *, heads=8, offsets=2, scales=2, selection=False):
    center = linear(C, C) + linear(C, C) + linear(C, 2)
    layer = NORM + sum(linear(C, levels * heads * n) for n in (offsets, scales) if n)
    return center + 6 * (layer + (linear(C, levels) if selection else 0))


def heads(outputs):
    return linear(C, outputs) + linear(C, C) + linear(C, C) + linear(C, 4)


FULL_DECODER = decoder(300, 1024) + modulation(3, selection=True)
ONE_LEVEL = (linear(2048, C), encoder(6, 2048))
EXPECTED = {
    "smca_r50_50ep": (R50, neck_full(), encoder(5, 1024), FULL_DECODER, heads(80)),
    "smca_r101_50ep": (R101, neck_full(), encoder(5, 1024), FULL_DECODER, heads(80)),
    "smca_single_scale_r50_50ep": (
        R50,
        *ONE_LEVEL,
        decoder(300, 2048) + modulation(1),
        heads(80),
    ),
    "detr_r50_50ep": (R50, *ONE_LEVEL, decoder(300, 2048), heads(80)),
    "detr_r50_500ep": (R50, *ONE_LEVEL, decoder(100, 2048), heads(81)),
    "detr_dc5_r101_500ep": (R101, *ONE_LEVEL, decoder(100, 2048), heads(81)),
    "ablations/head_shared_bs8": (
        R50,
        *ONE_LEVEL,
        decoder(300, 2048) + modulation(1, heads=1, offsets=0),
        heads(80),
    ),
    "ablations/multi_head_fixed": (
        R50,
        *ONE_LEVEL,
        decoder(300, 2048) + modulation(1, scales=0),
        heads(80),
    ),
    "ablations/multi_head_single": (
        R50,
        *ONE_LEVEL,
        decoder(300, 2048) + modulation(1, scales=1),
        heads(80),
    ),
    "ablations/no_scale_selection": (
        R50,
        neck_full(),
        encoder(5, 1024),
        decoder(300, 1024) + modulation(3),
        heads(80),
    ),
    "ablations/encoder_3intra": (R50, neck_full(), encoder(3, 1024), FULL_DECODER, heads(80)),
    "ablations/encoder_3multi": (R50, neck_full(), encoder(3, 1024), FULL_DECODER, heads(80)),
    "ablations/encoder_5intra": (R50, neck_full(), encoder(5, 1024), FULL_DECODER, heads(80)),
    "ablations/encoder_shared_ffn": (
        R50,
        neck_full(),
        encoder(5, 1024, attentions=3),
        FULL_DECODER,
        heads(80),
    ),
    "ablations/encoder_shared_sa": (
        R50,
        neck_full(),
        encoder(5, 1024, ffns=3),
        FULL_DECODER,
        heads(80),
    ),
    "ablations/encoder_no_share": (
        R50,
        neck_full(),
        encoder(5, 1024, attentions=3, ffns=3),
        FULL_DECODER,
        heads(80),
    ),
}

# Trainable parameters, M, as the design of this project states them.
MILLIONS = {
    "smca_r50_50ep": 39.53,
    "smca_r101_50ep": 58.47,
    "smca_single_scale_r50_50ep": 41.54,
    "ablations/encoder_3intra": 37.95,
    "ablations/encoder_3multi": 37.95,
    "ablations/encoder_5intra": 39.53,
    "ablations/encoder_shared_ffn": 42.16,
    "ablations/encoder_shared_sa": 44.78,
    "ablations/encoder_no_share": 47.41,
}

# Giga multiply-adds at 800x1066, from an independent prototype.
GIGA = {
    "detr_r50_500ep": 81.3,
    "detr_r50_50ep": 83.95,
    "smca_single_scale_r50_50ep": 84.00,
    "smca_r50_50ep": 134.2,
    "smca_r101_50ep": 197.7,
    "detr_dc5_r50_500ep": 173.3,
}


def zoo_model(name):
    return build_on_meta(model_zoo.get_config(name).model)


@pytest.mark.parametrize("name", EXPECTED)
def test_trainable_parameters_by_part(name):
    blocks, *rest = EXPECTED[name]
    expected = dict(zip(PARTS, (backbone_trainable(blocks), *rest), strict=True))

    assert count_parameters(zoo_model(name), trainable_only=True) == expected
    if name in MILLIONS:
        assert sum(expected.values()) / MILLION == pytest.approx(MILLIONS[name], abs=0.01)


def test_frozen_stages_are_in_the_total():
    model = zoo_model("smca_r50_50ep")

    total, trainable = count_parameters(model), count_parameters(model, trainable_only=True)

    frozen = 7 * 7 * 3 * 64 + sum(weights for _, weights in bottleneck_stages(R50)[0])
    assert total["backbone"] - trainable["backbone"] == frozen
    assert all(total[part] == trainable[part] for part in PARTS[1:])


def test_faster_rcnn_by_part():
    counts = count_parameters(zoo_model("faster_rcnn_fpn_r50_3x"))

    body = 7 * 7 * 3 * 64 + sum(w for stage in bottleneck_stages(R50) for _, w in stage)
    fpn = sum(linear(n, C) for n in (256, 512, 1024, 2048)) + 4 * linear(9 * C, C)
    rpn = linear(9 * C, C) + linear(C, 3) + linear(C, 12)
    box = linear(49 * C, 1024) + linear(1024, 1024) + linear(1024, 81) + linear(1024, 320)
    assert counts == {
        "backbone": body,
        "neck": fpn,
        "encoder": 0,
        "decoder": 0,
        "heads": rpn + box,
    }


def test_a_module_of_the_users_own_is_a_part():
    model = build_on_meta(small_config("detr"))
    model.extra = nn.Linear(3, 4, device="meta")

    assert count_parameters(model)["extra"] == 16


@pytest.mark.parametrize("name", GIGA)
def test_multiply_adds_are_the_prototypes(name):
    count = count_multiply_adds(zoo_model(name), SIZE) / 1e9

    assert count == pytest.approx(GIGA[name], rel=0.01)


def cells(stride):
    height, width = SIZE
    return -(-height // stride) * -(-width // stride)


def resnet_multiply_adds(blocks, *, dilated=False):
    stem = cells(2) * 7 * 7 * 3 * 64
    stages = bottleneck_stages(blocks, dilated=dilated)
    return stem + sum(cells(stride) * weights for stage in stages for stride, weights in stage)


def encoder_multiply_adds(lengths, hidden, keys):
    """One block; ``keys`` says how many tokens each level's tokens attend to."""
    tokens = sum(lengths)
    linear_parts = tokens * (4 * C * C + 2 * C * hidden)
    return linear_parts + sum(2 * n * k * C for n, k in zip(lengths, keys, strict=True))


def decoder_multiply_adds(queries, lengths, hidden):
    """Six layers; keys and values of every layer are projections of all tokens."""
    tokens = sum(lengths)
    self_attention = queries * 4 * C * C + 2 * queries * queries * C
    co_attention = (2 * queries + 2 * tokens) * C * C + 2 * queries * tokens * C
    return 6 * (self_attention + co_attention + queries * 2 * C * hidden)


def head_multiply_adds(queries, outputs):
    return queries * (C * outputs + 2 * C * C + 4 * C)


def test_multiply_adds_of_detr_and_dc5_by_hand():
    for name, dilated, stride in (
        ("detr_r50_500ep", False, 32),
        ("detr_dc5_r50_500ep", True, 16),
    ):
        tokens = cells(stride)
        expected = (
            resnet_multiply_adds(R50, dilated=dilated)
            + tokens * 2048 * C
            + 6 * encoder_multiply_adds([tokens], 2048, [tokens])
            + decoder_multiply_adds(100, [tokens], 2048)
            + head_multiply_adds(100, 81)
        )
        assert count_multiply_adds(zoo_model(name), SIZE) == expected, name


def test_multiply_adds_of_the_full_model_by_hand():
    lengths = [cells(stride) for stride in (16, 32, 64)]
    center = 300 * (2 * C * C + 2 * C)
    per_layer = 300 * C * (2 * 3 * 8 * 2 + 3)

    expected = (
        resnet_multiply_adds(R50)
        + C * (lengths[0] * 1024 + lengths[1] * 2048 + lengths[2] * 9 * 2048)
        + 4 * encoder_multiply_adds(lengths, 1024, lengths)
        + encoder_multiply_adds(lengths, 1024, [sum(lengths)] * 3)
        + decoder_multiply_adds(300, lengths, 1024)
        + center
        + 6 * per_layer
        + head_multiply_adds(300, 80)
    )

    assert count_multiply_adds(zoo_model("smca_r50_50ep"), SIZE) == expected


def test_the_prior_costs_detr_at_most_a_tenth_of_a_giga():
    prior = count_multiply_adds(zoo_model("smca_single_scale_r50_50ep"), SIZE)
    plain = count_multiply_adds(zoo_model("detr_r50_50ep"), SIZE)

    # The centre once, offsets and scales in six layers.
    assert prior - plain == 300 * (2 * C * C + 2 * C) + 6 * 300 * C * 2 * 16
    assert prior - plain <= 0.1e9


def test_multiply_adds_of_faster_rcnn_by_hand():
    # Padded to a multiple of 32, stride in the 1x1 convolutions; the fifth level is every second
    # cell of the fourth.
    lengths = {stride: (800 // stride) * (1088 // stride) for stride in (2, 4, 8, 16, 32)}
    body = lengths[2] * 7 * 7 * 3 * 64
    for stage in bottleneck_stages(R50, stride_in_1x1=True):
        body += sum(lengths[stride] * weights for stride, weights in stage)
    levels = [lengths[stride] for stride in (4, 8, 16, 32)]
    lateral = sum(
        n * channels * C for n, channels in zip(levels, (256, 512, 1024, 2048), strict=True)
    )
    output = sum(levels) * 9 * C * C
    rpn = (sum(levels) + 13 * 17) * (9 * C * C + 15 * C)
    box = 1000 * (49 * C * 1024 + 1024 * 1024 + 1024 * (81 + 320))

    counted = count_multiply_adds(zoo_model("faster_rcnn_fpn_r50_3x"), SIZE)

    assert counted == body + lateral + output + rpn + box


@pytest.mark.parametrize("name", ["detr_published", "smca_single_scale", "smca"])
def test_activation_bytes_are_those_of_a_real_run(name):
    config, size = small_config(name), (96, 130)
    config.encoder.dropout = 0.1
    model = instantiate(config).train()
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    saved = {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        sdpa_kernel(SDPBackend.MATH),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        model.run_network(ImageList(torch.randn(1, 3, *size), [size]))
    expected = sum(t.untyped_storage().nbytes() for p, t in saved.items() if p not in own)

    assert count_activation_bytes(build_on_meta(config), size) == expected


def test_fused_attention_keeps_no_attention_weights():
    """The plain kernel keeps them in float32 thrice: softmax, mask of the dropout, and their product."""
    model = zoo_model("detr_r50_500ep")

    plain = count_activation_bytes(model, SIZE)
    fused = count_activation_bytes(model, SIZE, fused_attention=True)

    tokens, queries = cells(32), 100
    weights = 8 * 6 * (tokens**2 + queries**2 + queries * tokens)
    assert plain - fused == pytest.approx(3 * 4 * weights, rel=0.01)


def test_a_count_leaves_the_model_as_it_was():
    model = build_on_meta(small_config("smca")).eval()
    before = count_multiply_adds(model, (64, 64))

    count_activation_bytes(model, (64, 64))

    assert not any(module.training for module in model.modules())
    assert count_multiply_adds(model, (64, 64)) == before
    assert all(p.requires_grad for p in model.encoder.parameters())


def test_another_detector_is_an_error():
    with pytest.raises(ValueError, match="network of a Linear is not known"):
        count_multiply_adds(nn.Linear(1, 1, device="meta"), SIZE)


def multiply_adds(name):
    return count_multiply_adds(build_on_meta(model_zoo.get_config(name).model), SIZE)


@pytest.mark.parametrize(
    ("name", "paper"),
    [("deformable_detr_single_scale_r50_50ep", 78), ("deformable_detr_r50_50ep", 173)],
)
def test_deformable_detr_costs_what_the_paper_says(name, paper):
    """On the paper's scale: its numbers are of COCO's mean image, for which DETR has 86."""
    found = multiply_adds(name) / multiply_adds("detr_r50_500ep") * 86

    assert found == pytest.approx(paper, rel=0.05)


def test_deformable_encoder_by_hand():
    """Value, output, offsets, weights and feed-forward of every cell; sampling multiplies no matrices."""
    model = build_on_meta(model_zoo.get_config("deformable_detr_r50_50ep").model)
    cells = sum(h * w for h, w in [(100, 134), (50, 67), (25, 34), (13, 17)])
    layer = 2 * C * C + C * 8 * 4 * 4 * 2 + C * 8 * 4 * 4 + 2 * C * 1024

    model.encoder.layers = model.encoder.layers[:0]
    without = count_multiply_adds(model, SIZE)

    assert multiply_adds("deformable_detr_r50_50ep") - without == 6 * cells * layer
