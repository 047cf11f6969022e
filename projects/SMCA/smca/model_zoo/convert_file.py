"""Checkpoint files of other projects into ours, and ours into theirs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from smca.checkpoint.conversion.class_columns import with_category_id_columns
from smca.checkpoint.conversion.coco_categories import COCO_CATEGORY_IDS
from smca.checkpoint.conversion.convert_released import convert_released, convert_to_released
from smca.checkpoint.loading.initial_weights import convert_resnet
from smca.checkpoint.reading.model_file import CONVERTED_KEY
from smca.checkpoint.state_dict_file import check_writable, read_state_dict, write_checkpoint
from smca.description.model_fields import num_classes_of
from smca.errors import InputError
from smca.experiments import load_experiment

Kind = Literal["released detector", "torchvision ResNet", "detector of this project"]


@dataclass(frozen=True)
class Conversion:
    """
    Attributes:
        kind: what the file held.
        state_dict: the result, by name.
        left_out: tensors that have no place in the result: a ResNet's classifier.
        batch_counters: number of ``num_batches_tracked`` tensors left out.
    """

    kind: Kind
    state_dict: dict[str, Tensor]
    left_out: list[str]
    batch_counters: int


def convert_file(
    source: str | Path,
    target: str | Path,
    *,
    config: str | None = None,
    num_classes: int | None = None,
    no_object_class: bool | None = None,
    to_released: bool = False,
    class_columns: int | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Convert a checkpoint file and write the result as ``{"model": state dict}``.

    Args:
        source: a released DETR or single-scale SMCA, a torchvision ResNet, or a detector of ours.
        target: file to write.
        config: zoo name of the model that the tensors under our names must fit strictly; only its
            backbone's for a ResNet.
        num_classes: classes of our model, by default the config's, without one 80.
        no_object_class: as in :func:`convert_released`, by default the config's.
        to_released: from our names to the released ones instead.
        class_columns: 91 or 92 spreads our 80 contiguous classes to COCO's category ids.
        overwrite: replace ``target`` if it exists.

    Raises:
        InputError: for a file that cannot be read or converted, or does not fit the config, naming
            the tensors.
        OSError: if the result cannot be written.
    """
    check_writable(Path(target), overwrite=overwrite)
    model_config = load_experiment(config).model if config else None
    state = read_state_dict(source)
    try:
        conversion = convert_state_dict(
            state,
            model_config=model_config,
            num_classes=num_classes,
            no_object_class=no_object_class,
            to_released=to_released,
            class_columns=class_columns,
        )
    except ValueError as error:
        raise InputError(f"{source}: {error}") from error
    write_checkpoint(
        target,
        conversion.state_dict,
        overwrite=overwrite,
        **{CONVERTED_KEY: Path(source).name},
    )
    return conversion


def convert_state_dict(
    state: Mapping[str, Tensor],
    *,
    model_config: DictConfig | None = None,
    num_classes: int | None = None,
    no_object_class: bool | None = None,
    to_released: bool = False,
    class_columns: int | None = None,
) -> Conversion:
    """What :func:`convert_file` does to tensors; ``model_config`` is a LazyConfig's ``model``."""
    kind = kind_of(state)
    if kind == "detector of this project":
        converted = _convert_ours(state, model_config, to_released, class_columns)
    elif to_released:
        raise InputError(f"it is a {kind}, whose names are no names of this project to turn back")
    elif class_columns is not None:
        raise InputError(
            f"it is a {kind}; only the class columns of a detector of this project can be spread "
            "to category ids (a released one keeps its own with num_classes 91 or 92)"
        )
    elif kind == "torchvision ResNet":
        converted = convert_resnet(state)
        if model_config is not None:
            check_fits(converted, model_config, prefix="backbone.")
    else:
        converted = _convert_released(state, model_config, num_classes, no_object_class)
    is_resnet = kind == "torchvision ResNet"
    left_out = [name for name in state if is_resnet and name.startswith("fc.")]
    return Conversion(
        kind, converted, left_out, _count_counters(state) - _count_counters(converted)
    )


def kind_of(state: Mapping[str, Tensor]) -> Kind:
    """What a state dict is of, by its names.

    Raises:
        InputError: if it is none of the three.
    """
    if any(name.startswith(("transformer.", "class_embed.", "backbone.0.")) for name in state):
        return "released detector"
    if "conv1.weight" in state and any(name.startswith("layer1.") for name in state):
        return "torchvision ResNet"
    if any(name.startswith(("decoder.", "heads.", "backbone.stem.")) for name in state):
        return "detector of this project"
    first = ", ".join(list(state)[:3])
    raise InputError(
        "it holds no released DETR or SMCA, no torchvision ResNet and no detector of this project; "
        f"its first tensors are {first}"
    )


def check_fits(state: Mapping[str, Tensor], model_config: DictConfig, *, prefix: str = "") -> None:
    """Compare names and shapes with the model's, of those that start with ``prefix``.

    Raises:
        InputError: naming the tensors that are missing, unexpected or of another shape.
    """
    with torch.device("meta"):
        model = instantiate(model_config)
    wanted = {k: tuple(v.shape) for k, v in model.state_dict().items() if k.startswith(prefix)}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    problems = {
        "missing": [name for name in wanted if name not in given],
        "unexpected": [name for name in given if name not in wanted],
        "of another shape": [
            f"{name} {given[name]} instead of {wanted[name]}"
            for name in wanted
            if given.get(name, wanted[name]) != wanted[name]
        ],
    }
    if any(problems.values()):
        found = [f"{len(v)} {what}: {_listed(v)}" for what, v in problems.items() if v]
        raise InputError(f"its tensors do not fit the config's model ({'; '.join(found)})")


def _convert_released(
    state: Mapping[str, Tensor],
    model_config: DictConfig | None,
    num_classes: int | None,
    no_object_class: bool | None,
) -> dict[str, Tensor]:
    if model_config is not None:
        if num_classes is None:
            num_classes = num_classes_of(model_config)
        if no_object_class is None:
            classification = instantiate(OmegaConf.select(model_config, "classification"))
            no_object_class = getattr(classification, "has_no_object_output", None)
    if num_classes is None:
        num_classes = len(COCO_CATEGORY_IDS)
    converted = convert_released(state, num_classes, no_object_class=no_object_class)
    if model_config is not None:
        check_fits(converted, model_config)
    return converted


def _listed(names: list[str], limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _count_counters(state: Mapping[str, Tensor]) -> int:
    return sum(name.endswith("num_batches_tracked") for name in state)


def _convert_ours(
    state: Mapping[str, Tensor],
    model_config: DictConfig | None,
    to_released: bool,
    class_columns: int | None,
) -> dict[str, Tensor]:
    if not to_released and class_columns is None:
        raise InputError(
            "it has the names of this project already, so there is nothing to convert; ask for the "
            "released names (--to-released) or for other class columns (--class-columns)"
        )
    if model_config is not None:
        check_fits(state, model_config)
    if class_columns is not None:
        state = with_category_id_columns(state, class_columns)
    return convert_to_released(state) if to_released else dict(state)
