import difflib
from importlib import resources
from pathlib import Path

from detectron2.config import CfgNode, LazyConfig, instantiate
from omegaconf import DictConfig
from torch import nn

from smca.config import cfg_from_lazy

BASE_DIRECTORIES = ("common", "models")
"""Folders of shared parts, which are no experiments of their own."""


def list_configs() -> list[str]:
    """Names of all experiments, such as "smca_r50_50ep" or "ablations/encoder_3multi"."""
    root = _config_root()
    names = (path.relative_to(root).with_suffix("") for path in root.rglob("*.py"))
    return sorted(
        name.as_posix()
        for name in names
        if name.parts[0] not in BASE_DIRECTORIES and name.name != "__init__"
    )


def get_config_file(name: str) -> str:
    """Path of an experiment's file.

    Raises:
        ValueError: if there is no such experiment, naming the nearest ones.
    """
    names = list_configs()
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
        weights: checkpoint file of that model.
    """
    return cfg_from_lazy(get_config(name), name=name, weights=weights)


def get(name: str, trained: bool = False) -> nn.Module:
    """The experiment's model, on the CPU and in training mode, as Detectron2's zoo returns it.

    Raises:
        ValueError: with ``trained=True`` where no checkpoint is published.
    """
    if trained:
        get_checkpoint_url(name)
    return instantiate(get_config(name).model)


def get_checkpoint_url(name: str) -> str:
    """Where the experiment's trained weights are.

    Raises:
        ValueError: while none are published, which is the case for every experiment today.
    """
    get_config_file(name)
    raise ValueError(
        f"no trained weights of {name!r} are published yet: train it with train_net.py, or convert a released "
        "checkpoint with smca.checkpoint.convert_released"
    )


def _config_root() -> Path:
    """``configs/`` of an installation (``smca.configs``) or, without one, of the source tree."""
    try:
        return Path(str(resources.files("smca.configs")))
    except ModuleNotFoundError:
        return Path(__file__).resolve().parents[4] / "configs"
