"""Checkpoint files of other projects into ours, and ours into theirs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from smca.checkpoint import ModelFile, read_model_file
from smca.checkpoint.conversion.class_columns import with_category_id_columns
from smca.checkpoint.conversion.convert_released import convert_to_released
from smca.checkpoint.file_formats import check_writable, write_checkpoint
from smca.checkpoint.loading.load_report import fit
from smca.checkpoint.loading.our_names import Classes, find_family, to_our_names
from smca.checkpoint.reading.model_file import CONVERTED_KEY
from smca.description.model_fields import NUM_CLASSES_FIELDS, find_field
from smca.errors import InputError
from smca.experiments import load_experiment

OURS = "detector of this project"
RESNET = "torchvision ResNet"


@dataclass(frozen=True)
class Conversion:
    """What was made of a checkpoint.

    Attributes:
        kind: what the file held: the name of a family, or "detector of this project".
        state_dict: the result, by name.
        left_out: tensors that have no place in the result: a ResNet's classifier.
        batch_counters: number of ``num_batches_tracked`` tensors left out.
    """

    kind: str
    state_dict: dict[str, Tensor]
    left_out: list[str]
    batch_counters: int


def convert_file(
    source: str | Path,
    target: str | Path,
    *,
    config: str | None = None,
    overwrite: bool = False,
    **options,
) -> Conversion:
    """Convert a checkpoint file and write the result as ``{"model": state dict}``.

    Args:
        source: a released DETR or single-scale SMCA, a torchvision ResNet, or a detector of ours; a file, a URL, or a
            name such as "smca://...".
        target: file to write.
        config: experiment of the zoo, or its file, whose model is ``model_config``.
        overwrite: replace ``target`` if it exists.
        options: others of :func:`convert_state_dict`.

    Raises:
        InputError: for a file that cannot be read or converted, or does not fit the config, naming
            the tensors.
        OSError: if the result cannot be written.
    """
    check_writable(Path(target), overwrite=overwrite)
    model_config = load_experiment(config).model if config else None
    field = None if model_config is None else find_field(model_config, NUM_CLASSES_FIELDS)
    if field is not None and field[0][field[1]] is None:
        raise InputError(
            f"config {config} takes its number of classes from your data; give one with a number, such as that of a run"
        )
    if str(source).endswith(".pkl"):
        raise InputError(
            f"checkpoint {source}: Detectron2's .pkl files are not converted; its models load them "
            "as train.init_checkpoint"
        )
    file = read_model_file(source)
    try:
        conversion = convert_state_dict(file.state_dict, model_config=model_config, **options)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    made_of = {CONVERTED_KEY: Path(file.path).name}
    write_checkpoint(target, conversion.state_dict, overwrite=overwrite, **made_of)
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
    """Convert the tensors of a checkpoint.

    Args:
        state: tensors by name.
        model_config: the ``model`` of a LazyConfig, which the tensors under our names must fit strictly; only its
            backbone for a ResNet.
        num_classes: classes of our model, by default the config's; without one 80 of published columns, else all.
        no_object_class: as in :func:`convert_released`, by default the config's.
        to_released: from our names to the released ones instead.
        class_columns: 91 or 92 spreads our 80 contiguous classes to COCO's category ids.

    Raises:
        InputError: if they cannot be converted or do not fit, naming them.
    """
    family = find_family(state)
    kind = OURS if family is None else family.name
    model = None
    if model_config is not None:
        with torch.device("meta"):
            model = instantiate(model_config)
    if family is None:
        converted = _convert_ours(state, model, to_released, class_columns)
    elif to_released:
        raise InputError(f"it is a {kind}, whose names are no names of this project to turn back")
    elif class_columns is not None:
        raise InputError(
            f"it is a {kind}; only the class columns of a detector of this project can be spread "
            "to category ids (a released one keeps its own with num_classes 91 or 92)"
        )
    else:
        of_model = Classes.of(model)
        number = of_model.number if num_classes is None else num_classes
        no_object = of_model.no_object if no_object_class is None else no_object_class
        classes = Classes(number, no_object, exact=number is not None)
        file = ModelFile(path="", state_dict=dict(state))
        converted, _ = to_our_names(file, model, classes=classes)
        if model is not None:
            _check_fits(converted, model, prefix="backbone." if kind == RESNET else "")
    left_out = [name for name in state if kind == RESNET and name.startswith("fc.")]
    return Conversion(
        kind, converted, left_out, _count_counters(state) - _count_counters(converted)
    )


def _check_fits(state: Mapping[str, Tensor], model: nn.Module, *, prefix: str = "") -> None:
    """Compare names and shapes with the model's, of those that start with ``prefix``."""
    own = {name: t for name, t in model.state_dict().items() if name.startswith(prefix)}
    misfit = fit(own, state)[1].misfit(most_names=20)
    if misfit:
        raise InputError(f"its tensors do not fit the config's model: {misfit}")


def _count_counters(state: Mapping[str, Tensor]) -> int:
    return sum(name.endswith("num_batches_tracked") for name in state)


def _convert_ours(
    state: Mapping[str, Tensor],
    model: nn.Module | None,
    to_released: bool,
    class_columns: int | None,
) -> dict[str, Tensor]:
    if not any(name.startswith(("decoder.", "heads.", "backbone.stem.")) for name in state):
        raise InputError(
            "it holds no released DETR or SMCA, no torchvision ResNet and no detector of this project; "
            f"its first tensors are {', '.join(list(state)[:3])}"
        )
    if not to_released and class_columns is None:
        raise InputError(
            "it has the names of this project already, so there is nothing to convert; ask for the "
            "released names (--to-released) or for other class columns (--class-columns)"
        )
    if model is not None:
        _check_fits(state, model)
    if class_columns is not None:
        state = with_category_id_columns(state, class_columns)
    return convert_to_released(state) if to_released else dict(state)
