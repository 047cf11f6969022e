"""Names and layouts of the published DETR and single-scale SMCA checkpoints, turned into ours."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .coco_categories import COCO_CATEGORY_IDS

# Released name -> ours, tried in order on the whole name.
_RULES = [
    (r"class_embed\.(weight|bias)", r"heads.classifier.\1"),
    (r"bbox_embed\.(layers\.\d+\.\w+)", r"heads.box.\1"),
    (r"query_embed\.weight", r"decoder.query_embedding.weight"),
    (r"input_proj\.(weight|bias)", r"neck.projections.0.\1"),
    (r"transformer\.encoder\.layers\.(\d+)\.self_attn\.(.+)", r"encoder.blocks.\1.attention.0.\2"),
    (r"transformer\.encoder\.layers\.(\d+)\.(linear[12]\.\w+)", r"encoder.blocks.\1.ffn.0.\2"),
    (r"transformer\.encoder\.layers\.(\d+)\.(norm[12]\.\w+)", r"encoder.blocks.\1.\2"),
    (r"transformer\.decoder\.layers\.(\d+)\.self_attn\.(.+)", r"decoder.layers.\1.self_attention.\2"),
    (r"transformer\.decoder\.layers\.(\d+)\.multihead_attn\.(.+)", r"decoder.layers.\1.co_attention.\2"),
    (r"transformer\.decoder\.layers\.(\d+)\.(linear[12]\.\w+)", r"decoder.layers.\1.ffn.\2"),
    (r"transformer\.decoder\.layers\.(\d+)\.(norm[123]\.\w+)", r"decoder.layers.\1.\2"),
    (r"transformer\.decoder\.layers\.(\d+)\.norm4\.(\w+)", r"decoder.modulation.layers.\1.norm.\2"),
    (r"transformer\.decoder\.layers\.0\.point1\.(.+)", r"decoder.modulation.center.\1"),
    (r"transformer\.decoder\.layers\.(\d+)\.point2\.(\w+)", r"decoder.modulation.layers.\1.offset.\2"),
    (r"transformer\.decoder\.layers\.(\d+)\.point3\.(\w+)", r"decoder.modulation.layers.\1.scale.\2"),
    (r"transformer\.decoder\.norm\.(\w+)", r"decoder.norm.\1"),
]
_RESNET_PREFIX = "backbone.0.body."


def convert_released(
    state_dict: Mapping[str, Tensor], num_classes: int = 80, *, no_object_class: bool | None = None
) -> dict[str, Tensor]:
    """Convert a published DETR or single-scale SMCA state dict to ours.

    Published class columns are COCO category ids (0..90, then "no object" or an unused column). With
    ``num_classes=80`` the columns of COCO's 80 categories are kept, in contiguous order; otherwise the columns must
    number what the model has and stay as they are.

    Args:
        state_dict: tensors by name; a whole checkpoint's "model" entry.
        num_classes: classes of our model.
        no_object_class: whether the last column is "no object". By default SMCA checkpoints (with a spatial prior)
            have none, DETR checkpoints do.

    Returns:
        A state dict that our model of the same shape loads strictly.

    Raises:
        ValueError: naming the tensor that has no place here, or whose columns do not fit ``num_classes``.
    """
    if no_object_class is None:
        no_object_class = not any(".point1." in name for name in state_dict)
    converted = {}
    for name, tensor in state_dict.items():
        if name.endswith("num_batches_tracked"):
            continue
        target = convert_name(name)
        if name.startswith("class_embed."):
            tensor = _select_classes(name, tensor, num_classes, no_object_class)
        converted[target] = tensor
    return converted


def convert_name(name: str) -> str:
    """Our name of a released tensor.

    Raises:
        ValueError: if the tensor has no place in our models.
    """
    if name.startswith(_RESNET_PREFIX):
        return "backbone." + convert_resnet_name(name.removeprefix(_RESNET_PREFIX))
    for pattern, replacement in _RULES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    raise ValueError(
        f"tensor {name!r} has no place in an SMCA or DETR detector of this project; "
        "is this a checkpoint of another model?"
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


def _select_classes(name: str, tensor: Tensor, num_classes: int, no_object_class: bool) -> Tensor:
    columns = tensor.shape[0]
    if columns == num_classes + int(no_object_class):
        return tensor
    if num_classes == len(COCO_CATEGORY_IDS) and columns in (91, 92):
        keep = list(COCO_CATEGORY_IDS) + ([columns - 1] if no_object_class else [])
        return tensor[torch.tensor(keep)]
    raise ValueError(
        f"tensor {name!r} has {columns} class columns, which fit neither num_classes={num_classes} nor COCO's ids; "
        "give num_classes as in the model's config"
    )
