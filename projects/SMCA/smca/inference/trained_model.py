"""From a checkpoint, or a config and a checkpoint, to a model with all of its weights."""

from collections.abc import Mapping, Sequence

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from smca import model_zoo
from smca.checkpoint import (
    ModelInfo,
    build_model_from_info,
    check_whole,
    convert_released,
    model_info_from_lazy,
    read_model_file,
)
from smca.checkpoint.reading.fetch import fetch_weights
from smca.description.model_fields import DETECTION_LIMITS, num_classes_of
from smca.data.sources.class_names import class_names, fill_num_classes
from smca.errors import InputError


def load_checkpoint(source: str) -> tuple[nn.Module, ModelInfo]:
    """A model from a checkpoint that describes it; of a training the moving averages, if it kept them.

    Args:
        source: a file, a URL, "detectron2://" and a name of Detectron2's, or "smca://" and a published name.

    Returns:
        The model on the CPU in evaluation mode, and its description.

    Raises:
        InputError: if the file cannot be read, does not describe its model, or lacks some of its weights.
    """
    file = read_model_file(fetch_weights(source))
    if file.info is None:
        raise InputError(
            f"checkpoint {source} does not say which model it is of; give its config, too (--config-file)"
        )
    return _build(file.info, file.best_state_dict, source), file.info


def load_config(config: str, weights: str) -> tuple[nn.Module, ModelInfo]:
    """As :func:`load_checkpoint`, of the model that a config describes.

    Args:
        config: name in the model zoo, or a LazyConfig's .py file.
        weights: as for :func:`load_checkpoint`; released DETR and SMCA checkpoints will do.
    """
    # The engine is of no use to a checkpoint that describes itself.
    from smca.engine import load_config_file

    is_file = config.endswith(".py")
    lazy = load_config_file(config) if is_file else model_zoo.get_config(config)
    file = read_model_file(fetch_weights(weights))
    fill_num_classes(lazy)
    names = file.class_names or _names_of_data(lazy)
    if len(names) != num_classes_of(lazy.model):
        names = ()
    info = model_info_from_lazy(lazy, config_name=config, class_names=names)
    return _build(info, file.best_state_dict, weights), info


def limit_detections(model: nn.Module, limit: int) -> None:
    """Set the limit of detections per image, of ours and of Detectron2's R-CNN.

    Raises:
        InputError: if the model has no such limit, or the new one is below 1.
    """
    if limit < 1:
        raise InputError(f"max_detections is {limit}, it must be at least 1")
    for path in DETECTION_LIMITS:
        *parents, key = path.split(".")
        owner = model
        for parent in parents:
            owner = getattr(owner, parent, None)
        if hasattr(owner, key):
            setattr(owner, key, limit)
            return
    raise InputError(f"max_detections: a {type(model).__name__} has no limit of detections")


def _names_of_data(lazy: DictConfig) -> Sequence[str]:
    """Classes of the data set that the config tests on, which need not be at hand."""
    names = OmegaConf.select(lazy, "dataloader.test.dataset.names")
    name = names if isinstance(names, str) else next(iter(names or ()), "")
    known = MetadataCatalog.get(name).get("thing_classes") if name in DatasetCatalog else None
    try:
        return known or class_names(lazy)
    except ValueError:
        return ()


def _build(info: ModelInfo, state: Mapping[str, Tensor], source: str) -> nn.Module:
    try:
        with torch.device("meta"):
            # Sizes are compared before there is memory for them.
            described = build_model_from_info(info)
        classification = getattr(described, "classification", None)
        if classification and any(name.startswith("transformer.") for name in state):
            no_object = classification.has_no_object_output
            state = convert_released(state, described.num_classes, no_object_class=no_object)
        # Unlike in fine-tuning nothing may be left as constructed: it would predict noise.
        check_whole(described.state_dict(), state)
        model = build_model_from_info(info)
    except ValueError as error:
        raise InputError(f"checkpoint {source}: {error}") from error
    model.load_state_dict(state, strict=False)
    return model
