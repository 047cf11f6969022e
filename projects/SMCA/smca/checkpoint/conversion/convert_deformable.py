"""Names and layouts of published Deformable DETR checkpoints, into ours and back; backbones are DETR's.

A release stores what its layers share once per layer: heads under ``class_embed.0`` to ``class_embed.5``, and, where
layers refine boxes, heads again under ``transformer.decoder``. With two stages the encoder has heads, too, as if it
were one layer more.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from smca.errors import InputError

from .class_columns import COCO_CATEGORY_IDS, PUBLISHED_COLUMNS, select_classes
from .name_rules import translate

_QUERIES = "query_embed.weight"
_SOURCE = "decoder.query_embedding."
_POSITION, _CONTENT = f"{_SOURCE}position.weight", f"{_SOURCE}content.weight"
_OBJECTNESS = f"{_SOURCE}proposals.objectness."
_ENCODER, _DECODER = "transformer.encoder.layers.{i}.", "transformer.decoder.layers.{i}."
_COPY = "transformer.decoder."

# Released name and ours. Both sides have the same placeholders in the same order.
_RULES = [
    ("input_proj.{i}.0.{leaf}", "neck.projections.{i}.{leaf}"),
    ("input_proj.{i}.1.{leaf}", "neck.norms.{i}.{leaf}"),
    ("transformer.level_embed", "neck.level_embedding"),
    (_ENCODER + "self_attn.{sampling}", "encoder.layers.{i}.attention.{sampling}"),
    (_ENCODER + "self_attn.value_proj.{leaf}", "encoder.layers.{i}.attention.value.{leaf}"),
    (_ENCODER + "self_attn.output_proj.{leaf}", "encoder.layers.{i}.attention.out_proj.{leaf}"),
    (_ENCODER + "linear{12}.{leaf}", "encoder.layers.{i}.ffn.linear{12}.{leaf}"),
    (_ENCODER + "norm{12}.{leaf}", "encoder.layers.{i}.norm{12}.{leaf}"),
    (_DECODER + "self_attn.{path}", "decoder.layers.{i}.self_attention.{path}"),
    (_DECODER + "cross_attn.{sampling}", "decoder.layers.{i}.co_attention.{sampling}"),
    (_DECODER + "cross_attn.value_proj.{leaf}", "decoder.layers.{i}.co_attention.value.{leaf}"),
    (_DECODER + "cross_attn.output_proj.{leaf}", "decoder.layers.{i}.co_attention.out_proj.{leaf}"),
    (_DECODER + "linear{12}.{leaf}", "decoder.layers.{i}.ffn.linear{12}.{leaf}"),
    # There the norm behind the cross-attention, which comes second, is the first.
    (_DECODER + "norm1.{leaf}", "decoder.layers.{i}.norm2.{leaf}"),
    (_DECODER + "norm2.{leaf}", "decoder.layers.{i}.norm1.{leaf}"),
    (_DECODER + "norm3.{leaf}", "decoder.layers.{i}.norm3.{leaf}"),
    ("transformer.reference_points.{leaf}", _SOURCE + "reference_points.{leaf}"),
    ("transformer.enc_output.{leaf}", _SOURCE + "proposals.projection.{leaf}"),
    ("transformer.enc_output_norm.{leaf}", _SOURCE + "proposals.norm.{leaf}"),
    ("transformer.pos_trans.{leaf}", _SOURCE + "projection.{leaf}"),
    ("transformer.pos_trans_norm.{leaf}", _SOURCE + "norm.{leaf}"),
]
# Heads of one layer, without its number: a release's, ours of all layers, of one of them, and of the encoder.
_HEADS = [
    ("class_embed", "heads.classifier", "heads.classifier", f"{_SOURCE}proposals.objectness"),
    ("bbox_embed", "heads.box", "decoder.refinement.steps", f"{_SOURCE}proposals.box"),
]


def is_released_deformable(state_dict: Mapping[str, Tensor]) -> bool:
    """By its names."""
    return any(".cross_attn.sampling_offsets." in name for name in state_dict)


def is_our_deformable(state_dict: Mapping[str, Tensor]) -> bool:
    """By its names."""
    return any(".co_attention.sampling_offsets." in name for name in state_dict)


def released_deformable_columns(state_dict: Mapping[str, Tensor]) -> int:
    """Class columns; 0 if there are none."""
    return len(state_dict.get("class_embed.0.bias", ()))


def convert_deformable(
    state_dict: Mapping[str, Tensor], num_classes: int
) -> tuple[dict[str, Tensor], list[str]]:
    """A published Deformable DETR's tensors but those of its backbone.

    Args:
        state_dict: tensors by name.
        num_classes: classes of our model. With 80 the columns of COCO's categories are kept; of the encoder's
            classifier the first ones, as its first column says whether there is an object and the others nothing.

    Returns:
        Tensors under our names, and the names that are none of these, such as the backbone's.

    Raises:
        InputError: if the class columns do not fit ``num_classes``, or a tensor that the layers share, or that is
            stored twice, is not the same everywhere.
    """
    layers = _number_of_layers(state_dict, _COPY)
    refines = any(name.startswith(f"{_COPY}bbox_embed.") for name in state_dict)
    converted: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state_dict.items():
        if name == _QUERIES:
            position, content = tensor.chunk(2, dim=1)
            converted |= {_POSITION: position.contiguous(), _CONTENT: content.contiguous()}
            continue
        target = _our_name(name, layers, refines)
        if target is None:
            unknown.append(name)
            continue
        tensor = _select_columns(name, target, tensor, num_classes)
        if target in converted and not torch.equal(converted[target], tensor):
            raise InputError(
                f"tensor {name!r} should be the same as another one that becomes {target!r}, and is not"
            )
        converted[target] = tensor
    return converted, unknown


def deformable_to_released(
    state_dict: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], list[str]]:
    """Our Deformable DETR's tensors, but those of its backbone, under the released names, and the other names."""
    layers = _number_of_layers(state_dict, "decoder.")
    two_stage = any(name.startswith(_OBJECTNESS) for name in state_dict)
    converted: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state_dict.items():
        if name == _CONTENT:
            continue
        if name == _POSITION:
            converted[_QUERIES] = torch.cat([tensor, state_dict[_CONTENT]], 1)
            continue
        targets = _released_names(name, layers, two_stage)
        if not targets:
            unknown.append(name)
        converted |= dict.fromkeys(targets, tensor)
    return converted, unknown


