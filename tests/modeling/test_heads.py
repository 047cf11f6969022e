import math

import numpy as np
import pytest
import torch

from helpers import oracles
from helpers.builders import draw_parameters
from smca.modeling import (
    CrossEntropyClassification,
    DecoderOutput,
    DetectionHeads,
    FocalClassification,
)

EMBED_DIM = 16


def built(**options):
    options = {"num_classes": 3, "classification": FocalClassification()} | options
    return DetectionHeads(embed_dim=EMBED_DIM, **options)


def decoded(hidden, references=None, sizes=None):
    return DecoderOutput(hidden, sizes, None if references is None else references[None])


@pytest.mark.parametrize("with_center", [True, False])
def test_equals_loops(with_center):
    heads = draw_parameters(built()).double()
    hidden = torch.randn(2, 3, 5, EMBED_DIM, dtype=torch.float64)
    center_logits = torch.randn(3, 5, 2, dtype=torch.float64) if with_center else None

    outputs = heads(decoded(hidden, center_logits))

    assert outputs["pred_logits"].shape == (2, 3, 5, 3)
    for b in range(3):
        center = center_logits[b].numpy() if with_center else None
        logits, boxes = oracles.heads(oracles.params_of(heads), hidden[:, b].numpy(), center)
        for name, expected in (("pred_logits", logits), ("pred_boxes", boxes)):
            result = outputs[name][:, b].detach().numpy()
            np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


def test_centre_of_the_prior_is_the_box_centre_of_a_silent_head():
    heads = built()
    torch.nn.init.zeros_(heads.box.layers[-1].weight)
    torch.nn.init.zeros_(heads.box.layers[-1].bias)
    logits = torch.tensor([[[0.3, -2.0]]])

    boxes = heads(decoded(torch.randn(1, 1, 1, EMBED_DIM), logits))["pred_boxes"]

    expected = torch.tensor([*logits.sigmoid().flatten(), 0.5, 0.5])
    torch.testing.assert_close(boxes.flatten(), expected)


def test_sizes_relative_to_a_reference_are_the_same_in_pixels_in_any_image():
    """Small boxes of a sigmoid grow with its logit's exponential, and a shift by log 2 doubles them."""
    heads = built(size_reference=128).double()
    torch.nn.init.zeros_(heads.box.layers[-1].weight)
    with torch.no_grad():
        heads.box.layers[-1].bias.copy_(torch.tensor([0.0, 1.0, -7.0, -8.0]))
    sizes = torch.tensor([(128.0, 128.0), (64.0, 256.0)])

    boxes = heads(decoded(torch.randn(2, 2, 3, EMBED_DIM).double(), None, sizes))["pred_boxes"]

    in_pixels = boxes[0, :, 0] * sizes.repeat(1, 2)
    torch.testing.assert_close(in_pixels[1, 2:], in_pixels[0, 2:], rtol=2e-3, atol=0)
    torch.testing.assert_close(boxes[0, 1, 0, :2], boxes[0, 0, 0, :2])
    # In the reference's own size it is the paper's form.
    expected = torch.tensor([0.0, 1.0, -7.0, -8.0]).double().sigmoid()
    torch.testing.assert_close(boxes[1, 0, 2], expected)


@pytest.mark.parametrize("reference", [0, -1, float("nan"), float("inf"), "x", [128]])
def test_a_reference_that_is_no_side(reference):
    with pytest.raises(
        ValueError, match=r"size_reference is .*, it must be a side in pixels or None"
    ):
        built(size_reference=reference)


def test_focal_outputs_start_at_the_prior_probability():
    heads = built()

    torch.testing.assert_close(heads.classifier.bias, torch.full((3,), -math.log(99)))


def test_cross_entropy_has_one_more_output_and_torch_bias():
    heads = built(classification=CrossEntropyClassification())

    assert heads.classifier.bias.shape == (4,)
    assert heads.classifier.bias.abs().max() <= 1 / math.sqrt(EMBED_DIM)


def test_half_precision_outputs_are_float32():
    heads = built().bfloat16()

    outputs = heads(decoded(torch.randn(1, 1, 2, EMBED_DIM).bfloat16(), torch.randn(1, 2, 2)))

    assert {x.dtype for x in outputs.values()} == {torch.float32}
