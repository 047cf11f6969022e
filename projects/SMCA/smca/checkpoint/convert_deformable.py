"""Names and layouts of published Deformable DETR checkpoints, into ours.

A release stores what its layers share once per layer: heads under ``class_embed.0`` to ``class_embed.5``, and, where
layers refine boxes, all heads again under ``transformer.decoder``. With two stages the encoder has heads, too, as if it
were one layer more.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .class_columns import PUBLISHED_COLUMNS, select_classes
from .coco_categories import COCO_CATEGORY_IDS

_MARK = ".cross_attn.sampling_offsets."
_SECOND_COPY = "transformer.decoder.bbox_embed."
_QUERIES = "query_embed.weight"
_SOURCE = "decoder.query_embedding."
_ENCODER, _DECODER = (
    r"transformer\.encoder\.layers\.(\d+)\.",
    r"transformer\.decoder\.layers\.(\d+)\.",
)

# Pattern of a released name, and ours.
_RULES = [
    (r"input_proj\.(\d+)\.0\.(weight|bias)", r"neck.projections.\1.\2"),
    (r"input_proj\.(\d+)\.1\.(weight|bias)", r"neck.norms.\1.\2"),
    (r"transformer\.level_embed", "neck.level_embedding"),
    (
        _ENCODER + r"self_attn\.(sampling_offsets|attention_weights)\.(\w+)",
        r"encoder.layers.\1.attention.\2.\3",
    ),
    (_ENCODER + r"self_attn\.value_proj\.(\w+)", r"encoder.layers.\1.attention.value.\2"),
    (_ENCODER + r"self_attn\.output_proj\.(\w+)", r"encoder.layers.\1.attention.out_proj.\2"),
    (_ENCODER + r"linear([12])\.(\w+)", r"encoder.layers.\1.ffn.linear\2.\3"),
    (_ENCODER + r"norm([12])\.(\w+)", r"encoder.layers.\1.norm\2.\3"),
    (
        _DECODER + r"self_attn\.(in_proj_weight|in_proj_bias|out_proj\.\w+)",
        r"decoder.layers.\1.self_attention.\2",
    ),
    (
        _DECODER + r"cross_attn\.(sampling_offsets|attention_weights)\.(\w+)",
        r"decoder.layers.\1.co_attention.\2.\3",
    ),
    (_DECODER + r"cross_attn\.value_proj\.(\w+)", r"decoder.layers.\1.co_attention.value.\2"),
    (_DECODER + r"cross_attn\.output_proj\.(\w+)", r"decoder.layers.\1.co_attention.out_proj.\2"),
    (_DECODER + r"linear([12])\.(\w+)", r"decoder.layers.\1.ffn.linear\2.\3"),
    # There norms are numbered as they were written, not in the order in which they run.
    (_DECODER + r"norm1\.(\w+)", r"decoder.layers.\1.norm2.\2"),
    (_DECODER + r"norm2\.(\w+)", r"decoder.layers.\1.norm1.\2"),
    (_DECODER + r"norm3\.(\w+)", r"decoder.layers.\1.norm3.\2"),
    (r"transformer\.reference_points\.(\w+)", _SOURCE + r"reference_points.\1"),
    (r"transformer\.enc_output\.(\w+)", _SOURCE + r"proposals.projection.\1"),
    (r"transformer\.enc_output_norm\.(\w+)", _SOURCE + r"proposals.norm.\1"),
    (r"transformer\.pos_trans\.(\w+)", _SOURCE + r"projection.\1"),
    (r"transformer\.pos_trans_norm\.(\w+)", _SOURCE + r"norm.\1"),
]  # fmt: skip
_HEADS = re.compile(r"(?:transformer\.decoder\.)?(class|bbox)_embed\.(\d+)\.(.+)")


def is_released_deformable(state_dict: Mapping[str, Tensor]) -> bool:
    """By its names."""
    return any(_MARK in name for name in state_dict)


def released_deformable_columns(state_dict: Mapping[str, Tensor]) -> int:
    """Class columns; 0 if there are none."""
    return len(state_dict.get("class_embed.0.bias", ()))


def convert_deformable_parts(
    state_dict: Mapping[str, Tensor], num_classes: int
) -> tuple[dict[str, Tensor], list[str]]:
    """All tensors of a published Deformable DETR but its backbone's.

    Args:
        state_dict: tensors by name.
        num_classes: classes of our model. With 80 the columns of COCO's categories are kept; of the encoder's
            classifier the first ones, as its first column says whether there is an object and the others nothing.

    Returns:
        Tensors under our names, and the names that have no place here.

    Raises:
        ValueError: if the class columns do not fit ``num_classes``, or a tensor that the layers share, or that is
            stored twice, is not the same everywhere.
    """
    layers = 1 + max(
        (int(name.split(".")[3]) for name in state_dict if re.match(_DECODER, name)), default=-1
    )
    own_heads = any(name.startswith(_SECOND_COPY) for name in state_dict)
    converted: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state_dict.items():
        if name == _QUERIES:
            _put(converted, _split_queries(tensor), name)
        elif match := _HEADS.fullmatch(name):
            target = _head_name(match[1], int(match[2]), match[3], layers, own_heads)
            _put(converted, {target: _columns(name, target, tensor, num_classes)}, name)
        elif (target := _translate(name)) is not None:
            _put(converted, {target: tensor}, name)
        else:
            unknown.append(name)
    return converted, unknown


def _put(converted: dict[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
    for name, tensor in tensors.items():
        if name in converted and not torch.equal(converted[name], tensor):
            raise ValueError(
                f"tensor {source!r} should be the same as another one that becomes {name!r}, and is not"
            )
        converted[name] = tensor


def _split_queries(tensor: Tensor) -> dict[str, Tensor]:
    position, content = tensor.chunk(2, dim=1)
    return {
        f"{_SOURCE}position.weight": position.contiguous(),
        f"{_SOURCE}content.weight": content.contiguous(),
    }


def _head_name(kind: str, index: int, leaf: str, layers: int, own_heads: bool) -> str:
    if index >= layers:
        part = {"class": "objectness", "bbox": "box"}[kind]
        return f"{_SOURCE}proposals.{part}.{leaf}"
    if not own_heads:
        return {"class": "heads.classifier.", "bbox": "heads.box."}[kind] + leaf
    return {"class": "heads.classifier.", "bbox": "decoder.refinement.steps."}[
        kind
    ] + f"{index}.{leaf}"


def _columns(name: str, target: str, tensor: Tensor, num_classes: int) -> Tensor:
    if ".objectness." in target:
        published = len(tensor) in PUBLISHED_COLUMNS and num_classes == len(COCO_CATEGORY_IDS)
        return tensor[:num_classes].clone() if published else tensor
    if target.startswith("heads.classifier."):
        return select_classes(name, tensor, num_classes, no_object_class=False)
    return tensor


def _translate(name: str) -> str | None:
    for pattern, target in _RULES:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return match.expand(target)
    return None
