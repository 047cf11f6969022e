import numpy as np
import pytest
import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from torch import nn

from helpers.builders import small_config, small_model, training_input
from smca.layers import gaussian_log_prior
from smca.modeling import CrossEntropyClassification
from smca.visualization import (
    DetectionPrior,
    detection_priors,
    draw_priors,
    prior,
    prior_maps,
)

HEIGHT, WIDTH = 97, 131


@pytest.fixture
def image():
    return {"image": training_input(HEIGHT, WIDTH, 0)["image"]}


def model_with_apart_boxes(name):
    """Small boxes around centres all over the image, so that no two queries agree."""
    model = small_model(name)
    for parameter in model.heads.box.parameters():
        nn.init.zeros_(parameter)
    model.heads.box.layers[-1].bias.data[2:] = -3.0
    model.decoder.modulation.center.layers[-1].weight.data *= 8
    return model


def test_map_agrees_with_the_prior_of_the_cells():
    stride, (h, w) = 16, (4, 6)
    centers, scales = torch.rand(3, 2, 2) * 4, torch.rand(3, 2, 2) + 0.5
    maps = prior_maps(centers, scales, beta=16.0, stride=stride, size=(h * stride, w * stride))
    at_cells = gaussian_log_prior(centers[None], scales[None], (h, w), beta=16.0).exp()
    expected = at_cells[0].unflatten(-1, (h, w)).transpose(0, 1)
    torch.testing.assert_close(maps[..., ::stride, ::stride], expected)


def test_map_is_brightest_at_the_centre_and_wide_along_the_right_axis():
    # x: 2.5 cells of 8 pixels, flat; y: 1.25 cells, steep.
    maps = prior_maps(
        torch.tensor([[[2.5, 1.25]]]),
        torch.tensor([[[0.5, 2.0]]]),
        beta=8.0,
        stride=8,
        size=(32, 48),
    )
    (heat,) = maps[0].numpy()
    assert heat.shape == (32, 48)
    assert np.unravel_index(heat.argmax(), heat.shape) == (10, 20)
    assert heat.max() == pytest.approx(1.0)
    # One cell away: exp(-s^2 / beta).
    assert heat[10, 28] == pytest.approx(np.exp(-0.25 / 8))
    assert heat[18, 20] == pytest.approx(np.exp(-4.0 / 8))


