"""What a file says of its model is compared with its tensors before there is memory for either."""

import json
import time

import pytest
import torch

from helpers.checkpoints import tiny_checkpoint
from smca import Predictor, model_zoo
from smca.checkpoint import model_info_from_lazy
from smca.description.model_info import INFO_KEY


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tiny_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.pth", "smca")
    return torch.load(path, weights_only=True)


def refused(content, tmp_path, info, state=None) -> str:
    torch.save({"model": state or content["model"], INFO_KEY: json.dumps(info)}, tmp_path / "w.pth")
    start = time.process_time()
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the caller looks at it
        Predictor.from_checkpoint(tmp_path / "w.pth", device="cpu")
    assert time.process_time() - start < 5
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("decoder.num_queries", 20_000_000, "which no model has"),
        ("decoder.num_queries", 4_000, "of another number of rows (decoder.query_embedding"),
        ("decoder.num_layers", 10**9, "which no model has"),
        ("backbone.stem_channels", 4096, "of another shape"),
        ("neck.embed_dim", 1e300, "which no model has"),
        ("encoder.blocks", "99999999Intra", "encoder.blocks"),
        ("encoder.dropout", float("nan"), "which no model has"),
        ("pixel_mean", [1.0] * 4, "it must have a number per channel, 3"),
        ("pixel_std", [1.0] * 101, "a list of 101 entries"),
        ("postprocessor", None, "postprocessor is None"),
        ("postprocessor.max_detections", -3, "max_detections is -3"),
        ("postprocessor.max_detections", "x", "max_detections is"),
        ("heads", "abc", "heads"),
    ],
)
def test_a_description_that_fits_no_file(content, tmp_path, path, value, words):
    info = json.loads(content[INFO_KEY])
    *parents, leaf = path.split(".")
    node = info["model"]
    for name in parents:
        node = node[name]
    node[leaf] = value
    assert words in refused(content, tmp_path, info)


def test_images_that_would_be_too_large(content, tmp_path):
    info = json.loads(content[INFO_KEY]) | {"min_size_test": 8000}
    assert "min_size_test 8000" in refused(content, tmp_path, info)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_predict_nothing(content, tmp_path, value):
    state = {name: tensor.clone() for name, tensor in content["model"].items()}
    state["heads.classifier.weight"][0, 0] = value
    message = refused(content, tmp_path, json.loads(content[INFO_KEY]), state)
    assert "heads.classifier.weight holds NaN or infinity" in message


@pytest.mark.parametrize("kind", [torch.bool, torch.int64])
def test_weights_of_another_type(content, tmp_path, kind):
    state = dict(content["model"])
    state["backbone.stem.conv1.weight"] = state["backbone.stem.conv1.weight"].to(kind)
    message = refused(content, tmp_path, json.loads(content[INFO_KEY]), state)
    assert f"backbone.stem.conv1.weight (8, 3, 7, 7) {kind} instead of" in message


def test_released_names_beside_a_model_that_is_not_released(content, tmp_path):
    """Detectron2's models have no classification to ask."""
    info = model_info_from_lazy(model_zoo.get_config("digits/faster_rcnn"))
    state = {"transformer.decoder.norm.weight": torch.zeros(2)}
    message = refused(content, tmp_path, json.loads(info.to_json()), state)
    assert "its tensors are not those of this model" in message
    assert "transformer.decoder.norm.weight" in message
