"""The ``model`` node of a LazyConfig as plain data, and back to a model after a look at what it names."""

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator
from typing import Any

from detectron2.config import instantiate
from detectron2.utils.registry import _convert_target_to_string
from omegaconf import DictConfig, OmegaConf
from torch import nn

from smca.errors import InputError
from smca.text import clip, printable

from .allowed_targets import check_targets


def lazy_model_as_data(model: DictConfig) -> dict:
    """A LazyConfig node as plain containers, interpolations resolved and every ``_target_`` a dotted name."""
    node = copy.deepcopy(model)
    _name_targets(node)
    return OmegaConf.to_container(node, resolve=True)


def build_model_from_data(model: dict) -> nn.Module:
    """Build what :func:`lazy_model_as_data` gave, on the CPU and in training mode.

    Raises:
        InputError: if it names what no model here is made of, or its arguments do not fit.
    """
    check_targets(model)
    built = build_part(model)
    if not isinstance(built, nn.Module):
        raise InputError(f"its config describes a {type(built).__name__}, not a model")
    return built


def build_part(value: Any) -> Any:
    """Build one node of a config that was checked; values that describe no call stay as they are.

    Raises:
        InputError: if a part does not take its arguments.
    """
    if isinstance(value, dict):
        value = DictConfig(value, flags={"allow_objects": True})
    try:
        with _said_once():
            return instantiate(value)
    except Exception as error:
        # A part may raise anything for arguments that make no sense.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"the model of its config cannot be built: {clip(printable(reason))}"
        ) from error


@contextlib.contextmanager
def _said_once() -> Iterator[None]:
    """Detectron2 logs a part that failed, for each part around it, before the sentence that says why."""
    logger = logging.getLogger("detectron2.config.instantiate")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _name_targets(node: Any) -> None:
    if isinstance(node, DictConfig):
        target = node.get("_target_")
        if isinstance(target, Callable):
            node._target_ = _convert_target_to_string(target)
    if OmegaConf.is_config(node):
        keys = list(node.keys()) if isinstance(node, DictConfig) else range(len(node))
        for key in keys:
            if not OmegaConf.is_interpolation(node, key):
                _name_targets(node[key])
