"""What version 0.1 wrote, in checkpoints and beside runs, is what this version reads."""

import copy
import json

import pytest
import torch
from detectron2.config import instantiate

from helpers.builders import REFERENCE
from smca import model_zoo
from smca.checkpoint import ModelInfo, build_model_from_info, model_info_from_lazy
from smca.description.model_upgrade import up_to_date
from smca.engine.run.run_settings import compare_with_start
from smca.experiments import load_config_file
from smca.modeling import CrossEntropyClassification, FocalClassification

WRITTEN = json.loads((REFERENCE / "version_0.1.json").read_text())
NAMES = sorted(WRITTEN["descriptions"])


@pytest.mark.parametrize("name", NAMES)
def test_a_description_builds_todays_model(name):
    info = ModelInfo.from_json(json.dumps(WRITTEN["descriptions"][name]))
    today = model_zoo.get_config(name)
    with torch.device("meta"):
        old, new = build_model_from_info(info), instantiate(today.model)
    assert {k: v.shape for k, v in old.state_dict().items()} == {
        k: v.shape for k, v in new.state_dict().items()
    }
    assert old.classification == new.classification
    assert old.postprocessor.max_detections == new.postprocessor.max_detections
    expected = CrossEntropyClassification if name.startswith("detr") else FocalClassification
    assert type(old.classification) is expected
    # And it is today's description.
    described = model_info_from_lazy(today).model
    assert up_to_date(info.model) == info.model
    assert set(info.model) == set(described)
    assert set(info.model["heads"]) == set(described["heads"])


def test_settings_of_the_old_form_are_kept():
    old = copy.deepcopy(WRITTEN["descriptions"]["smca_r50_50ep"]["model"])
    old["criterion"]["classification"]["alpha"] = 0.5
    old["heads"]["prior_probability"] = 0.2
    before = copy.deepcopy(old)
    new = up_to_date(old)
    assert old == before
    for node in (new, new["heads"], new["criterion"], new["postprocessor"]):
        assert (node["classification"]["alpha"], node["classification"]["prior_probability"]) == (
            0.5,
            0.2,
        )


@pytest.mark.parametrize(
    "model", [None, 3, [], {}, {"criterion": 3}, {"criterion": {"classification": {}}}]
)
def test_what_is_no_description_stays(model):
    assert up_to_date(model) == model


def test_a_run_of_then_can_be_read_and_resumed(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(WRITTEN["config_yaml"])
    model = instantiate(load_config_file(str(path)).model)
    assert model.num_classes == 10
    cfg = model_zoo.get_config("digits/smca_single_scale")
    cfg.train.output_dir = str(tmp_path)
    assert not [text for text in compare_with_start(cfg) if "model." in text]
    cfg.model.decoder.num_queries = 30
    with pytest.raises(ValueError, match=r"model\.decoder\.num_queries is 30"):
        compare_with_start(cfg)
