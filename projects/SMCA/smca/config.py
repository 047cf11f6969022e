"""Between LazyConfig, in which experiments are written, and the CfgNode that Detectron2's predictor takes.

The CfgNode carries the model's LazyConfig as data (JSON, in ``MODEL.SMCA.LAZY_MODEL``) and is derived from it, so
that nothing is typed twice. A few keys stay live; any other edited model key would have no effect and raises.
"""

import hashlib
import json
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from omegaconf import DictConfig

from smca.checkpoint.loading.predictor_weights import (
    is_backbone_only,
    misfit_with_model,
    read_predictor_weights,
)
from smca.description.allowed_targets import allow_targets_of, check_targets, names_of
from smca.description.model_data import build_model_from_data, build_part
from smca.description.model_fields import DETECTION_LIMITS, find_field
from smca.description.model_info import ModelInfo, model_info_from_lazy
from smca.description.model_upgrade import up_to_date
from smca.errors import InputError

LIVE_MODEL_KEYS = ("MODEL.WEIGHTS", "MODEL.DEVICE")
"""Model keys that may be edited; so may INPUT.*_TEST, INPUT.FORMAT, DATASETS.TEST, TEST.DETECTIONS_PER_IMAGE."""

_SMCA = names_of("smca.modeling.smca_detr", "SMCA")

# Detectron2's CfgNode keys that people know, and the LazyConfig field that does the same here.
LAZY_FIELDS = {
    "MODEL.BACKBONE.FREEZE_AT": "model.backbone.freeze_at",
    "MODEL.META_ARCHITECTURE": "model._target_",
    "MODEL.PIXEL_MEAN": "model.pixel_mean",
    "MODEL.PIXEL_STD": "model.pixel_std",
    "MODEL.RESNETS.DEPTH": "model.backbone.depth",
    "MODEL.RESNETS.NORM": "model.backbone.norm",
    "MODEL.RESNETS.OUT_FEATURES": "model.backbone.out_features",
    "MODEL.RESNETS.RES5_DILATION": "model.backbone.dilate_res5",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": "model.backbone.stem_channels",
    "MODEL.RETINANET.NUM_CLASSES": "model.num_classes",
    "MODEL.ROI_HEADS.NUM_CLASSES": "model.num_classes",
}


def add_smca_config(cfg: CfgNode) -> None:
    """Add this project's keys to a Detectron2 CfgNode; :func:`cfg_from_lazy` fills them."""
    cfg.MODEL.SMCA = CfgNode()
    # Zoo name or path the config came from, for messages only.
    cfg.MODEL.SMCA.CONFIG = ""
    # The `model` node of the LazyConfig as JSON.
    cfg.MODEL.SMCA.LAZY_MODEL = ""


def cfg_from_lazy(
    lazy: DictConfig, *, name: str = "", weights: str = "", info: ModelInfo | None = None
) -> CfgNode:
    """Derive the CfgNode that ``DefaultPredictor`` and ``build_model`` take from a LazyConfig.

    Args:
        lazy: an experiment with ``model`` and ``dataloader.test``. Where there is no ``info``, what its model is made
            of is trusted from here on: one that was read by Detectron2 itself need not have been yet.
        name: where it came from, for messages.
        weights: checkpoint to load.
        info: what the checkpoint says about itself. Its model, classes and sizes of images then take the place of the
            config's, which may be of other classes.

    Raises:
        InputError: if ``info`` names what no model here is made of.
    """
    cfg = get_cfg()
    add_smca_config(cfg)
    names = lazy.dataloader.test.dataset.names
    cfg.DATASETS.TEST = (names,) if isinstance(names, str) else tuple(names)
    if info is None:
        # The caller has it as python objects, wherever they are from.
        allow_targets_of(lazy.model)
        info = model_info_from_lazy(lazy)
    else:
        # Of a file, and so perhaps a stranger's.
        check_targets(info.model)
        cfg.DATASETS.TEST = (_with_classes(cfg.DATASETS.TEST[0], info.class_names),)
    _set_model_keys(cfg, info.model, name)
    cfg.MODEL.WEIGHTS = weights
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = info.min_size_test, info.max_size_test
    cfg.INPUT.FORMAT = info.model.get("input_format", "BGR")
    limit = find_field(info.model, DETECTION_LIMITS)
    if limit is not None:
        owner, key = limit
        cfg.TEST.DETECTIONS_PER_IMAGE = owner[key]
    return cfg


