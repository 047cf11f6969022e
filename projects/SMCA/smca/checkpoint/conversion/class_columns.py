"""Class columns of a classifier: contiguous classes, or COCO's category ids as published."""

from collections.abc import Mapping

import torch
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torch import Tensor

from smca.errors import InputError

_THINGS = [category for category in COCO_CATEGORIES if category["isthing"]]

COCO_CATEGORY_IDS = tuple(category["id"] for category in _THINGS)
"""Of each of COCO's 80 contiguous classes, in order, the id among 1..90, of which ten are left out."""

COCO_CLASS_NAMES = tuple(category["name"] for category in _THINGS)
"""Their names, in the same order."""

PUBLISHED_COLUMNS = (91, 92)
"""Ids 0..90, in 92 columns followed by "no object" or an unused column."""

ABSENT_BIAS = -100.0
"""Bias of a column that no class of ours belongs to: probability zero, finite in half precision."""

CLASSIFIERS = ("heads.classifier.", "class_embed.")
"""Where a classifier's weight and bias are, under our names and the released ones."""


def choose_classes(columns: int, num_classes: int | None, no_object_class: bool) -> int:
    """How many classes to take from a classifier's columns.

    Those of a model that has as many; COCO's 80 of published columns; else all that there are.
    """
    if num_classes is not None and columns == num_classes + no_object_class:
        return num_classes
    return len(COCO_CATEGORY_IDS) if columns in PUBLISHED_COLUMNS else columns - no_object_class


def select_classes(name: str, tensor: Tensor, num_classes: int, no_object_class: bool) -> Tensor:
    """Published class columns -> those of the model.

    Args:
        name: of the tensor, for messages.
        tensor: (columns, ...) weight or bias.
        num_classes: classes of the model; with 80 the columns of COCO's categories are kept, in
            contiguous order.
        no_object_class: whether the last column is "no object" and is kept; of 91 none is.

    Returns:
        (num_classes or num_classes + 1, ...).

    Raises:
        InputError: if the columns do not fit ``num_classes``.
    """
    columns = tensor.shape[0]
    if columns == num_classes + int(no_object_class):
        return tensor
    if num_classes == len(COCO_CATEGORY_IDS) and columns in PUBLISHED_COLUMNS:
        keeps_last = no_object_class and columns == max(PUBLISHED_COLUMNS)
        keep = list(COCO_CATEGORY_IDS) + ([columns - 1] if keeps_last else [])
        return tensor[torch.tensor(keep)]
    raise InputError(
        f"tensor {name!r} has {columns} class columns, which fit neither num_classes={num_classes} "
        "nor COCO's ids; give num_classes as in the model's config"
    )


def with_category_id_columns(state_dict: Mapping[str, Tensor], columns: int) -> dict[str, Tensor]:
    """A state dict whose classifier has COCO's category ids as columns instead of 80 classes.

    Columns of an encoder's classifier, which are no classes but the first, stay in order; those behind them and columns
    that no class belongs to get zero weights and a bias of ``ABSENT_BIAS``, so that they
    are never predicted. "No object", the 81st column of a cross-entropy model, becomes the 92nd.

    Args:
        state_dict: under our names or the released ones.
        columns: 91 or 92.

    Raises:
        InputError: if there is no classifier, if its classes are not COCO's 80, or if "no object"
            has no column.
    """
    if columns not in PUBLISHED_COLUMNS:
        raise InputError(f"COCO's category ids take 91 or 92 class columns, got {columns}")
    names = [name for name in state_dict if name.startswith(CLASSIFIERS)]
    if not names:
        raise InputError("there is no classifier whose columns could be changed")
    spread = {name: _spread(name, state_dict[name], columns) for name in names}
    spread |= {
        name: _filled(name, tensor, columns, list(range(len(tensor))))
        for name, tensor in state_dict.items()
        if ".objectness." in name
    }
    return {**state_dict, **spread}


def _spread(name: str, tensor: Tensor, columns: int) -> Tensor:
    num_classes = len(COCO_CATEGORY_IDS)
    if tensor.shape[0] not in (num_classes, num_classes + 1):
        raise InputError(
            f"tensor {name!r} has {tensor.shape[0]} class columns; only COCO's {num_classes} "
            'contiguous classes have category ids (with "no object" 81 columns)'
        )
    targets = list(COCO_CATEGORY_IDS)
    if tensor.shape[0] > num_classes:
        if columns != max(PUBLISHED_COLUMNS):
            raise InputError(
                f'tensor {name!r} has a column for "no object", which takes 92 class columns, '
                f"not {columns}"
            )
        targets.append(columns - 1)
    return _filled(name, tensor, columns, targets)


def _filled(name: str, tensor: Tensor, columns: int, targets: list[int]) -> Tensor:
    fill = ABSENT_BIAS if name.endswith("bias") else 0.0
    spread = tensor.new_full((columns, *tensor.shape[1:]), fill)
    spread[torch.tensor(targets)] = tensor
    return spread
