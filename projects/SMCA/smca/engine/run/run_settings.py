"""What a run was started with, compared with what it is resumed with."""

import tempfile
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf

from smca.description.model_upgrade import up_to_date
from smca.errors import InputError

CONFIG = "config.yaml"

_FREE = (
    "train.output_dir",
    "train.device",
    "train.log_period",
    "train.report",
    "train.writers",
    "train.checkpointer.",
    "train.evaluation.",
)
"""Settings that a training does not depend on, and those of how often it does something."""
_IDENTITY = ("model.", "dataloader.train.dataset.names", "data.train_split")
_CHANGEABLE = ("model.criterion.", "model.postprocessor.")
"""Of the model, what may be changed on the way."""
_TRAINING_JSON = "data.train_json"
_IN_CHECKPOINT = ("optimizer.", "train.lr_scaling.")
"""What the optimizer's state in a checkpoint brings along."""


def record_start(cfg: DictConfig) -> None:
    """Leave what a run is started with in its output directory, for its readers and for when it is resumed."""
    LazyConfig.save(cfg, str(Path(cfg.train.output_dir) / CONFIG))


def compare_with_start(cfg: DictConfig) -> list[str]:
    """How ``cfg`` differs from the start of the run in its output directory, a sentence per field.

    Raises:
        InputError: for another model or data set, with which the run would not be the same any more.
    """
    path = Path(cfg.train.output_dir) / CONFIG
    try:
        before = OmegaConf.to_container(OmegaConf.load(path))
        before["model"] = up_to_date(before.get("model"))
        before = _flat(OmegaConf.create(before))
        now = _flat(OmegaConf.create(as_text(cfg)))
    except FileNotFoundError:
        return [f"{path} is gone, so what the run was started with is not known"]
    except Exception as error:
        reason = str(error).partition("\n")[0]
        return [f"{path} cannot be read ({reason}), so what the run was started with is not known"]
    different = {
        key: (before.get(key), now.get(key))
        for key in sorted(before.keys() | now.keys())
        # A field that came with a later version has its default in both.
        if key in before and before.get(key) != now.get(key)
        if not key.startswith(_FREE)
        and not key.endswith((".num_workers", ".activation_checkpointing"))
    }
    for key, (old, new) in different.items():
        is_identity = key.startswith(_IDENTITY) and not key.startswith(_CHANGEABLE)
        if is_identity or (key == _TRAINING_JSON and _is_other_content(old, new)):
            raise InputError(
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
    if key.startswith(_IN_CHECKPOINT):
        counts = "the checkpoint's counts; a run of its own, with train.init_checkpoint, would take the new one"
    elif key == "train.init_checkpoint":
        counts = "neither is read, the run goes on with its own weights"
    return f"{key} was {old!r} at the start and is {new!r} now: {counts}"


def _is_other_content(old: Any, new: Any) -> bool:
    """Whether a file is another one, and not the same that was moved or copied."""
    try:
        return Path(old).read_bytes() != Path(new).read_bytes()
    except (OSError, TypeError):
        # The old one is gone, so it may have been moved.
        return False


def as_text(cfg: DictConfig) -> str:
    """What ``LazyConfig.save`` writes; nothing for a config that yaml cannot hold."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CONFIG
        LazyConfig.save(cfg, str(path))
        return path.read_text() if path.is_file() else ""


def _flat(cfg: DictConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(prefix: str, node: Any) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                visit(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            found[prefix] = node

    content = OmegaConf.to_container(cfg, resolve=False)
    if isinstance(cfg.get("model"), DictConfig):
        # Where a part refers to another field an earlier version may have written the value.
        content["model"] = OmegaConf.to_container(cfg.model, resolve=True)
    visit("", content)
    return found