def lazy_model_from_cfg(cfg: CfgNode) -> dict:
    """The carried model with the live keys applied, ready for ``instantiate``.

    Raises:
        InputError: if the CfgNode carries no model, or one that names what no model here is made of, or if a model
            key was edited that has no effect.
    """
    node = cfg.MODEL.get("SMCA", {})
    if not node or not node.LAZY_MODEL:
        raise InputError(
            "this CfgNode carries no model: get one from smca.model_zoo.get_cfg(name) instead of filling it by hand"
        )
    try:
        model = up_to_date(json.loads(node.LAZY_MODEL))
        # A CfgNode can come from a file, and a file from a stranger.
        check_targets(model)
    except (InputError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"cfg.MODEL.SMCA.LAZY_MODEL: {error}") from error
    _reject_dead_edits(cfg, model)
    limit = find_field(model, DETECTION_LIMITS)
    if limit is not None:
        owner, key = limit
        owner[key] = cfg.TEST.DETECTIONS_PER_IMAGE
    if "input_format" in model:
        model["input_format"] = cfg.INPUT.FORMAT
    return model


def model_parts_from_cfg(cfg: CfgNode) -> dict[str, Any]:
    """Constructor arguments of the carried model, parts already built.

    Raises:
        InputError: as :func:`lazy_model_from_cfg`, or if Detectron2 should not open ``cfg.MODEL.WEIGHTS``, or would
            leave parts of the model as initialised with it. Weights of a backbone, from which a training starts, pass.
    """
    model = _checked_model(cfg)
    model.pop("_target_")
    return {key: build_part(value) for key, value in model.items()}


@META_ARCH_REGISTRY.register()
def LazyModel(cfg: CfgNode) -> torch.nn.Module:  # noqa: N802 - registered under the name a CfgNode shows
    """Any model but SMCA that a LazyConfig describes, such as the Faster R-CNN that the paper compares with.

    Raises:
        InputError: as :func:`model_parts_from_cfg`.
    """
    return build_model_from_data(_checked_model(cfg))


def _checked_model(cfg: CfgNode) -> dict:
    """The carried model, after a look at the weights that Detectron2 is to load into it."""
    source = cfg.MODEL.WEIGHTS
    file = read_predictor_weights(source)
    model = lazy_model_from_cfg(cfg)
    # Of what Detectron2 fetches or names itself nothing is known.
    misfit = None if file is None or is_backbone_only(file) else misfit_with_model(file, model)
    if misfit:
        raise InputError(
            f"cfg.MODEL.WEIGHTS {source} is not of the model of {cfg.MODEL.SMCA.CONFIG or 'this CfgNode'}: "
            f"{misfit}; smca.model_zoo.get_cfg(name, weights=...) takes the model that the file describes"
        )
    return model


def _with_classes(data_set: str, class_names: tuple[str, ...]) -> str:
    """A name in Detectron2's MetadataCatalog that has these classes, where its visualiser looks them up."""
    known = data_set in MetadataCatalog.list()
    if not class_names or (
        known and MetadataCatalog.get(data_set).get("thing_classes") == list(class_names)
    ):
        return data_set
    digest = hashlib.sha256("\n".join(class_names).encode()).hexdigest()[:8]
    name = f"{data_set}_classes_{digest}"
    MetadataCatalog.get(name).thing_classes = list(class_names)
    return name


def _set_model_keys(cfg: CfgNode, model: dict, name: str) -> None:
    cfg.MODEL.META_ARCHITECTURE = "SMCA" if model["_target_"] in _SMCA else "LazyModel"
    for key in ("pixel_mean", "pixel_std"):
        # What is no list is refused when the model is built.
        if isinstance(model.get(key), list):
            cfg.MODEL[key.upper()] = list(model[key])
    cfg.MODEL.SMCA.CONFIG = name
    cfg.MODEL.SMCA.LAZY_MODEL = json.dumps(model, sort_keys=True)


def _reject_dead_edits(cfg: CfgNode, model: dict) -> None:
    derived = get_cfg()
    add_smca_config(derived)
    _set_model_keys(derived, model, cfg.MODEL.SMCA.CONFIG)
    derived.MODEL.SMCA.LAZY_MODEL = cfg.MODEL.SMCA.LAZY_MODEL
    expected = dict(_leaves(derived.MODEL, "MODEL"))
    # In json, since a CfgNode that was dumped and read has lists where it had tuples.
    for key, value in _leaves(cfg.MODEL, "MODEL"):
        if key in LIVE_MODEL_KEYS or (
            key in expected and json.dumps(expected[key]) == json.dumps(value)
        ):
            continue
        field = LAZY_FIELDS.get(key, "the matching field under `model`")
        source = cfg.MODEL.SMCA.CONFIG or "the config"
        raise InputError(
            f"cfg.{key} = {value!r} has no effect on this model; change {field} in the LazyConfig {source!r} "
            "and derive the CfgNode from it"
        )


def _leaves(node: CfgNode, prefix: str) -> list[tuple[str, Any]]:
    found = []
    for key, value in node.items():
        path = f"{prefix}.{key}"
        found.extend(_leaves(value, path) if isinstance(value, CfgNode) else [(path, value)])
    return found
