import difflib
from importlib import resources
from pathlib import Path

from detectron2.config import CfgNode, LazyConfig, instantiate
from omegaconf import DictConfig
from torch import nn

from smca.checkpoint import (
    build_model_from_info,
    load_initial_weights,
    read_model_file,
)
from smca.config import cfg_from_lazy

from .index import ZooEntry, all_entries, find_entry
from .weights import local_file

BASE_DIRECTORIES = ("common", "models")
"""Folders of shared parts, which are no experiments of their own."""

DATA_TEMPLATES = ("custom_coco", "custom_coco_small", "digits/custom_coco", "digits/fine_tune")
"""Experiments that lack the user's data, and with it the number of classes."""


def list_configs() -> list[str]:
    """Names of all experiments, such as "smca_r50_50ep" or "ablations/encoder_3multi", without ``DATA_TEMPLATES``."""
    root = _config_root()
    names = (path.relative_to(root).with_suffix("") for path in root.rglob("*.py"))
    return sorted(
        name.as_posix()
        for name in names
        if name.parts[0] not in BASE_DIRECTORIES
        and name.name != "__init__"
        and name.as_posix() not in DATA_TEMPLATES
    )


def get_config_file(name: str) -> str:
    """Path of an experiment's file.

    Raises:
        ValueError: if there is no such experiment, naming the nearest ones.
    """
    names = [*list_configs(), *DATA_TEMPLATES]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
        raise ValueError(f"no config named {name!r} in the model zoo; {hint}")
    return str(_config_root() / f"{name}.py")


def get_config(name: str) -> DictConfig:
    """The experiment's LazyConfig: model, dataloader, optimizer, lr_multiplier and train."""
    return LazyConfig.load(get_config_file(name))


def get_cfg(name: str, weights: str = "") -> CfgNode:
    """A CfgNode for Detectron2's ``DefaultPredictor`` and ``build_model``, derived from the LazyConfig.

    Args:
        name: an experiment.
        weights: checkpoint file of that model, or "smca://" and the name of published weights.
    """
    return cfg_from_lazy(get_config(name), name=name, weights=weights)


def get(name: str, trained: bool = False) -> nn.Module:
    """A model of the zoo, on the CPU and in training mode, as Detectron2's zoo returns it.

    Args:
        name: an experiment; with ``trained`` any name of an index of weights.
        trained: load its published weights.

    Raises:
        ValueError: with ``trained=True`` where none are published, or they cannot be fetched, or do not fit.
    """
    if not trained:
        return instantiate(get_config(name).model)
    entry = _published(name)
    path = local_file(entry)
    info = read_model_file(path).info
    if info is not None:
        model = build_model_from_info(info).train()
    elif entry.config:
        model = instantiate(get_config(entry.config).model)
    else:
        raise ValueError(f"{path} does not describe its model, and the index names no config of it")
    report = load_initial_weights(model, str(path), report=False)
    if report.misshapen or report.missing or report.unknown:
        first = (report.misshapen + report.missing + report.unknown)[0]
        raise ValueError(f"{path} does not fit the model of {name!r}, beginning with {first}")
    return model


def get_checkpoint_url(name: str) -> str:
    """Where trained weights are: an address, or the path of a file.

    Raises:
        ValueError: if none are published under the name.
    """
    return _published(name).url


def _published(name: str) -> ZooEntry:
    entries = all_entries()
    if name not in entries and not difflib.get_close_matches(name, entries):
        # An experiment that there is gets another answer than a name that there isn't.
        get_config_file(name)
    return find_entry(name)


def _config_root() -> Path:
    """``configs/`` of an installation (``smca.configs``) or, without one, of the source tree."""
    try:
        return Path(str(resources.files("smca.configs")))
    except ModuleNotFoundError:
        return Path(__file__).resolve().parents[4] / "configs"
