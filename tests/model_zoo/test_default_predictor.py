"""Detectron2's own predictor, unchanged, on a CfgNode of ours."""

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultPredictor

from helpers.checkpoints import CLASS_NAMES
from smca import Predictor, model_zoo
from smca.data.digits.spec import CLASSES

NAME = "digits/smca_single_scale"
SIZES = [(128, 128), (100, 128), (60, 200), (301, 77), (33, 33)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Weights whose outputs depend on the image, unlike those of a fresh model."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = model_zoo.get(NAME)
    torch.nn.init.normal_(model.heads.classifier.weight, std=0.1)
    torch.nn.init.normal_(model.heads.box.layers[-1].weight, std=0.1)
    DetectionCheckpointer(model, str(folder)).save("model_final")
    return str(folder / "model_final.pth")


@pytest.fixture
def cfg(checkpoint):
    cfg = model_zoo.get_cfg(NAME, checkpoint)
    cfg.MODEL.DEVICE = "cpu"
    return cfg


@pytest.fixture
def image():
    return draw((90, 120))


def draw(size, seed=0):
    return np.random.default_rng(seed).integers(256, size=(*size, 3), dtype=np.uint8)


def predict(cfg, image):
    return DefaultPredictor(cfg)(image)["instances"]


def assert_same(a, b, tolerance=0.0):
    assert a.image_size == b.image_size
    assert torch.equal(a.pred_classes, b.pred_classes)
    torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=tolerance)
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=0, atol=tolerance)


def test_images_of_any_size(cfg):
    predictor = DefaultPredictor(cfg)
    for size in SIZES:
        found = predictor(draw(size))["instances"]
        assert found.image_size == size
        assert set(found.get_fields()) == {"pred_boxes", "scores", "pred_classes"}
        assert len(found) == 100
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
        assert 0 <= found.scores.min() <= found.scores.max() <= 1
        assert 0 <= found.pred_classes.min() <= found.pred_classes.max() < 10
        boxes = found.pred_boxes.tensor
        assert torch.isfinite(boxes).all()
        assert (boxes[:, 2:] >= boxes[:, :2]).all()
        height, width = size
        assert boxes.min() >= 0
        assert (boxes[:, ::2] <= width).all()
        assert (boxes[:, 1::2] <= height).all()


def test_the_checkpoint_is_loaded(cfg, checkpoint, image):
    with_weights = predict(cfg, image)
    model = model_zoo.get(NAME).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    # The config's test resize enlarges 90 x 120 to 96 x 128.
    predictor = DefaultPredictor(cfg)
    resized = predictor.aug.get_transform(image[:, :, ::-1]).apply_image(image[:, :, ::-1])
    assert resized.shape == (96, 128, 3)
    tensor = torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1)))
    with torch.no_grad():
        (expected,) = model([{"image": tensor, "height": 90, "width": 120}])
    assert_same(with_weights, expected["instances"])
    torch.manual_seed(1)
    cfg.MODEL.WEIGHTS = ""
    assert not torch.equal(predict(cfg, image).scores, with_weights.scores)


def test_class_names_are_the_data_sets(cfg):
    assert DefaultPredictor(cfg).metadata.thing_classes == list(CLASSES)
    cfg.DATASETS.TEST = ("coco_2017_val",)
    assert DefaultPredictor(cfg).metadata.thing_classes[0] == "person"


def test_limit_of_detections(cfg, image):
    every = predict(cfg, image)
    cfg.TEST.DETECTIONS_PER_IMAGE = 7
    found = predict(cfg, image)
    assert len(found) == 7
    assert_same(found, every[:7])


def test_test_size(cfg, image):
    seen = []

    def remember(module, arguments):
        seen.append(tuple(arguments[0][0]["image"].shape))

    for short_edge, largest in ((128, 128), (64, 200), (200, 1000)):
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = short_edge, largest
        predictor = DefaultPredictor(cfg)
        predictor.model.register_forward_pre_hook(remember)
        assert predictor(image)["instances"].image_size == (90, 120)
    assert seen == [(3, 96, 128), (3, 64, 85), (3, 200, 267)]


def test_channel_order(cfg, image):
    """The model keeps its means, so BGR input is for weights that were trained so."""
    rgb = predict(cfg, image)
    cfg.INPUT.FORMAT = "BGR"
    assert DefaultPredictor(cfg).model.input_format == "BGR"
    swapped = predict(cfg, np.ascontiguousarray(image[:, :, ::-1]))
    assert_same(swapped, rgb)
    assert not torch.equal(predict(cfg, image).scores, rgb.scores)


def test_the_image_is_left_as_it_is(cfg, image):
    before = image.copy()
    predict(cfg, image)
    assert np.array_equal(image, before)


def test_the_readmes_call_for_classes_of_ones_own(image, own_checkpoint):
    """Of a training on own data: the config lacks the number of classes, the checkpoint has it and their names."""
    path = own_checkpoint("digits/custom_coco")
    cfg = model_zoo.get_cfg("digits/custom_coco", weights=path)
    cfg.MODEL.DEVICE = "cpu"
    predictor = DefaultPredictor(cfg)
    assert predictor.metadata.thing_classes == list(CLASS_NAMES)
    theirs = predictor(image)["instances"]
    assert_same(theirs, Predictor.from_checkpoint(path, device="cpu", threshold=0.0)(image), 1e-4)


def test_weights_of_another_model_are_no_log_line(cfg):
    other = model_zoo.get_cfg("digits/smca")
    other.MODEL.WEIGHTS, other.MODEL.DEVICE = cfg.MODEL.WEIGHTS, "cpu"
    with pytest.raises(ValueError, match=r"model of digits/smca: \d+ tensors missing in it"):
        DefaultPredictor(other)
