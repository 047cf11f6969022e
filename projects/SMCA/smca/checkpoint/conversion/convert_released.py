"""Names and layouts of published DETR, single-scale SMCA and Deformable DETR checkpoints, into ours and back."""

from collections.abc import Mapping

from torch import Tensor

from .class_columns import CLASSIFIERS, select_classes
from .convert_deformable import (
    convert_deformable,
    deformable_to_released,
    is_our_deformable,
    is_released_deformable,
)
from .name_rules import RESNET_RULES, convert_names, rename

_ENCODER, _DECODER = "transformer.encoder.layers.{i}.", "transformer.decoder.layers.{i}."

# Released name and ours. Both sides have the same placeholders in the same order.
_RULES = [
    ("class_embed.{leaf}", "heads.classifier.{leaf}"),
    ("bbox_embed.layers.{i}.{leaf}", "heads.box.layers.{i}.{leaf}"),
    ("query_embed.weight", "decoder.query_embedding.weight"),
    ("input_proj.{leaf}", "neck.projections.0.{leaf}"),
    (_ENCODER + "self_attn.{path}", "encoder.blocks.{i}.attention.0.{path}"),
    (_ENCODER + "linear{12}.{leaf}", "encoder.blocks.{i}.ffn.0.linear{12}.{leaf}"),
    (_ENCODER + "norm{12}.{leaf}", "encoder.blocks.{i}.norm{12}.{leaf}"),
    (_DECODER + "self_attn.{path}", "decoder.layers.{i}.self_attention.{path}"),
    (_DECODER + "multihead_attn.{path}", "decoder.layers.{i}.co_attention.{path}"),
    (_DECODER + "linear{12}.{leaf}", "decoder.layers.{i}.ffn.linear{12}.{leaf}"),
    (_DECODER + "norm{123}.{leaf}", "decoder.layers.{i}.norm{123}.{leaf}"),
    (_DECODER + "norm4.{leaf}", "decoder.modulation.layers.{i}.norm.{leaf}"),
    (
        "transformer.decoder.layers.0.point1.layers.{i}.{leaf}",
        "decoder.modulation.center.layers.{i}.{leaf}",
    ),
    (_DECODER + "point2.{leaf}", "decoder.modulation.layers.{i}.offset.{leaf}"),
    (_DECODER + "point3.{leaf}", "decoder.modulation.layers.{i}.scale.{leaf}"),
    ("transformer.decoder.norm.{leaf}", "decoder.norm.{leaf}"),
    # With norms before each part, as UP-DETR has them.
    ("transformer.encoder.norm.{leaf}", "encoder.norm.{leaf}"),
]
_BODY_RULES = [(f"backbone.0.body.{theirs}", f"backbone.{ours}") for theirs, ours in RESNET_RULES]


def convert_released(
    state_dict: Mapping[str, Tensor], num_classes: int = 80, *, no_object_class: bool | None = None
) -> dict[str, Tensor]:
    """Convert a published DETR, single-scale SMCA or Deformable DETR state dict to ours.

    Published class columns are COCO category ids (0..90, then "no object" or an unused column).
    With ``num_classes=80`` the columns of COCO's 80 categories are kept, in contiguous order;
    otherwise the columns must number what the model has and stay as they are. Batch norms' counters
    (``num_batches_tracked``) have no meaning in frozen norms and are left out.

    Args:
        state_dict: tensors by name; a whole checkpoint's "model" entry.
        num_classes: classes of our model.
        no_object_class: whether the last column is "no object". By default SMCA checkpoints (with a
            spatial prior) have none, DETR checkpoints do; Deformable DETR's never have one.

    Returns:
        A state dict that our model of the same shape loads strictly.

    Raises:
        InputError: naming every tensor that has no place here, or the one whose columns do not fit
            ``num_classes``.
    """
    if is_released_deformable(state_dict):
        converted, rest = convert_deformable(state_dict, num_classes)
        names = convert_names(rest, _deformable_body_name)
        return {target: state_dict[name] for name, target in names.items()} | converted
    if no_object_class is None:
        no_object_class = not any(".point1." in name for name in state_dict)
    converted = {}
    for name, target in convert_names(state_dict, convert_name).items():
        tensor = state_dict[name]
        if target.startswith(CLASSIFIERS):
            tensor = select_classes(name, tensor, num_classes, no_object_class)
        converted[target] = tensor
    return converted


def convert_to_released(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our DETR's, single-scale SMCA's or Deformable DETR's tensors under the released names, columns as they are.

    Raises:
        InputError: naming every tensor that the released models do not have, such as those of the
            full model's further scales.
    """
    if is_our_deformable(state_dict):
        converted, rest = deformable_to_released(state_dict)
        names = convert_names(rest, released_name)
        return {target: state_dict[name] for name, target in names.items()} | converted
    names = convert_names(state_dict, released_name)
    return {target: state_dict[name] for name, target in names.items()}


def convert_name(name: str) -> str:
    """Our name of a released tensor.

    Raises:
        InputError: if the tensor has no place in our models.
    """
    place = "an SMCA or DETR detector of this project; is this a checkpoint of another model?"
    return rename(name, [*_RULES, *_BODY_RULES], place)


def released_name(name: str) -> str:
    """The released name of a tensor of ours.

    Raises:
        InputError: if the released models have no such tensor.
    """
    backwards = [(ours, theirs) for theirs, ours in (*_RULES, *_BODY_RULES)]
    place = "the released models, which are DETR, single-scale SMCA and Deformable DETR"
    return rename(name, backwards, place)


def _deformable_body_name(name: str) -> str:
    """Of a tensor of the backbone, which is DETR's."""
    place = "a Deformable DETR of this project; is this a checkpoint of another model?"
    return rename(name, _BODY_RULES, place)


def convert_resnet(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision ResNet's tensors under our names; its classifier is left out."""
    return {
        "backbone." + rename(name, RESNET_RULES, "a torchvision ResNet"): tensor
        for name, tensor in state_dict.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }
