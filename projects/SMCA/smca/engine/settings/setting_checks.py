"""Types and ranges of an experiment's settings, looked at before anything is built, moved or written."""

from collections.abc import Iterable, Iterator
from typing import Any

from detectron2.engine import HookBase
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from smca.engine.services import check_services
from smca.errors import InputError
from smca.experiments.targets import check_arguments, check_targets_exist, find_target

from .fields import ALWAYS, ANYWHERE, MAY_BE_ABSENT, SWITCHED, TRAINING
from .kinds import Kind

_MISSING = object()


def check_settings(cfg: DictConfig, *, training: bool) -> None:
    """Look at every field that the engine or a part of the shipped models reads.

    Args:
        cfg: the experiment.
        training: whether it is to be trained, or evaluated only, which needs fewer of them.

    Raises:
        InputError: for the first that cannot be right: field, value, and what it may be.
    """
    kinds = {**ALWAYS, **(TRAINING if training else {})}
    _check_groups(cfg, [*kinds, *(SWITCHED if training else ())])
    for field, (switch, kind) in SWITCHED.items() if training else ():
        if OmegaConf.select(cfg, switch, default=False) is True:
            kinds[field] = kind
    for field, kind in kinds.items():
        value = _value(cfg, field)
        if value is not _MISSING:
            _check(field, value, kind)
        elif field.startswith("train.") and field not in MAY_BE_ABSENT:
            raise InputError(
                f"{field} is missing in this config: begin with the train of configs/common/train.py"
            )
    for part, by_name in ANYWHERE.items():
        for field, value in _leaves(cfg[part], part):
            kind = by_name.get(field.rpartition(".")[2])
            if kind is not None and (training or not field.startswith("dataloader.train.")):
                _check(field, value, kind)
    dataloader = {name: cfg.dataloader.get(name) for name in ("test", "evaluator")}
    parts = cfg if training else {"model": cfg.model, "dataloader": dataloader}
    check_targets_exist(parts)
    if training:
        _check_hooks(cfg.train.hooks)
        _check_early_stopping(cfg.train)
        check_services(list(cfg.train.writers))
    if training and cfg.train.epochs is None and cfg.train.max_iter is None:
        raise InputError(
            "train.epochs and train.max_iter are both null: set one of them, such as train.epochs=50"
        )


def _check_groups(cfg: DictConfig, fields: Iterable[str]) -> None:
    """What fields are read of is a group; parts of a model may be left out by a model of one's own."""
    groups: dict[str, list[str]] = {}
    for field in fields:
        if not field.startswith("model."):
            groups.setdefault(field.rpartition(".")[0], []).append(field)
    for group, names in groups.items():
        node, leaf = _holder(cfg, group)
        if node is None or OmegaConf.is_interpolation(node, leaf):
            continue
        raw = node._get_node(leaf)
        if not isinstance(raw, DictConfig) or raw._is_none():
            there = ", ".join(names[:3])
            raise InputError(
                f"{group}={_shown(node[leaf])}: it is a group of fields, set one of them ({there}, ...)"
            )


def _check_hooks(hooks: ListConfig) -> None:
    for index, hook in enumerate(hooks):
        if isinstance(hook, HookBase):
            continue
        target = find_target(hook["_target_"])
        if isinstance(target, type) and not issubclass(target, HookBase):
            raise InputError(
                f"train.hooks.{index}._target_={hook['_target_']} must be a detectron2.engine.HookBase"
            )
        check_arguments(hook, f"train.hooks.{index}")


def _check_early_stopping(train: DictConfig) -> None:
    evaluation = train.evaluation
    period = evaluation.period_epochs if evaluation.period is None else evaluation.period
    if train.early_stopping.patience is not None and not period:
        raise InputError(
            f"train.early_stopping.patience={train.early_stopping.patience} counts evaluations, but there is only the "
            "one at the end: set train.evaluation.period_epochs"
        )


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)


def _check(field: str, value: Any, kind: Kind) -> None:
    if not kind.holds(value):
        raise InputError(f"{field}={_shown(value)} must be {kind.words}")


def _value(cfg: DictConfig, field: str) -> Any:
    node, leaf = _holder(cfg, field)
    return _MISSING if node is None else _plain(node, leaf, field)


def _holder(cfg: DictConfig, field: str) -> tuple[DictConfig | None, str]:
    """The group that a field stands in, None without the field, and the field's last name."""
    *parents, leaf = field.split(".")
    node: Any = cfg
    for name in parents:
        node = node.get(name) if isinstance(node, DictConfig) else None
    return (node if isinstance(node, DictConfig) and leaf in node else None), leaf


def _plain(node: Any, key: Any, field: str) -> Any:
    try:
        value = node[key]
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException as error:
        raise InputError(f"{field} cannot be read: {str(error).splitlines()[0]}") from error


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
