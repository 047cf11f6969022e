"""What ``_target_`` of a config's parts names, looked for before anything is built."""

import difflib
import importlib
import inspect
import pydoc
from collections.abc import Iterator
from typing import Any

from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig, OmegaConf

from smca.errors import InputError

_FAILED = (ImportError, AttributeError, ValueError, pydoc.ErrorDuringImport)
"""What importing by name raises where there is nothing of that name, or its module fails."""


def find_target(target: Any) -> Any:
    """What a ``_target_`` names; a callable that a LazyConfig holds itself.

    Raises:
        InputError: if there is nothing of that name, or it cannot be called; the words behind the field's name.
    """
    if isinstance(target, str):
        try:
            found = locate(target)
        except _FAILED as error:
            raise InputError(_why_not(target, error)) from error
    else:
        found = target
    if not callable(found):
        raise InputError(
            "cannot be called: it must name a class or function, such as torch.optim.AdamW"
        )
    return found


def check_targets_exist(parts: DictConfig | ListConfig | dict, path: str = "") -> None:
    """Refuse parts of a config whose ``_target_`` names nothing.

    Args:
        parts: of a config, by name.
        path: of ``parts`` itself, for the message.

    Raises:
        InputError: for the first ``_target_`` that names nothing.
    """
    for field, target in _targets(parts, path):
        try:
            find_target(target)
        except InputError as error:
            raise InputError(f"{field}={target} {error}") from error


def check_arguments(node: DictConfig, field: str) -> None:
    """Refuse a part with an argument that it does not take, or without one that it needs.

    Args:
        node: a part by its ``_target_``, of which nothing is built here.
        field: its name.

    Raises:
        InputError: if the part does not take its arguments, or lacks one.
    """
    try:
        signature = inspect.signature(find_target(node["_target_"]))
    except ValueError:
        # A builtin without one.
        return
    try:
        signature.bind(**{str(name): None for name in node if name != "_target_"})
    except TypeError as error:
        raise InputError(f"{field} ({node['_target_']}) cannot be built: {error}") from error


def _targets(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    for key in range(len(node)) if isinstance(node, ListConfig) else node:
        field = f"{path}.{key}" if path else str(key)
        if not OmegaConf.is_config(node):
            child = node[key]
        elif OmegaConf.is_interpolation(node, key):
            # What it refers to is met in its own place.
            continue
        else:
            child = node._get_node(key)
        if key == "_target_":
            yield field, node[key]
        elif (OmegaConf.is_config(child) and not child._is_none()) or isinstance(child, dict):
            yield from _targets(child, field)


def _why_not(name: str, error: Exception) -> str:
    if isinstance(error, pydoc.ErrorDuringImport):
        return f"cannot be imported: {str(error).splitlines()[0]}"
    near = _nearest(name)
    hint = f"; the nearest is {near}" if near else ""
    return f"names nothing that can be imported{hint}"


def _nearest(name: str) -> str | None:
    """The same name with its first wrong part replaced by one that is there."""
    parts = name.split(".")
    owner = None
    for depth, part in enumerate(parts):
        path = ".".join(parts[: depth + 1])
        inner = getattr(owner, part, None)
        if inner is None:
            try:
                inner = importlib.import_module(path)
            except _FAILED:
                break
        owner = inner
    else:
        return None
    if owner is None:
        return None
    # What differs in capitals only is nearer than any other.
    public = [name for name in dir(owner) if not name.startswith("_")]
    # Of "neck" and "Neck" the class is meant.
    names = {n.lower(): n for n in sorted(public, key=lambda n: callable(getattr(owner, n, None)))}
    near = difflib.get_close_matches(parts[depth].lower(), names, n=1, cutoff=0.7)
    return ".".join([*parts[:depth], names[near[0]]]) if near else None
