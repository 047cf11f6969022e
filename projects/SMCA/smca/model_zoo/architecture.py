"""Whether a checkpoint's model is the one of an experiment, but for its classes."""

import copy
import logging
from collections.abc import Iterator
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from smca.checkpoint import ModelInfo
from smca.config import NUM_CLASSES_FIELDS
from smca.model_data import build_model_from_data, lazy_model_as_data
from smca.modeling.encoder import parse_blocks
from smca.text import clip, printable

logger = logging.getLogger(__name__)

_UNSEEN = (
    "_target_", "base_side", "blocks", "dilate_res5", "num_heads", "num_points", "position_shift", "pre_norm", "scale",
    "scale_selection",
)  # fmt: skip
"""Fields that decide what is computed, and that the shapes of weights need not show."""


def warn_of_another_architecture(
    name: str, model: DictConfig, weights: str, info: ModelInfo
) -> None:
    """Say in a log how the model that a checkpoint describes, which is taken, differs from the named experiment's.

    It may be meant: a training whose fields were overridden has the experiment's name only.

    Args:
        name: of the experiment.
        model: its ``model`` node; of no fixed number of classes if it takes that from data.
        weights: name of the checkpoint.
        info: what the checkpoint says about its model, of which all targets are known to be harmless.
    """
    own = _with_classes_of(model, info.model)
    difference = _first_difference(own, info.model)
    if difference is not None:
        said = f", they are of {info.config_name}" if info.config_name else ""
        logger.warning(
            f"weights {weights} are of another model than {name}{said}: {difference}; the model that they describe is "
            "taken, not the named one"
        )


def _with_classes_of(model: DictConfig, described: dict) -> dict:
    """The experiment's model as plain data, with the number of classes of another."""
    model, described = copy.deepcopy(model), OmegaConf.create(described)
    for path in NUM_CLASSES_FIELDS:
        count = OmegaConf.select(described, path)
        *parents, leaf = path.split(".")
        owner = OmegaConf.select(model, ".".join(parents)) if parents else model
        if count is not None and isinstance(owner, DictConfig) and leaf in owner:
            owner[leaf] = count
    return lazy_model_as_data(model)


def _first_difference(own: dict, given: dict) -> str | None:
    theirs = dict(_unseen(given))
    for field, value in _unseen(own):
        other = theirs.get(field, value)
        if other != value and not _are_same_blocks(field, other, value):
            return f"model.{field} is {clip(printable(str(other)), 100)}, not {value}"
    shapes, others = _shapes(own), _shapes(given)
    for tensor, shape in shapes.items():
        other = others.get(tensor)
        if other is None:
            return f"it has no {tensor}"
        if other != shape:
            return f"{tensor} is {list(other)}, not {list(shape)}"
    extra = next((tensor for tensor in others if tensor not in shapes), None)
    return None if extra is None else f"it has {extra}, too"


def _unseen(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items() if isinstance(node, dict) else ():
        if isinstance(value, dict):
            yield from _unseen(value, f"{path}{key}.")
        elif key in _UNSEEN:
            yield f"{path}{key}", value


def _are_same_blocks(field: str, one: Any, other: Any) -> bool:
    return field == "encoder.blocks" and parse_blocks(one) == parse_blocks(other)


def _shapes(model: dict) -> dict[str, torch.Size]:
    # Shapes are all that is compared, so no memory is taken.
    with torch.device("meta"):
        state = build_model_from_data(model).state_dict()
    # Another kind of norm counts its batches, which nothing is computed from.
    return {n: t.shape for n, t in state.items() if not n.endswith("num_batches_tracked")}