@pytest.mark.parametrize(("name", "levels"), [("smca_single_scale", 1), ("smca", 3)])
def test_priors_are_those_of_the_last_layer(name, levels, image):
    model = small_model(name).eval()
    found = detection_priors(model, image, count=3)
    with torch.no_grad():
        _, decoded = model.run_network(model.preprocess_images([image]))
        logits = model.raw_outputs([image])["pred_logits"][-1, 0]
    prior = decoded.priors[-1]
    best = logits.sigmoid().max(-1).values.argmax()

    first = found[0]
    assert first.strides == tuple(model.neck.strides)
    assert first.maps.shape[:1] + first.maps.shape[2:] == (levels, HEIGHT, WIDTH)
    assert first.score == pytest.approx(logits[best].sigmoid().max().item())
    expected = decoded.references[0, 0, best].sigmoid() * torch.tensor([WIDTH, HEIGHT])
    np.testing.assert_allclose(first.center, expected, rtol=1e-5)
    for s, stride in enumerate(first.strides):
        h, w = -(-HEIGHT // stride), -(-WIDTH // stride)
        cells = prior.log_prior(s, (h, w)).dense()[0, :, best].exp().unflatten(-1, (h, w))
        np.testing.assert_allclose(first.maps[s][:, ::stride, ::stride], cells, atol=1e-5)
        np.testing.assert_allclose(
            first.head_centers[s], prior.centers[s][0, best] * stride, rtol=1e-5
        )
    if levels > 1:
        np.testing.assert_allclose(first.level_weights, prior.level_weights[0, best], rtol=1e-5)
    else:
        assert first.level_weights is None


def test_detections_fall_in_score_and_stop_at_threshold_and_count(image):
    model = model_with_apart_boxes("smca_single_scale")
    scores = [found.score for found in detection_priors(model, image, count=7)]
    assert len(scores) > 2
    assert scores == sorted(scores, reverse=True)
    between = (scores[0] + scores[1]) / 2
    assert len(detection_priors(model, image, score_threshold=between)) == 1
    assert len(detection_priors(model, image, score_threshold=1.0)) == 1
    assert len(detection_priors(model, image, count=2)) == 2


def test_of_queries_that_agree_only_one_is_drawn(image):
    model = small_model("smca_single_scale")
    for parameter in model.heads.box.parameters():
        nn.init.zeros_(parameter)
    # Half of the image around its middle, for every query.
    for parameter in model.decoder.modulation.center.parameters():
        nn.init.zeros_(parameter)
    (found,) = detection_priors(model, image, count=5)
    np.testing.assert_allclose(
        found.box, [WIDTH / 4, HEIGHT / 4, WIDTH * 3 / 4, HEIGHT * 3 / 4], rtol=1e-5
    )


def test_no_object_is_no_detection(image):
    """With cross entropy a last output beyond the classes competes, but is never the answer."""
    model = small_model("smca_single_scale")
    model.classification = CrossEntropyClassification()
    classifier = nn.Linear(16, 4)
    nn.init.zeros_(classifier.weight)
    classifier.bias.data = torch.tensor([0.0, 1.0, 0.0, 9.0])
    model.heads.classifier = classifier
    found = detection_priors(model, image, count=1)[0]
    assert found.class_id == 1
    assert found.score == pytest.approx(torch.tensor([0.0, 1, 0, 9]).softmax(0)[1].item())


def test_training_mode_is_kept(image):
    model = small_model("smca_single_scale").train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    detection_priors(model, image)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", ["smca_single_scale", "smca"])
@pytest.mark.parametrize("per_head", [False, True])
def test_picture(name, per_head, image):
    model = model_with_apart_boxes(name)
    picture = draw_priors(model, image, count=2, per_head=per_head, class_names="abc")
    assert picture.dtype == np.uint8
    height, width, channels = picture.shape
    assert channels == 3
    is_flat = name == "smca_single_scale" and not per_head
    columns = 5 if per_head else 2 if is_flat else 3
    rows = 1 if is_flat else 2
    panel_height = width / columns * HEIGHT / WIDTH
    # A panel has the image's aspect ratio; captions and the legend come on top.
    assert 1.0 < height / (panel_height * rows) < 1.4
    assert picture.std() > 20


def test_picture_shows_the_heat(image):
    """On a black image the brightest spot of a steep prior is at its centre."""
    image = {"image": torch.zeros(3, 128, 128, dtype=torch.uint8)}
    model = small_model("smca_single_scale")
    modulation = model.decoder.modulation
    for parameter in modulation.center.parameters():
        nn.init.zeros_(parameter)
    # Centre in the upper right; no offsets, steep.
    modulation.center.layers[-1].bias.data = torch.tensor([1.0986, -1.0986])
    last = modulation.layers[-1]
    for parameter in (*last.offset.parameters(), last.scale.weight):
        nn.init.zeros_(parameter)
    nn.init.constant_(last.scale.bias, 4.0)
    for parameter in model.heads.box.parameters():
        nn.init.zeros_(parameter)
    (found,) = detection_priors(model, image)
    np.testing.assert_allclose(found.center, [96, 32], atol=0.1)
    heat = found.maps.mean((0, 1))
    assert np.unravel_index(heat.argmax(), heat.shape) == (32, 96)
    picture = draw_priors(model, image).astype(int)
    # Orange is drawn by the heat map only: red far above blue.
    warm = np.argwhere(picture[..., 0] - picture[..., 2] > 60)
    middle = warm.mean(0) / picture.shape[1]
    np.testing.assert_allclose(middle, [0.30, 0.75], atol=0.08)


def test_heat_is_drawn_where_it_belongs():
    """A value belongs to its pixel's coordinate, as boxes and centres do."""
    heat = np.zeros((96, 128), np.float32)
    heat[30:35, 94:99] = 1.0
    nowhere = np.full(2, -99.0)
    found = DetectionPrior(
        box=np.array([96.0, 32, 96, 32]), score=1.0, class_id=0, center=nowhere,
        head_centers=nowhere[None, None], maps=heat[None, None], level_weights=None, strides=(8,),
    )  # fmt: skip
    panel = prior._Panel("", heat, found.head_centers[0], found)
    black = np.zeros((96, 128, 3), np.uint8)
    drawn = prior._draw_panel(black, panel)[prior._CAPTION_HEIGHT :].astype(int)
    scale = prior._PANEL_WIDTH / 128
    # Half a pixel, since a coordinate is at a pixel's corner.
    middle = np.argwhere(drawn[..., 0] > 100).mean(0) + 0.5
    np.testing.assert_allclose(middle, [32 * scale, 96 * scale], atol=0.6)


@pytest.mark.parametrize("channel", [0, 2])
def test_channel_order_of_the_model(channel):
    config = small_config("smca_single_scale")
    config.input_format = "BGR"
    model = small_model("smca_single_scale")
    model.input_format = config.input_format
    pixels = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    pixels[channel] = 255
    picture = draw_priors(model, {"image": pixels}, count=1, score_threshold=1.0)
    shown = picture.reshape(-1, 3).astype(int)
    pure = np.eye(3, dtype=int)[2 - channel] * 255
    other = np.eye(3, dtype=int)[channel] * 255
    assert (np.abs(shown - pure).max(1) < 100).sum() > (np.abs(shown - other).max(1) < 100).sum()


def test_models_without_a_prior(image):
    with pytest.raises(ValueError, match="no spatial prior to draw"):
        draw_priors(small_model("detr"), image)
    with pytest.raises(ValueError, match=r"no spatial prior to draw.* SamplingReference"):
        draw_priors(small_model("deformable_detr"), image)
    with pytest.raises(ValueError, match="no spatial prior to draw"):
        draw_priors(GeneralizedRCNN.__new__(GeneralizedRCNN), image)
