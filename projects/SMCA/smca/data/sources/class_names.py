"""Which classes an experiment has, and the model's number of them."""

from __future__ import annotations

import inspect

from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf

from smca.description.model_fields import NUM_CLASSES_FIELDS

from .custom_dataset import load_custom_dataset, register_custom_dataset
from .detection_dataset import class_names_of


def class_names(cfg: DictConfig) -> tuple[str, ...]:
    """Names of classes 0 to K-1: those of the data set to train on or, where it cannot be read, to evaluate on.

    An evaluation needs no training data, and a training without any stops when it loads them.

    Raises:
        InputError: if neither can be read.
    """
    errors = []
    for split in ("train", "test"):
        node = cfg.dataloader[split].dataset
        try:
            _register(node)
            names = node.names
            return class_names_of(names if isinstance(names, str) else next(iter(names)))
        except ValueError as error:
            errors.append(error)
    raise errors[0]


def fill_num_classes(cfg: DictConfig) -> None:
    """Set the model's number of classes, in place, where the config leaves it null.

    Raises:
        InputError: as :func:`class_names`.
    """
    for path in NUM_CLASSES_FIELDS:
        parent, _, key = f"model.{path}".rpartition(".")
        node = OmegaConf.select(cfg, parent)
        if isinstance(node, DictConfig) and key in node:
            if node[key] is None:
                node[key] = len(class_names(cfg))
            return


def _register(node: DictConfig) -> None:
    if _is_custom(node):
        parameters = inspect.signature(register_custom_dataset).parameters
        register_custom_dataset(**{key: node[key] for key in parameters if key in node})


def _is_custom(node: DictConfig) -> bool:
    target = node.get("_target_")
    return (locate(target) if isinstance(target, str) else target) is load_custom_dataset
