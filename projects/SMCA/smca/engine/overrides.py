import difflib
import inspect
from collections.abc import Sequence

from detectron2.utils.registry import locate
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Set fields from the command line, in place.

    ``key=value`` sets a field that exists, or a parameter of its parent's ``_target_``; ``+key=value`` adds any
    other. Values follow hydra's grammar.

    Raises:
        ValueError: for a key that is neither, naming the nearest ones, or an override that cannot be read.
    """
    for text in overrides:
        if text.startswith("--"):
            raise ValueError(
                f"{text} stands among the overrides: options go before the first key=value"
            )
        try:
            override = OverridesParser.create().parse_override(text)
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"cannot read the override {text!r}, write key=value: {reason}"
            ) from error
        if override.is_delete():
            raise ValueError(
                f"override {text!r}: fields cannot be deleted, set them to null instead"
            )
        if override.is_sweep_override():
            raise ValueError(f"override {text!r}: give one value, or a list as key=[a,b]")
        key = override.key_or_group
        _check_key(cfg, key, override.is_add())
        value = override.value()
        _check_kind(cfg, key, value)
        OmegaConf.update(cfg, key, value, merge=True, force_add=True)
    return cfg


def _check_key(cfg: DictConfig, key: str, adding: bool) -> None:
    *parents, leaf = key.split(".")
    node = cfg
    for depth, part in enumerate(parents):
        names = [str(i) for i in (node if isinstance(node, DictConfig) else range(len(node)))]
        if adding and part not in names:
            return
        if part not in _known_names(node):
            raise ValueError(_unknown(key, parents[:depth], part, node))
        node = node[part if isinstance(node, DictConfig) else int(part)] if part in names else None
        if not OmegaConf.is_config(node):
            raise ValueError(
                f"override {key}: {'.'.join(parents[: depth + 1])} is no group of fields but {node!r}"
            )
    if not adding and leaf not in _known_names(node):
        raise ValueError(_unknown(key, parents, leaf, node))


def _check_kind(cfg: DictConfig, key: str, value: object) -> None:
    """A group may be replaced by another or, below the top level, by nothing, but not by a number or a word."""
    if not isinstance(OmegaConf.select(cfg, key), DictConfig) or isinstance(value, dict):
        return
    if value is not None or "." not in key:
        names = ", ".join(f"{key}.{name}" for name in list(OmegaConf.select(cfg, key))[:3])
        raise ValueError(f"override {key}: it is a group of fields, set one of them ({names}, ...)")


def _known_names(node) -> list[str]:
    if not isinstance(node, DictConfig):
        return [str(i) for i in range(len(node))]
    names = [str(k) for k in node]
    target = node.get("_target_")
    if isinstance(target, str):
        target = locate(target)
    if callable(target):
        try:
            parameters = inspect.signature(target).parameters.values()
        except ValueError:  # builtins without a signature
            return names
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names += [p.name for p in parameters if p.kind in named]
    return names


def _unknown(key: str, parents: list[str], part: str, node) -> str:
    prefix = "".join(f"{p}." for p in parents)
    names = [name for name in _known_names(node) if name != "_target_"]
    near = difflib.get_close_matches(part, names, n=1, cutoff=0.4)
    hint = (
        f"the nearest is {prefix}{near[0]}"
        if near
        else f"there are {', '.join(sorted(set(names)))}"
    )
    return f"override {key}: there is no field {prefix}{part}; {hint} (write +{key}=... to add it)"
