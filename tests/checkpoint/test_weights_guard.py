"""MODEL.WEIGHTS is looked at before Detectron2's checkpointer opens it."""

import os
import pickle

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from safetensors.torch import save_file

from helpers.checkpoints import zoo_checkpoint
from smca import model_zoo
from smca.checkpoint.loading.predictor_weights import read_predictor_weights
from smca.checkpoint.reading.fetch import fetch_weights

STATE = {"a": torch.zeros(2)}


class Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def write_malicious(path, canary):
    content = {"model": {"a": np.zeros(1)}, "__author__": Evil(canary)}
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)


def test_detectron2_itself_would_run_it(tmp_path):
    """What the guard is for, in Detectron2 0.6; where a later one refuses by itself, there is nothing to show."""
    path, canary = tmp_path / "bad.pkl", tmp_path / "canary"
    write_malicious(path, canary)
    try:
        DetectionCheckpointer(torch.nn.Linear(1, 1)).load(str(path))
    except Exception:
        pytest.skip("this Detectron2 refuses it")
    assert canary.exists()


@pytest.mark.parametrize("name", ["digits/smca_single_scale", "digits/faster_rcnn"])
@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".pyth"])
def test_the_predictor_does_not_get_that_far(name, suffix, tmp_path):
    path, canary = tmp_path / f"bad{suffix}", tmp_path / "canary"
    write_malicious(path, canary)
    cfg = model_zoo.get_cfg(name, weights=str(path))
    cfg.MODEL.DEVICE = "cpu"
    for build in (DefaultPredictor, build_model):
        with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
            build(cfg)
    assert not canary.exists()


def test_options_after_a_question_mark(tmp_path):
    path, canary = tmp_path / "bad.pkl", tmp_path / "canary"
    write_malicious(path, canary)
    with pytest.raises(ValueError, match="cannot be read"):
        read_predictor_weights(f"{path}?matching_heuristics=True")
    assert not canary.exists()


def test_what_passes(tmp_path):
    torch.save({"model": STATE}, tmp_path / "a.pth")
    torch.save({"model": STATE}, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    content = {"model": {"a": np.zeros(1)}, "__author__": "me"}
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(content))
    for source in ("", "none.pth", "detectron2://x.pkl", *map(str, tmp_path.iterdir())):
        read_predictor_weights(source)


def test_safetensors_are_not_for_detectron2(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"reads no safetensors; smca\.Predictor"):
        read_predictor_weights(str(tmp_path / "w.safetensors"))


def test_a_damaged_file(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"model": STATE}, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="cut off"):
        read_predictor_weights(str(path))


@pytest.mark.parametrize(
    "source",
    [
        "detectron2://../../evil.pkl",
        "detectron2://a/%2e%2e/evil.pkl",
        "detectron2://..\\evil.pkl",
        "smca://../x",
    ],
)
def test_a_name_does_not_lead_out_of_where_it_is_kept(source):
    """Detectron2 joins it to its cache, and what lies there counts as its own."""
    with pytest.raises(ValueError, match=r"a name of weights may not go up in folders \('\.\.'\)"):
        read_predictor_weights(source)
    with pytest.raises(ValueError, match="may not go up"):
        fetch_weights(source)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_predict_nothing_do_not_get_that_far(tmp_path, value):
    path = zoo_checkpoint(tmp_path / "w.pth", "digits/smca_single_scale")
    content = torch.load(path, weights_only=True)
    content["model"]["heads.classifier.bias"][3] = value
    torch.save(content, path)
    with pytest.raises(
        ValueError, match=r"heads\.classifier\.bias of .*w\.pth holds NaN or infinity"
    ):
        model_zoo.get_cfg("digits/smca_single_scale", weights=str(path))
    cfg = model_zoo.get_cfg("digits/smca_single_scale")
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = str(path), "cpu"
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        DefaultPredictor(cfg)
