import json

import pytest
import torch
from detectron2.config import CfgNode, LazyCall, get_cfg
from detectron2.modeling import build_model
from omegaconf import OmegaConf

from smca import add_smca_config, model_zoo
from smca.config import LAZY_FIELDS, cfg_from_lazy, lazy_model_from_cfg
from smca.description.model_data import lazy_model_as_data
from smca.description.model_fields import num_classes_of
from smca.modeling import SMCA

NAME = "digits/smca_single_scale"


@pytest.fixture
def cfg() -> CfgNode:
    cfg = model_zoo.get_cfg(NAME)
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def set_key(cfg, key, value):
    *parents, leaf = key.split(".")
    for part in parents:
        cfg = cfg[part]
    cfg[leaf] = value


def test_the_keys_are_empty_at_first():
    cfg = get_cfg()
    add_smca_config(cfg)
    assert (cfg.MODEL.SMCA.CONFIG, cfg.MODEL.SMCA.LAZY_MODEL) == ("", "")


@pytest.mark.parametrize("add", [add_smca_config, lambda cfg: None])
@pytest.mark.parametrize("architecture", ["SMCA", "LazyModel"])
def test_a_cfg_node_without_a_model(add, architecture):
    cfg = get_cfg()
    add(cfg)
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.DEVICE = "cpu"
    with pytest.raises(ValueError, match=r"carries no model: get one from smca\.model_zoo"):
        build_model(cfg)


def test_the_model_is_carried_as_data(cfg):
    carried = json.loads(cfg.MODEL.SMCA.LAZY_MODEL)
    assert carried == lazy_model_as_data(model_zoo.get_config(NAME).model)
    assert carried["num_classes"] == carried["heads"]["num_classes"] == 10
    assert carried["_target_"].endswith(".SMCA")
    assert "${" not in cfg.MODEL.SMCA.LAZY_MODEL
    assert lazy_model_from_cfg(cfg) == carried


def test_making_data_of_a_model_leaves_it_as_it_is():
    model = model_zoo.get_config(NAME).model
    before = OmegaConf.to_container(model)
    lazy_model_as_data(model)
    assert OmegaConf.to_container(model) == before
    assert callable(model._target_)


def test_references_out_of_the_model_are_resolved():
    lazy = model_zoo.get_config(NAME)
    lazy.width = 64
    lazy.model.encoder.ffn_dim = "${width}"
    lazy.model.decoder.ffn_dim = "${...width}"
    carried = lazy_model_as_data(lazy.model)
    assert carried["encoder"]["ffn_dim"] == carried["decoder"]["ffn_dim"] == 64


def test_live_keys_reach_the_carried_model(cfg):
    cfg.TEST.DETECTIONS_PER_IMAGE = 9
    cfg.INPUT.FORMAT = "BGR"
    model = lazy_model_from_cfg(cfg)
    assert model["postprocessor"]["max_detections"] == 9
    assert model["input_format"] == "BGR"


def test_live_keys_reach_faster_rcnn():
    cfg = model_zoo.get_cfg("digits/faster_rcnn")
    cfg.TEST.DETECTIONS_PER_IMAGE = 9
    model = lazy_model_from_cfg(cfg)
    assert model["roi_heads"]["box_predictor"]["test_topk_per_image"] == 9


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("MODEL.RESNETS.DEPTH", 101, "model.backbone.depth"),
        ("MODEL.RESNETS.NORM", "BN", "model.backbone.norm"),
        ("MODEL.BACKBONE.FREEZE_AT", 0, "model.backbone.freeze_at"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", 3, "model.num_classes"),
        ("MODEL.PIXEL_MEAN", [1.0, 2.0, 3.0], "model.pixel_mean"),
        ("MODEL.META_ARCHITECTURE", "LazyModel", "model._target_"),
        ("MODEL.FPN.NORM", "GN", "the matching field under `model`"),
        ("MODEL.MASK_ON", True, "the matching field under `model`"),
    ],
)
def test_dead_edits_are_refused(cfg, key, value, field):
    set_key(cfg, key, value)
    with pytest.raises(ValueError, match="has no effect") as error:
        build_model(cfg)
    message = str(error.value)
    assert f"cfg.{key} = {value!r}" in message
    assert f"change {field} in the LazyConfig {NAME!r}" in message


def test_a_new_model_key_is_refused(cfg):
    cfg.MODEL.SMCA.NUM_QUERIES = 7
    with pytest.raises(ValueError, match=r"cfg\.MODEL\.SMCA\.NUM_QUERIES = 7 has no effect"):
        build_model(cfg)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.WEIGHTS", "x.pth"),
        ("INPUT.MIN_SIZE_TEST", 333),
        ("INPUT.MAX_SIZE_TEST", 444),
        ("DATASETS.TEST", ("coco_2017_val",)),
        ("SOLVER.BASE_LR", 1.0),
        # The same numbers again are no edit.
        ("MODEL.PIXEL_MEAN", (123.675, 116.28, 103.53)),
    ],
)
def test_other_edits_are_taken(cfg, key, value):
    set_key(cfg, key, value)
    assert lazy_model_from_cfg(cfg)["num_classes"] == 10


def test_the_fields_that_messages_name_exist():
    lazy = model_zoo.get_config("smca_r50_50ep")
    for field in LAZY_FIELDS.values():
        *parents, leaf = field.split(".")
        assert leaf in OmegaConf.select(lazy, ".".join(parents)), field


def test_several_test_sets():
    lazy = model_zoo.get_config(NAME)
    lazy.dataloader.test.dataset.names = ["digits_val", "digits_train"]
    assert cfg_from_lazy(lazy).DATASETS.TEST == ("digits_val", "digits_train")


@pytest.mark.parametrize(
    ("name", "classes"), [("digits/smca", 10), ("smca_r50_50ep", 80), ("digits/faster_rcnn", 10)]
)
def test_num_classes(name, classes):
    assert num_classes_of(model_zoo.get_config(name).model) == classes


def test_num_classes_of_a_model_that_does_not_say():
    assert num_classes_of(LazyCall(torch.nn.Identity)(width=3)) is None


class Own:
    class SMCA(SMCA):
        """Of the same last name."""


def test_a_class_of_the_same_last_name_is_another_one():
    lazy = model_zoo.get_config(NAME)
    assert cfg_from_lazy(lazy).MODEL.META_ARCHITECTURE == "SMCA"
    lazy.model._target_ = Own.SMCA
    cfg = cfg_from_lazy(lazy)
    cfg.MODEL.DEVICE = "cpu"
    assert cfg.MODEL.META_ARCHITECTURE == "LazyModel"
    assert type(build_model(cfg)) is Own.SMCA
