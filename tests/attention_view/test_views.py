"""What is shown of a query is what the model computed, and looking changes nothing."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from helpers.checkpoints import tiny_checkpoint
from helpers.odd_images import picture
from helpers.oracles import image_levels, params_of, project, softmax, split_heads
from smca import Predictor
from smca.attention_view import look_at_image, record, view_queries
from smca.layers import deformable_attention
from smca.modeling import LevelCoAttention

SIZE = (64, 90)
QUERIES = [4, 0]


@pytest.fixture(scope="module")
def predictor_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")

    def load(name):
        path = folder / f"{name}.pth"
        if not path.exists():
            tiny_checkpoint(path, name)
        return Predictor.from_checkpoint(path, device="cpu")

    return load


@pytest.fixture(scope="module")
def image():
    return picture(*SIZE)[:, :, ::-1]


def log_gaussian(prior, s, head, query, x, y):
    """Equation (4) in float64."""
    group = min(head, prior.centers[s].shape[2] - 1)
    c_x, c_y = prior.centers[s][0, query, group].tolist()
    s_x, s_y = prior.scales[s][0, query, group].tolist()
    return -((s_x * (x - c_x)) ** 2 + (s_y * (y - c_y)) ** 2) / prior.betas[s]


def level_projection(params, s, part, x):
    """Keys (1) and values (2) of a level; those of levels after the first may have weights of their own."""
    own = f"co_attention.level_key_value.{s - 1}"
    if s == 0 or f"{own}.weight" not in params:
        return project(params, "co_attention", part, x)
    rows = slice((part - 1) * len(x), part * len(x))
    return params[f"{own}.weight"][rows] @ x + params[f"{own}.bias"][rows]


@pytest.mark.parametrize("name", ["detr", "smca_single_scale", "smca", "smca_plus_single_scale"])
def test_attention_is_that_of_loops_and_with_values_gives_the_layers_output(
    predictor_of, image, name
):
    run = record(predictor_of(name), image)
    views = view_queries(run, QUERIES)
    for index, call in enumerate(run.calls):
        query_vectors, levels = call.args[0].double().numpy()[0], image_levels(call.args[1], 0)
        prior = run.priors[index] if run.priors else None
        params, heads = params_of(run.layers[index]), call.module.num_heads
        for view, number in zip(views, QUERIES, strict=True):
            layer = view.layers[index]
            q = split_heads(project(params, "co_attention", 0, query_vectors[number]), heads)
            total = [0] * heads
            for s, level in enumerate(levels):
                rows, columns = call.args[1][s].size
                keys = [
                    split_heads(level_projection(params, s, 1, x), heads)
                    for x in level.tokens + level.position
                ]
                values = [
                    split_heads(level_projection(params, s, 2, x), heads) for x in level.tokens
                ]
                share = 1 / len(levels) if layer.level_weights is None else layer.level_weights[s]
                for h in range(heads):
                    logits = [q[h] @ key[h] / math.sqrt(len(q[h])) for key in keys]
                    logits = [
                        -math.inf if padded else logit
                        for logit, padded in zip(logits, level.padded, strict=True)
                    ]
                    before = np.array(softmax(logits)).reshape(rows, columns)
                    np.testing.assert_allclose(layer.before[s][h], before, atol=1e-5)
                    if prior is not None:
                        logits = [
                            logit + log_gaussian(prior, s, h, number, n % columns, n // columns)
                            for n, logit in enumerate(logits)
                        ]
                    after = softmax(logits)
                    np.testing.assert_allclose(layer.after[s][h].flatten(), after, atol=1e-5)
                    weighted = zip(layer.after[s][h].flatten(), values, strict=True)
                    total[h] = total[h] + share * sum(w * value[h] for w, value in weighted)
            output = params["co_attention.out_proj.weight"] @ np.concatenate(total)
            output += params["co_attention.out_proj.bias"]
            np.testing.assert_allclose(call.output[0, number], output, atol=1e-4)
        assert not views[0].notes


@pytest.mark.parametrize("name", ["smca", "deformable_detr"])
def test_results_of_the_model_are_unchanged(predictor_of, image, name):
    predictor = predictor_of(name)
    hooks = [module._forward_hooks for module in predictor.model.modules()]
    before = predictor(image)
    run = record(predictor, image)
    after = predictor(image)
    for field in ("scores", "pred_classes"):
        assert torch.equal(getattr(before, field), getattr(after, field))
    assert torch.equal(before.pred_boxes.tensor, after.pred_boxes.tensor)
    assert not any(hooks)
    assert not predictor.model.training

    scale = image.shape[1] / run.size[1], image.shape[0] / run.size[0]
    boxes = run.boxes[-1, run.queries] * torch.tensor(scale).repeat(2)
    count = len(before)
    torch.testing.assert_close(run.scores[:count], before.scores)
    torch.testing.assert_close(
        boxes[:count].clamp(min=0),
        before.pred_boxes.tensor,
        atol=1e-2,
        rtol=1e-4,
    )


@pytest.mark.parametrize("name", ["smca", "deformable_detr", "smca_plus"])
def test_weights_of_scales_sum_to_one(predictor_of, image, name):
    (view,) = view_queries(record(predictor_of(name), image), [2])
    for layer in view.layers:
        assert layer.level_weights.shape == (len(view.strides),)
        assert layer.level_weights.sum() == pytest.approx(1, abs=1e-5)
        assert np.ptp(layer.level_weights) > 1e-3


def test_sampling_points_are_the_layers(predictor_of, image, monkeypatch):
    predictor = predictor_of("deformable_detr")
    given, sample = [], deformable_attention.sample_levels

    def listen(values, sizes, locations, weights):
        given.append((locations, weights))
        return sample(values, sizes, locations, weights)

    monkeypatch.setattr(deformable_attention, "sample_levels", listen)
    run = record(predictor, image)
    (view,) = view_queries(run, [3])
    # Those of the encoder come first.
    for layer, (locations, weights) in zip(view.layers, given[-len(view.layers) :], strict=True):
        pixels = locations[0, 3].numpy() * np.array(run.size[::-1])
        np.testing.assert_allclose(layer.points, pixels, atol=1e-3)
        np.testing.assert_allclose(layer.point_weights, weights[0, 3], rtol=1e-5)
        np.testing.assert_allclose(
            layer.level_weights, weights[0, 3].sum((0, 2)) / len(weights[0, 3]), rtol=1e-5
        )


@pytest.mark.parametrize("name", ["smca", "smca_plus"])
def test_ellipses_are_where_the_prior_is_a_half(predictor_of, image, name):
    """At cells, whose place in pixels depends on the model: corners of SMCA's, middles of SMCA plus's."""
    origin = {"smca": 0.0, "smca_plus": 0.5}[name]
    run = record(predictor_of(name), image)
    (view,) = view_queries(run, [1])
    assert view.cell_origin == origin
    for layer in view.layers:
        for s, stride in enumerate(view.strides):
            heads, rows, columns = layer.priors[s].shape
            for h in range(heads):
                y, x = (np.indices((rows, columns)) + origin) * stride
                center, half = layer.centers[s, h], layer.half_axes[s, h]
                halvings = ((x - center[0]) / half[0]) ** 2 + ((y - center[1]) / half[1]) ** 2
                expected = 2.0 ** -(halvings - halvings.min())
                np.testing.assert_allclose(layer.priors[s][h], expected, atol=1e-4)


def test_prior_of_smca_plus_is_relative_to_the_box_of_the_layer_before(predictor_of, image):
    run = record(predictor_of("smca_plus"), image)
    for view in view_queries(run, QUERIES):
        for before, layer in zip(view.layers, view.layers[1:], strict=False):
            middle = (before.box[:2] + before.box[2:]) / 2
            np.testing.assert_allclose(layer.center, middle, atol=1e-3)


class OwnPrior:
    def __init__(self, logits):
        self.references = logits[None]
        self.level_weights = None

    def bias(self, index, level):
        far = torch.arange(level.tokens.shape[1], dtype=torch.float32)
        return -far.expand(1, 1, self.references.shape[2], -1)


class OwnModulation(nn.Module):
    def forward(self, layer, located_query, previous, levels, image_sizes, reference=None):
        return OwnPrior(torch.zeros(*located_query.shape[:2], 2))


def test_a_modulation_of_ones_own_is_shown_as_far_as_it_tells(predictor_of, image):
    predictor = predictor_of("smca_single_scale")
    predictor.model.decoder.modulation = OwnModulation()
    (view,) = view_queries(record(predictor, image), [0])
    (note,) = view.notes
    assert "OwnPrior" in note
    for layer in view.layers:
        assert layer.centers is None
        (cells,) = layer.priors
        np.testing.assert_allclose(cells[0].flatten()[:3], np.exp([0.0, -1.0, -2.0]), rtol=1e-4)
        assert layer.after[0].sum() == pytest.approx(len(layer.after[0]), rel=1e-4)


class OtherCoAttention(LevelCoAttention):
    def forward(self, *args, **kwargs):
        return 2 * super().forward(*args, **kwargs)


class NoCoAttention(nn.Module):
    def forward(self, query, levels, prior=None):
        return query


@pytest.mark.parametrize("kind", ["changed", "other"])
def test_an_attention_that_cannot_be_known_is_not_shown(predictor_of, image, kind):
    predictor = predictor_of("detr")
    for layer in predictor.model.decoder.layers:
        if kind == "changed":
            layer.co_attention.__class__ = OtherCoAttention
        else:
            layer.co_attention = NoCoAttention()
    (view,) = view_queries(record(predictor, image), [0])
    (note,) = view.notes
    assert "cannot be shown" in note
    assert all(layer.before is None and layer.after is None for layer in view.layers)


def test_models_see_the_same_object(predictor_of, image):
    predictors = [predictor_of("smca_single_scale"), predictor_of("detr")]
    for first, second in look_at_image(predictors, image, count=2):
        assert first.overlap == pytest.approx(1)
        assert first.is_found
        assert second.is_found == (second.overlap >= 0.5)
        assert second.view.size == first.view.size
