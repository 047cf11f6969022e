"""Whose names the tensors of a checkpoint have, and the same tensors under the names of a model of ours."""

import dataclasses
from collections.abc import Callable, Mapping

from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import Tensor, nn

from smca.checkpoint.conversion.class_columns import (
    COCO_CLASS_NAMES,
    PUBLISHED_COLUMNS,
    choose_classes,
)
from smca.checkpoint.conversion.convert_deformable import (
    is_released_deformable,
    released_deformable_columns,
)
from smca.checkpoint.conversion.convert_released import convert_released, convert_resnet
from smca.checkpoint.reading.model_file import ModelFile

Converted = tuple[dict[str, Tensor], tuple[str, ...]]
"""Tensors by name, and the names of their classes if they are known."""


@dataclasses.dataclass(frozen=True)
class Classes:
    """What is known of the class outputs of the model that is to have the tensors.

    Attributes:
        number: without "no object"; None if it is not known.
        no_object: whether the last output is "no object"; None leaves it to the checkpoint.
        exact: refuse columns that do not fit the number, instead of leaving that to a comparison.
    """

    number: int | None = None
    no_object: bool | None = None
    exact: bool = False

    @classmethod
    def of(cls, model: nn.Module | None) -> "Classes":
        classification = getattr(model, "classification", None)
        return cls(
            getattr(model, "num_classes", None),
            getattr(classification, "has_no_object_output", None),
        )


@dataclasses.dataclass(frozen=True)
class Family:
    """Checkpoints that have the same names.

    Attributes:
        name: for people.
        recognise: whether tensors are of the family, by their names.
        convert: those that it recognises, under our names.
    """

    name: str
    recognise: Callable[[Mapping[str, Tensor]], bool]
    convert: Callable[[Mapping[str, Tensor], Classes], Converted]


def _is_released_detector(tensors: Mapping[str, Tensor]) -> bool:
    return any(name.startswith(("transformer.", "class_embed.", "backbone.0.")) for name in tensors)


def _from_released_detector(tensors: Mapping[str, Tensor], classes: Classes) -> Converted:
    """Its classes are COCO's if its columns are COCO's ids."""
    no_object = classes.no_object
    if no_object is None:
        no_object = not any(".point1." in name for name in tensors)
    columns = len(tensors.get("class_embed.bias", ()))
    number = classes.number
    if not classes.exact:
        number = choose_classes(columns, number, no_object)
    is_coco = columns in PUBLISHED_COLUMNS and number == len(COCO_CLASS_NAMES)
    converted = convert_released(tensors, number, no_object_class=no_object)
    return converted, COCO_CLASS_NAMES if is_coco else ()


def _from_released_deformable(tensors: Mapping[str, Tensor], classes: Classes) -> Converted:
    """As a DETR's, but without "no object"."""
    columns, number = released_deformable_columns(tensors), classes.number
    if not classes.exact:
        number = choose_classes(columns, number, no_object_class=False)
    is_coco = columns in PUBLISHED_COLUMNS and number == len(COCO_CLASS_NAMES)
    return convert_released(tensors, number), COCO_CLASS_NAMES if is_coco else ()


_PRETEXT = ("patch2query.", "feature_align.")
"""What UP-DETR's pre-training has beside a DETR."""


def _is_pretrained_up_detr(tensors: Mapping[str, Tensor]) -> bool:
    return any(name.startswith(_PRETEXT[0]) for name in tensors)


def _from_pretrained_up_detr(tensors: Mapping[str, Tensor], _: Classes) -> Converted:
    """Its classes are those of the pretext task, "patch found" or not, and have no use here."""
    left_out = (*_PRETEXT, "class_embed.")
    return convert_released({k: v for k, v in tensors.items() if not k.startswith(left_out)}), ()


def _is_resnet(tensors: Mapping[str, Tensor]) -> bool:
    return "conv1.weight" in tensors and any(name.startswith("layer1.") for name in tensors)


FAMILIES = (
    Family("pre-trained UP-DETR", _is_pretrained_up_detr, _from_pretrained_up_detr),
    Family("released Deformable DETR", is_released_deformable, _from_released_deformable),
    Family("released detector", _is_released_detector, _from_released_detector),
    Family("torchvision ResNet", _is_resnet, lambda tensors, _: (convert_resnet(tensors), ())),
)
"""The first that recognises a checkpoint counts: one with more special names stands before the others."""


def find_family(tensors: Mapping[str, Tensor]) -> Family | None:
    """None for tensors under our names, or names that are not known."""
    return next((family for family in FAMILIES if family.recognise(tensors)), None)


def to_our_names(
    file: ModelFile, model: nn.Module | None = None, *, classes: Classes | None = None
) -> Converted:
    """A checkpoint's tensors, of its moving averages if it has any, under the names of a model.

    Published columns of classes become COCO's 80 classes, unless the model has as many as there are columns; any others
    stay as they are.

    Args:
        file: the checkpoint.
        model: that is to have them, which may be on the meta device. Tensors of a family that has no place in it keep
            their names, and a checkpoint under names of the model is taken as it is.
        classes: by default the model's.

    Raises:
        InputError: naming the tensors that are of no model here.
    """
    tensors = file.best_state_dict
    own = {} if model is None else model.state_dict()
    if file.matching_heuristics:
        return by_likeness(file, own), file.class_names
    family = find_family(tensors)
    if family is None or own.keys() & tensors.keys():
        return tensors, file.class_names
    converted, names = family.convert(tensors, classes or Classes.of(model))
    if own and not own.keys() & converted.keys():
        return tensors, file.class_names
    return converted, names


def by_likeness(file: ModelFile, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What Detectron2's checkpointer makes of a file's names beside a model's state dict ``own``."""
    if not file.matching_heuristics:
        return file.state_dict
    is_caffe2 = file.author == "Caffe2"
    return align_and_update_state_dicts(own, file.state_dict, c2_conversion=is_caffe2)
