"""Fields of a config set from the command line."""

import difflib
import inspect
import re
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from smca.errors import InputError

from .targets import find_target

_SYNONYMS = {
    "batch_size": "total_batch_size",
    "bs": "total_batch_size",
    "ims_per_batch": "total_batch_size",
    "base_lr": "lr",
    "learning_rate": "lr",
    "wd": "weight_decay",
    "iterations": "max_iter",
    "iters": "max_iter",
    "max_iters": "max_iter",
    "steps": "max_iter",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "weights": "init_checkpoint",
    "checkpoint": "init_checkpoint",
    "output": "output_dir",
    "workers": "num_workers",
    "classes": "num_classes",
    "queries": "num_queries",
    "gpu": "device",
    "eval_period": "evaluation.period",
    "checkpoint_period": "checkpointer.period",
}
"""What people write, and the end of the name that a field of that meaning has here."""


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Set fields from the command line, in place.

    ``key=value`` sets a field that exists, or a parameter of its parent's ``_target_``; ``+key=value`` adds any
    other that something reads. Values follow hydra's grammar.

    Raises:
        InputError: for a key that is neither, naming the nearest ones, or an override that cannot be read.
    """
    added = []
    for text in overrides:
        if text.startswith("--"):
            raise InputError(
                f"{text} stands among the overrides: options go before the first key=value"
            )
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"cannot read the override {text!r}, write key=value: {reason}"
            ) from error
        if override.is_delete():
            raise InputError(
                f"override {text!r}: fields cannot be deleted, set them to null instead"
            )
        if override.is_sweep_override():
            raise InputError(f"override {text!r}: give one value, or a list as key=[a,b]")
        key = override.key_or_group
        _check_key(cfg, key, override.is_add())
        value = override.value()
        _check_kind(cfg, key, value)
        if override.is_add() and not _exists(cfg, key):
            added.append(key)
        OmegaConf.update(cfg, key, value, merge=True, force_add=True)
    for key in added:
        _check_is_read(cfg, key)
    return cfg


def _check_key(cfg: DictConfig, key: str, adding: bool) -> None:
    *parents, leaf = key.split(".")
    node = cfg
    for depth, part in enumerate(parents):
        names = [str(i) for i in (node if isinstance(node, DictConfig) else range(len(node)))]
        if adding and part not in names:
            return
        if part not in _known_names(node):
            raise InputError(_unknown(cfg, key, parents[:depth], part, node))
        node = node[part if isinstance(node, DictConfig) else int(part)] if part in names else None
        if not OmegaConf.is_config(node):
            raise InputError(
                f"override {key}: {'.'.join(parents[: depth + 1])} is no group of fields but {node!r}"
            )
    if not adding and leaf not in _known_names(node):
        raise InputError(_unknown(cfg, key, parents, leaf, node))


def _exists(cfg: DictConfig, key: str) -> bool:
    return any(field == key or field.startswith(f"{key}.") for field, _, _ in _fields(cfg))


def _check_is_read(cfg: DictConfig, key: str) -> None:
    """A field that was added is an argument of some part, or another field refers to it; else it would do nothing."""
    if _is_argument(cfg, key):
        return
    for other in _referred_to(cfg):
        if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."):
            return
    own_data = "; data of your own is for configs/custom_coco.py and configs/digits/custom_coco.py"
    raise InputError(
        f"override +{key}: nothing in this config reads {key}, so it would have no effect"
        f"{own_data if key.startswith('data.') else ''}"
    )


def _is_argument(cfg: DictConfig, key: str) -> bool:
    """Whether a field is, or is part of, an argument of something that is built."""
    node = cfg
    for part in key.split(".")[:-1]:
        node = node.get(part) if isinstance(node, DictConfig) else None
        if isinstance(node, DictConfig) and "_target_" in node:
            return True
        if OmegaConf.is_list(node):
            return True
    return False


def _referred_to(cfg: DictConfig) -> Iterator[str]:
    """Fields that interpolations name, from the top."""
    for field, node, key in _fields(cfg):
        if not OmegaConf.is_interpolation(node, key):
            continue
        text = str(OmegaConf.to_container(node, resolve=False)[key])
        for dots, name in re.findall(r"\$\{(\.*)([^{}:]+)\}", text):
            base = field.split(".")[: -len(dots)] if dots else []
            yield ".".join([*base, name])


def _fields(cfg: DictConfig) -> Iterator[tuple[str, object, object]]:
    """(path, container, key) of every field that is no group."""
    waiting = [("", cfg)]
    while waiting:
        prefix, node = waiting.pop()
        for key in node if isinstance(node, DictConfig) else range(len(node)):
            path = f"{prefix}{key}"
            child = node._get_node(key)
            if OmegaConf.is_config(child) and not (child._is_none() or child._is_interpolation()):
                waiting.append((f"{path}.", child))
            else:
                yield path, node, key


def _check_kind(cfg: DictConfig, key: str, value: object) -> None:
    """A group may be replaced by another or, below the top level, by nothing, but not by a number or a word."""
    if not isinstance(OmegaConf.select(cfg, key), DictConfig) or isinstance(value, dict):
        return
    if value is not None or "." not in key:
        names = ", ".join(f"{key}.{name}" for name in list(OmegaConf.select(cfg, key))[:3])
        raise InputError(f"override {key}: it is a group of fields, set one of them ({names}, ...)")


def _known_names(node) -> list[str]:
    if not isinstance(node, DictConfig):
        return [str(i) for i in range(len(node))]
    names = [str(k) for k in node]
    try:
        parameters = inspect.signature(find_target(node.get("_target_"))).parameters.values()
    except ValueError:
        # No part, one of a wrong name, which is told when all fields are set, or a builtin without a signature.
        return names
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return names + [p.name for p in parameters if p.kind in named]


def _unknown(cfg: DictConfig, key: str, parents: list[str], part: str, node) -> str:
    prefix = "".join(f"{p}." for p in parents)
    names = [name for name in _known_names(node) if name != "_target_"]
    near = difflib.get_close_matches(part, names, n=1, cutoff=0.7)
    elsewhere = _of_this_name(cfg, key)
    looser = difflib.get_close_matches(part, names, n=1, cutoff=0.4)
    if near:
        hint = f"the nearest is {prefix}{near[0]}"
    elif elsewhere:
        hint = f"is it {' or '.join(elsewhere)}?"
    elif looser:
        hint = f"the nearest is {prefix}{looser[0]}"
    else:
        hint = f"there are {', '.join(sorted(set(names)))}"
    can_add = f" (write +{key}=... to add it)" if _is_argument(cfg, key) else ""
    return f"override {key}: there is no field {prefix}{part}; {hint}{can_add}"


def _of_this_name(cfg: DictConfig, key: str, most: int = 3) -> list[str]:
    """Fields anywhere that end as the key does, or as what it may mean."""
    leaf = key.rpartition(".")[2]
    fields = [
        path for path, node, name in _fields(cfg) if not OmegaConf.is_interpolation(node, name)
    ]
    for wanted in (_SYNONYMS.get(leaf.lower()), leaf):
        found = [path for path in fields if wanted and f".{path}".endswith(f".{wanted}")]
        if found:
            # The shortest are the ones that people set.
            return sorted(found, key=lambda path: (path.count("."), path))[:most]
    return []
