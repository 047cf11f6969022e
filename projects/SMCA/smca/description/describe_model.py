"""Between a LazyConfig and the description that a checkpoint carries."""

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from smca.version import __version__

from .allowed_targets import allow_targets_of
from .model_data import build_model_from_data, lazy_model_as_data
from .model_info import ModelInfo

_RESIZE = "dataloader.test.mapper.augmentations"


def model_info_from_lazy(
    cfg: DictConfig, *, config_name: str = "", class_names: Sequence[str] = ()
) -> ModelInfo:
    """Describe an experiment's model.

    Args:
        cfg: an experiment with ``model``, loaded from python; what its model is made of is trusted from here on.
            The sizes of test images are those of the first resizing of ``dataloader.test``, without one 800 and 1333.
        config_name: zoo name or file of the experiment.
        class_names: of classes 0 .. K-1.
    """
    model = lazy_model_as_data(cfg.model)
    allow_targets_of(model)
    sizes = {}
    for augmentation in OmegaConf.select(cfg, _RESIZE) or ():
        short, long = augmentation.get("short_edge_length"), augmentation.get("max_size")
        if short is not None and long is not None:
            sizes = {"min_size_test": _largest(short), "max_size_test": int(long)}
            break
    return ModelInfo(
        model=model,
        class_names=tuple(map(str, class_names)),
        config_name=config_name,
        versions=package_versions(),
        **sizes,
    )


def build_model_from_info(info: ModelInfo) -> nn.Module:
    """The described model, on the CPU, in evaluation mode, with weights as constructed.

    Raises:
        InputError: if the description names what no model here is made of (see
            :func:`~smca.description.allowed_targets.allow_target`), or its arguments do not fit.
    """
    return build_model_from_data(info.model).eval()


def package_versions() -> dict[str, str]:
    """Of what decides how a model computes."""
    try:
        detectron2 = metadata.version("detectron2")
    except metadata.PackageNotFoundError:
        import detectron2 as package

        detectron2 = package.__version__
    return {"smca": __version__, "torch": torch.__version__, "detectron2": detectron2}


def _largest(short_edge: Any) -> int:
    return int(short_edge if isinstance(short_edge, int) else max(short_edge))
