"""What is shown is what the model computes."""

import numpy as np
import pytest
import torch

from helpers.builders import small_model
from smca.attention_view import look_at_image, record, view_queries
from smca.attention_view.survey import survey
from smca.inference import Predictor
from smca.modeling import LevelCoAttention

IMAGE = np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)


def predictor_of(name):
    return Predictor(model=small_model(name), min_size=97, max_size=131, device="cpu")


@pytest.mark.parametrize("name", ["detr", "smca_single_scale", "smca", "smca_plus"])
def test_maps_are_the_softmax_in_float64(name):
    run = record(predictor_of(name), IMAGE)
    view = view_queries(run, [3])[0]
    for index, (call, layer) in enumerate(zip(run.calls, view.layers, strict=True)):
        query, levels = call.args[:2]
        attention, prior = call.module, call.args[2]
        dim = query.shape[-1]
        weight, bias = attention.in_proj_weight.double(), attention.in_proj_bias.double()
        q = (weight[:dim] @ query[0, 3].double() + bias[:dim]).view(attention.num_heads, -1)
        for s, level in enumerate(levels):
            key = (level.tokens + level.position)[0].double()
            k = (key @ weight[dim : 2 * dim].T + bias[dim : 2 * dim]).unflatten(
                -1, (len(q), q.shape[1])
            )
            logits = torch.einsum("hd,nhd->hn", q, k) / q.shape[1] ** 0.5
            shape = (len(q), *level.size)
            before = logits.softmax(-1).view(shape).detach()
            np.testing.assert_allclose(layer.before[s], before, atol=1e-5)
            if prior is not None:
                logits = logits + prior.bias(s, level)[0, :, 3].double()
            after = logits.softmax(-1).view(shape).detach()
            np.testing.assert_allclose(layer.after[s], after, atol=1e-5)
        assert not view.notes, index


@pytest.mark.parametrize("name", ["smca", "deformable_detr"])
def test_recording_changes_nothing_and_leaves_no_hooks(name):
    predictor = predictor_of(name)
    expected = predictor(IMAGE)
    run = record(predictor, IMAGE)
    torch.testing.assert_close(run.scores[:5], expected.scores[:5])
    height, width = run.size
    # The predictor clips boxes to the image.
    box = run.boxes[-1, run.queries[0]].clamp(min=0).minimum(torch.tensor([width, height] * 2))
    torch.testing.assert_close(box, expected.pred_boxes.tensor[0], atol=1e-3, rtol=0)
    assert not any(module._forward_hooks for module in predictor.model.modules())


def test_sampling_points_give_the_layers_output():
    view = view_queries(record(predictor_of("deformable_detr"), IMAGE), [0, 2])[1]
    assert not view.notes
    weights = view.layers[0].point_weights
    np.testing.assert_allclose(weights.sum((1, 2)), 1, atol=1e-5)


class OtherCoAttention(LevelCoAttention):
    def forward(self, query, levels, prior=None):
        return 2 * super().forward(query, levels, prior)


def test_what_computes_otherwise_is_not_shown():
    predictor = predictor_of("smca")
    for layer in predictor.model.decoder.layers:
        layer.co_attention.__class__ = OtherCoAttention
    view = view_queries(record(predictor, IMAGE), [0])[0]
    assert view.layers[0].after is None
    assert view.layers[0].centers is not None
    assert "OtherCoAttention, computes otherwise" in view.notes[0]


def test_models_see_the_same_object():
    predictors = [predictor_of("smca_single_scale"), predictor_of("detr")]
    for first, second in look_at_image(predictors, IMAGE, count=2):
        assert first.overlap == pytest.approx(1)
        assert first.is_found
        assert second.view.size == first.view.size


def test_survey_counts_detections_and_weighs_scales():
    found = survey(predictor_of("smca"), [IMAGE, IMAGE], threshold=0.0)
    assert len(found["layers"]) == 2
    assert sum(size["objects"] for size in found["scales"]) == found["detections"] > 0
    for size in found["scales"]:
        assert sum(size["weights"].values()) == pytest.approx(1, abs=1e-3)
    assert found["layers"][0]["prior_to_box"] > 0
