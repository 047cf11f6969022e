"""Whether a checkpoint's model is the one of an experiment, but for its classes."""

import copy
import logging
from collections.abc import Iterator
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from smca.checkpoint import ModelInfo
from smca.checkpoint.loading.load_report import fit
from smca.description.model_data import build_model_from_data, lazy_model_as_data
from smca.description.model_fields import NUM_CLASSES_FIELDS, find_field, num_classes_of
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
    model = copy.deepcopy(model)
    count, field = num_classes_of(described), find_field(model, NUM_CLASSES_FIELDS)
    if count is not None and field is not None:
        owner, key = field
        owner[key] = count
    return lazy_model_as_data(model)


def _first_difference(own: dict, given: dict) -> str | None:
    theirs = dict(_unseen(given))
    for field, value in _unseen(own):
        other = theirs.get(field, value)
        if other != value and not _are_same_blocks(field, other, value):
            return f"model.{field} is {clip(printable(str(other)), 100)}, not {value}"
    return fit(_state(own), _state(given))[1].misfit()


def _unseen(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items() if isinstance(node, dict) else ():
        if isinstance(value, dict):
            yield from _unseen(value, f"{path}{key}.")
        elif key in _UNSEEN:
            yield f"{path}{key}", value


def _are_same_blocks(field: str, one: Any, other: Any) -> bool:
    return field == "encoder.blocks" and parse_blocks(one) == parse_blocks(other)


def _state(model: dict) -> dict[str, Tensor]:
    # Shapes are all that is compared, so no memory is taken.
    with torch.device("meta"):
        return build_model_from_data(model).state_dict()
