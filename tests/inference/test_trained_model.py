"""What a file says of its model is compared with its tensors before there is memory for either."""

import json
import time

import pytest
import torch

from helpers.checkpoints import tiny_checkpoint
from smca import Predictor
from smca.checkpoint.model_info import INFO_KEY


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
        ("decoder.num_queries", 4_000, "of another shape (decoder.query_embedding"),
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
