"""What a run was started with, compared with what it is resumed with."""

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig, OmegaConf

logger = logging.getLogger(__name__)

CONFIG = "config.yaml"

_FREE = (
    "train.output_dir",
    "train.device",
    "train.log_period",
    "train.checkpointer.",
    "train.evaluation.",
)
"""Settings that a training does not depend on, and those of how often it does something."""
_IDENTITY = ("model.", "dataloader.train.dataset.names")
_CHANGEABLE = ("model.criterion.", "model.postprocessor.")
"""Of the model, what may be changed on the way."""


def set_up_output(cfg: DictConfig, args: argparse.Namespace, *, keep_config: bool) -> None:
    """Loggers and the config in the output directory, as Detectron2 does it.

    Args:
        keep_config: leave the config of the run that is there, which is resumed or evaluated.
    """
    path = Path(cfg.train.output_dir) / CONFIG
    before = path.read_bytes() if keep_config and path.is_file() else None
    default_setup(cfg, args)
    if before is not None and comm.is_main_process():
        path.write_bytes(before)
    setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="smca")


def compare_with_start(cfg: DictConfig) -> list[str]:
    """How ``cfg`` differs from the start of the run in its output directory, a sentence per field.

    Raises:
        ValueError: for another model or data set, with which the run would not be the same any more.
    """
    path = Path(cfg.train.output_dir) / CONFIG
    try:
        before = _flat(OmegaConf.load(path))
    except FileNotFoundError:
        return [f"{path} is gone, so what the run was started with is not known"]
    except Exception as error:
        reason = str(error).partition("\n")[0]
        return [f"{path} cannot be read ({reason}), so what the run was started with is not known"]
    now = _flat(_as_written(cfg))
    different = {
        key: (before.get(key), now.get(key))
        for key in sorted(before.keys() | now.keys())
        # A field that came with a later version has its default in both.
        if key in before and before.get(key) != now.get(key)
        if not key.startswith(_FREE)
        and not key.endswith((".num_workers", ".activation_checkpointing"))
    }
    for key, (old, new) in different.items():
        if key.startswith(_IDENTITY) and not key.startswith(_CHANGEABLE):
            raise ValueError(
                f"--resume: {key} is {new!r}, but the run in {cfg.train.output_dir} was started with {old!r}; resume "
                f"with that, or start another run from its weights with train.init_checkpoint and another "
                "train.output_dir"
            )
    return [_sentence(key, *values) for key, values in different.items()]


def record_resumption(cfg: DictConfig) -> None:
    """Leave a config that differs beside that of the start, which stays, as config_resumed_N.yaml."""
    folder = Path(cfg.train.output_dir)
    number = 1 + len(list(folder.glob("config_resumed_*.yaml")))
    LazyConfig.save(cfg, str(folder / f"config_resumed_{number}.yaml"))


def _sentence(key: str, old: Any, new: Any) -> str:
    counts = "the new value counts from here on"
    if key.startswith("optimizer."):
        counts = "the checkpoint's counts; a run of its own, with train.init_checkpoint, would take the new one"
    return f"{key} was {old!r} at the start and is {new!r} now: {counts}"


def _as_written(cfg: DictConfig) -> DictConfig:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CONFIG
        LazyConfig.save(cfg, str(path))
        return OmegaConf.load(path)


def _flat(cfg: DictConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(prefix: str, node: Any) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                visit(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            found[prefix] = node

    visit("", OmegaConf.to_container(cfg, resolve=False))
    return found
