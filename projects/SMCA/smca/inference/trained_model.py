"""From a checkpoint, or a config and a checkpoint, to a model with all of its weights."""

from collections.abc import Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig, OmegaConf
from torch import nn

from smca.checkpoint import (
    ModelFile,
    ModelInfo,
    load_described,
    model_info_from_lazy,
    read_model_file,
)
from smca.data.sources.class_names import class_names, fill_num_classes
from smca.description.model_fields import DETECTION_LIMITS, num_classes_of
from smca.errors import InputError
from smca.experiments import load_experiment


def load_checkpoint(source: str) -> tuple[nn.Module, ModelInfo]:
    """A model from a checkpoint that describes it; of a training the moving averages, if it kept them.

    Args:
        source: a file, a URL, "detectron2://" and a name of Detectron2's, or "smca://" and a published name.

    Returns:
        The model on the CPU in evaluation mode, and its description.

    Raises:
        InputError: if the file cannot be read, does not describe its model, or lacks some of its weights.
    """
    file = read_model_file(source)
    if file.info is None:
        raise InputError(
            f"checkpoint {source} does not say which model it is of; give its config, too (--config-file)"
        )
    return _load(file.info, file, source), file.info


def load_config(config: str, weights: str) -> tuple[nn.Module, ModelInfo]:
    """As :func:`load_checkpoint`, of the model that a config describes.

    Args:
        config: name in the model zoo, a LazyConfig's .py file, or the config.yaml of a run.
        weights: as for :func:`load_checkpoint`; released DETR and SMCA checkpoints will do.
    """
    lazy = load_experiment(config)
    file = read_model_file(weights)
    fill_num_classes(lazy)
    names = file.class_names or _names_of_data(lazy)
    if len(names) != num_classes_of(lazy.model):
        names = ()
    ids = () if file.info is None or file.info.class_names != tuple(names) else file.info.class_ids
    info = model_info_from_lazy(lazy, config_name=config, class_names=names, class_ids=ids)
    return _load(info, file, weights), info


def limit_detections(model: nn.Module, limit: int) -> None:
    """Set the limit of detections per image, of ours and of Detectron2's R-CNN.

    Raises:
        InputError: if the model has no such limit.
    """
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
    except InputError:
        return ()


def _load(info: ModelInfo, file: ModelFile, source: str) -> nn.Module:
    try:
        return load_described(info, file)
    except InputError as error:
        raise InputError(f"checkpoint {source}: {error}") from error