def _our_name(name: str, layers: int, refines: bool) -> str | None:
    plain = name.removeprefix(_COPY)
    for kind, shared, own, encoders in _HEADS:
        match = re.fullmatch(rf"{kind}\.(\d+)\.(.+)", plain)
        if match is None:
            continue
        index, leaf = int(match[1]), match[2]
        if index >= layers:
            return f"{encoders}.{leaf}"
        return f"{own}.{index}.{leaf}" if refines else f"{shared}.{leaf}"
    return next((t for r, o in _RULES if (t := translate(name, r, o)) is not None), None)


def _released_names(name: str, layers: int, two_stage: bool) -> list[str]:
    for kind, shared, own, encoders in _HEADS:
        copied = two_stage or kind == "bbox_embed"
        if name.startswith(f"{encoders}."):
            found = [f"{kind}.{layers}{name.removeprefix(encoders)}"]
        elif match := re.fullmatch(rf"{re.escape(own)}\.(\d+)\.(.+)", name):
            found = [f"{kind}.{match[1]}.{match[2]}"]
        elif name.startswith(f"{shared}."):
            found = [f"{kind}.{i}{name.removeprefix(shared)}" for i in range(layers)]
            copied = False
        else:
            continue
        return found + [_COPY + one for one in found if copied]
    return [t for r, o in _RULES if (t := translate(name, o, r)) is not None]


def _number_of_layers(state_dict: Mapping[str, Tensor], prefix: str) -> int:
    numbers = [re.match(rf"{re.escape(prefix)}layers\.(\d+)\.", name) for name in state_dict]
    return 1 + max((int(match[1]) for match in numbers if match), default=-1)


def _select_columns(name: str, target: str, tensor: Tensor, num_classes: int) -> Tensor:
    if target.startswith(_OBJECTNESS):
        published = len(tensor) in PUBLISHED_COLUMNS and num_classes == len(COCO_CATEGORY_IDS)
        return tensor[:num_classes].clone() if published else tensor
    if target.startswith("heads.classifier."):
        return select_classes(name, tensor, num_classes, no_object_class=False)
    return tensor
