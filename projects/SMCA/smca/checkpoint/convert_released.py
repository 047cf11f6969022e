"""Names and layouts of published DETR, single-scale SMCA and Deformable DETR checkpoints, into ours and back."""

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from .class_columns import CLASSIFIERS, select_classes
from .convert_deformable import (
    convert_deformable,
    deformable_to_released,
    is_our_deformable,
    is_released_deformable,
)
from .name_rules import translate

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
_RESNET_PREFIX, _OUR_RESNET_PREFIX = "backbone.0.body.", "backbone."


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
        ValueError: naming every tensor that has no place here, or the one whose columns do not fit
            ``num_classes``.
    """
    if is_released_deformable(state_dict):
        body, others = _apart(state_dict, _RESNET_PREFIX)
        converted, unknown = convert_deformable(others, num_classes)
        names = _convert_names({**body, **dict.fromkeys(unknown)}, _convert_body_name)
        return {target: body[name] for name, target in names.items()} | converted
    if no_object_class is None:
        no_object_class = not any(".point1." in name for name in state_dict)
    converted = {}
    for name, target in _convert_names(state_dict, convert_name).items():
        tensor = state_dict[name]
        if target.startswith(CLASSIFIERS):
            tensor = select_classes(name, tensor, num_classes, no_object_class)
        converted[target] = tensor
    return converted


def convert_to_released(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our DETR's, single-scale SMCA's or Deformable DETR's tensors under the released names, columns as they are.

    Raises:
        ValueError: naming every tensor that the released models do not have, such as those of the
            full model's further scales.
    """
    if is_our_deformable(state_dict):
        body, others = _apart(state_dict, _OUR_RESNET_PREFIX)
        converted, unknown = deformable_to_released(others)
        names = _convert_names({**body, **dict.fromkeys(unknown)}, released_name)
        return {target: state_dict[name] for name, target in names.items()} | converted
    names = _convert_names(state_dict, released_name)
    return {target: state_dict[name] for name, target in names.items()}


def convert_name(name: str) -> str:
    """Our name of a released tensor.

    Raises:
        ValueError: if the tensor has no place in our models.
    """
    if name.startswith(_RESNET_PREFIX):
        return _convert_body_name(name)
    for released, ours in _RULES:
        if (target := translate(name, released, ours)) is not None:
            return target
    raise ValueError(
        f"tensor {name!r} has no place in an SMCA or DETR detector of this project; "
        "is this a checkpoint of another model?"
    )


def released_name(name: str) -> str:
    """The released name of a tensor of ours.

    Raises:
        ValueError: if the released models have no such tensor.
    """
    if name.startswith(_OUR_RESNET_PREFIX):
        return _RESNET_PREFIX + _torchvision_resnet_name(name.removeprefix(_OUR_RESNET_PREFIX))
    for released, ours in _RULES:
        if (target := translate(name, ours, released)) is not None:
            return target
    raise ValueError(
        f"tensor {name!r} has no place in the released models, which are DETR, single-scale SMCA and "
        "Deformable DETR"
    )


def _apart(
    state_dict: Mapping[str, Tensor], prefix: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors whose names begin so, and the others."""
    begun = {name: tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
    return begun, {name: t for name, t in state_dict.items() if name not in begun}


def _convert_body_name(name: str) -> str:
    if name.startswith(_RESNET_PREFIX):
        return _OUR_RESNET_PREFIX + convert_resnet_name(name.removeprefix(_RESNET_PREFIX))
    raise ValueError(
        f"tensor {name!r} has no place in a Deformable DETR of this project; is this a checkpoint of another model?"
    )


def convert_resnet_name(name: str) -> str:
    """Detectron2's name of a torchvision ResNet tensor, such as layer1.0.bn2.weight.

    Raises:
        ValueError: if it is not one.
    """
    if match := re.fullmatch(r"conv1\.weight|bn1\.(\w+)", name):
        return f"stem.conv1.norm.{match[1]}" if match[1] else "stem.conv1.weight"
    match = re.fullmatch(r"layer([1-4])\.(\d+)\.(conv|bn|downsample\.)(\d)\.(\w+)", name)
    if match is None:
        raise ValueError(f"tensor {name!r} is not one of a torchvision ResNet")
    stage, block, kind, number, leaf = match.groups()
    is_norm = kind == "bn" or (kind == "downsample." and number == "1")
    module = "shortcut" if kind == "downsample." else f"conv{number}"
    return f"res{int(stage) + 1}.{block}.{module}{'.norm' if is_norm else ''}.{leaf}"


def _torchvision_resnet_name(name: str) -> str:
    if match := re.fullmatch(r"stem\.conv1\.(?:weight|norm\.(\w+))", name):
        return f"bn1.{match[1]}" if match[1] else "conv1.weight"
    match = re.fullmatch(r"res([2-5])\.(\d+)\.(?:conv(\d)|shortcut)\.(norm\.)?(\w+)", name)
    if match is None:
        raise ValueError(f"tensor {name!r} is not one of a ResNet of this project")
    stage, block, number, norm, leaf = match.groups()
    modules = ("downsample.1", f"bn{number}") if norm else ("downsample.0", f"conv{number}")
    return f"layer{int(stage) - 1}.{block}.{modules[number is not None]}.{leaf}"


def _convert_names(
    state_dict: Mapping[str, Tensor], convert: Callable[[str], str]
) -> dict[str, str]:
    """Name -> converted name, without batch counters; one error names all that have none."""
    targets, failures = {}, []
    for name in state_dict:
        if name.endswith("num_batches_tracked"):
            continue
        try:
            targets[name] = convert(name)
        except ValueError as error:
            failures.append((name, error))
    if failures:
        (_, first), *rest = failures
        more = f"; nor has any of {', '.join(repr(name) for name, _ in rest)}" if rest else ""
        raise ValueError(f"{first}{more}") from first
    return targets
