"""Types and ranges of an experiment's settings, looked at before anything is built, moved or written."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .precision import DTYPES

_MISSING = object()


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a field may hold, in words and as a question."""

    words: str
    holds: Callable[[Any], bool]

    def or_null(self) -> "Kind":
        return Kind(f"{self.words}, or null", lambda value: value is None or self.holds(value))

    def or_list(self) -> "Kind":
        """One of them, or a list of at least one."""
        return Kind(
            f"{self.words}, or a list of such",
            lambda value: (
                all(map(self.holds, value)) and bool(value)
                if isinstance(value, list)
                else self.holds(value)
            ),
        )


def whole(least: int, most: float = math.inf) -> Kind:
    limit = f"at least {least}" if most == math.inf else f"{least} to {most}"
    return Kind(
        f"a whole number, {limit}",
        lambda value: type(value) is int and least <= value <= most,
    )


def number(least: float = -math.inf, below: float = math.inf, *, above: bool = False) -> Kind:
    """At least ``least``, or ``above`` it, and less than ``below``."""
    words = "a number" if least == -math.inf else f"a number {'above' if above else 'from'} {least}"
    words += "" if below == math.inf else f" and below {below}"

    def holds(value: Any) -> bool:
        if type(value) not in (int, float) or not math.isfinite(value):
            return False
        return (value > least if above else value >= least) and value < below

    return Kind(words, holds)


def one_of(*values: Any) -> Kind:
    words = ", ".join("null" if value is None else str(value) for value in values[:-1])
    return Kind(
        f"{words} or {values[-1]}",
        lambda value: any(value is v or (type(value) is str and value == v) for v in values),
    )


def list_of(kind: Kind, words: str, length: int | None = None) -> Kind:
    return Kind(
        words,
        lambda value: (
            isinstance(value, list) and length in (None, len(value)) and all(map(kind.holds, value))
        ),
    )


LIST = Kind("a list", lambda value: isinstance(value, list))
FLAG = Kind("True or False", lambda value: type(value) is bool)
TEXT = Kind("a word", lambda value: type(value) is str)
PATH = Kind("a path", lambda value: type(value) is str and bool(value.strip()))
COUNT, SIZE, RATE = whole(0), whole(1), number(0)
SHARE = number(0, 1)
WHERE = Kind(
    "a share above 0 and up to 1", lambda value: number(0, above=True).holds(value) and value <= 1
)

ALWAYS = {
    "train.output_dir": PATH,
    "train.init_checkpoint": TEXT.or_null(),
    "train.device": TEXT,
    # numpy's generators take no more, and ranks count up from it.
    "train.seed": whole(0, 2**31),
    "dataloader.test.batch_size": SIZE,
    "dataloader.test.num_workers": COUNT,
}  # fmt: skip
"""Field -> what it may hold, also for an evaluation."""

TRAINING = {
    "train.epochs": number(0, above=True).or_null(),
    "train.max_iter": SIZE.or_null(),
    "train.clip_grad_norm": RATE,
    "train.accumulate_steps": SIZE,
    "train.lr_scaling.rule": one_of(None, "linear", "sqrt"),
    "train.lr_scaling.reference_batch_size": SIZE,
    "train.amp.enabled": FLAG,
    "train.ema.enabled": FLAG,
    "train.skip_nonfinite": COUNT.or_null(),
    "train.log_period": SIZE,
    "train.checkpointer.period_epochs": RATE,
    "train.checkpointer.period": COUNT.or_null(),
    # Or nothing is left if the newest is damaged.
    "train.checkpointer.max_to_keep": whole(2).or_null(),
    "train.evaluation.period_epochs": RATE,
    "train.evaluation.period": COUNT.or_null(),
    "train.evaluation.metric": TEXT.or_null(),
    "train.ddp.broadcast_buffers": FLAG,
    "train.ddp.find_unused_parameters": FLAG,
    "train.hooks": LIST,
    "dataloader.train.total_batch_size": SIZE,
    "dataloader.train.num_workers": COUNT,
    "dataloader.train.seed": whole(0, 2**31),
    "optimizer.lr": RATE,
    "optimizer.weight_decay": RATE,
    "optimizer.betas": list_of(SHARE, "two numbers from 0 and below 1, such as [0.9,0.999]", 2),
    "optimizer.eps": RATE,
    "optimizer.momentum": SHARE,
    "optimizer.params.backbone_lr": RATE,
    "lr_multiplier.drop_at": list_of(
        WHERE, "a list of shares of the training, above 0 and up to 1, such as [0.8]"
    ),
    "lr_multiplier.drop_epochs": list_of(RATE, "a list of epochs, such as [40]").or_null(),
    "lr_multiplier.gamma": RATE,
    "lr_multiplier.warmup_iterations": COUNT,
    "lr_multiplier.warmup_factor": number(0),
}
"""As above, of what only a training reads."""

SWITCHED = {
    "train.amp.dtype": ("train.amp.enabled", one_of(*DTYPES)),
    "train.ema.decay": ("train.ema.enabled", SHARE),
}
"""What may say anything while the field that it belongs to is false."""

ANYWHERE = {
    "model": {
        "num_classes": SIZE.or_null(),
        "num_queries": SIZE,
        "num_layers": SIZE,
        "num_heads": SIZE,
        "num_levels": SIZE,
        "embed_dim": SIZE,
        "ffn_dim": SIZE,
        "depth": SIZE,
        "freeze_at": COUNT,
        "stem_channels": SIZE,
        "in_channels": SIZE.or_list(),
        "in_strides": SIZE.or_list(),
        "strides": SIZE.or_list(),
        "dropout": SHARE,
        "prior_probability": Kind(
            "a number above 0 and below 1", number(0, 1, above=True).holds
        ),
        "size_reference": number(0, above=True).or_null(),
        "max_detections": SIZE,
        "class_weight": RATE,
        "box_weight": RATE,
        "giou_weight": RATE,
        "beta": number(),
        "pixel_mean": list_of(number(), "three numbers", 3),
        "pixel_std": list_of(number(0, above=True), "three numbers above 0", 3),
        "activation_checkpointing": FLAG,
        "isolate_images": FLAG,
        "per_head": FLAG,
        "scale_selection": FLAG,
        "share_attention": FLAG,
        "share_ffn": FLAG,
        "share_key_value": FLAG,
        "dilate_res5": FLAG,
    },
    "dataloader": {
        "short_edge_length": SIZE.or_list(),
        "max_size": SIZE,
        "prob": Kind("a number from 0 to 1", lambda v: number(0).holds(v) and v <= 1),
        "filter_empty": FLAG,
        "names": Kind("a name of a data set", PATH.holds).or_list(),
        "augmentations": LIST,
    },
}  # fmt: skip
"""Fields by their last name, wherever they stand below these."""


def check_settings(cfg: DictConfig, *, training: bool) -> None:
    """Look at every field that the engine or a part of the shipped models reads.

    Args:
        cfg: the experiment.
        training: whether it is to be trained, or evaluated only, which needs fewer of them.

    Raises:
        ValueError: for the first that cannot be right: field, value, and what it may be.
    """
    kinds = {**ALWAYS, **(TRAINING if training else {})}
    for field, (switch, kind) in SWITCHED.items() if training else ():
        if OmegaConf.select(cfg, switch, default=False) is True:
            kinds[field] = kind
    for field, kind in kinds.items():
        value = _value(cfg, field)
        if value is not _MISSING:
            _check(field, value, kind)
        elif field.startswith("train."):
            raise ValueError(
                f"{field} is missing in this config: begin with the train of configs/common/train.py"
            )
    for part, by_name in ANYWHERE.items():
        for field, value in _leaves(cfg[part], part):
            kind = by_name.get(field.rpartition(".")[2])
            if kind is not None and (training or not field.startswith("dataloader.train.")):
                _check(field, value, kind)
    if training and cfg.train.epochs is None and cfg.train.max_iter is None:
        raise ValueError(
            "train.epochs and train.max_iter are both null: set one of them, such as train.epochs=50"
        )


def _check(field: str, value: Any, kind: Kind) -> None:
    if not kind.holds(value):
        shown = "null" if value is None else repr(value)
        raise ValueError(f"{field}={shown} must be {kind.words}")


def _value(cfg: DictConfig, field: str) -> Any:
    *parents, leaf = field.split(".")
    node: Any = cfg
    for name in parents:
        node = node.get(name) if isinstance(node, DictConfig) else None
    if not isinstance(node, DictConfig) or leaf not in node:
        return _MISSING
    return _plain(node, leaf, field)


def _plain(node: Any, key: Any, field: str) -> Any:
    try:
        value = node[key]
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException as error:
        raise ValueError(f"{field} cannot be read: {str(error).splitlines()[0]}") from error


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, value) of everything that is no group; a list of numbers or words is one value."""
    for key in node if isinstance(node, DictConfig) else range(len(node)):
        field = f"{path}.{key}"
        raw = None if OmegaConf.is_interpolation(node, key) else node._get_node(key)
        if _has_fields(raw):
            yield from _leaves(raw, field)
        else:
            yield field, _plain(node, key, field)


def _has_fields(node: Any) -> bool:
    if not OmegaConf.is_config(node) or node._is_none():
        return False
    return isinstance(node, DictConfig) or any(map(OmegaConf.is_config, node))
