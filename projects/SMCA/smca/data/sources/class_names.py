"""Which classes an experiment has, their ids in its data, and the model's number of them."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.utils.registry import locate
from omegaconf import DictConfig

from smca.description.model_fields import NUM_CLASSES_FIELDS, find_field
from smca.errors import InputError

from .custom_dataset import load_custom_dataset, register_custom_dataset
from .detection_dataset import as_names, class_ids_of, class_names_of


def class_names(cfg: DictConfig) -> tuple[str, ...]:
    """Names of classes 0 to K-1: those of the data set to train on or, where it cannot be read, to evaluate on.

    An evaluation needs no training data, and a training without any stops when it loads them.

    Raises:
        InputError: if neither can be read.
    """
    return _of_first_readable(cfg, class_names_of)


def class_ids(cfg: DictConfig) -> tuple[int | str, ...]:
    """Category ids of the same classes in the same data set; empty unless each has one that is a number or text.

    Raises:
        InputError: as :func:`class_names`.
    """
    ids = _of_first_readable(cfg, class_ids_of)
    return ids if set(map(type, ids)) in ({int}, {str}) else ()


def fill_num_classes(cfg: DictConfig) -> None:
    """Set the model's number of classes, in place, where the config leaves it null.

    Raises:
        InputError: as :func:`class_names`.
    """
    found = find_field(cfg.model, NUM_CLASSES_FIELDS)
    if found is not None and found[0][found[1]] is None:
        found[0][found[1]] = len(class_names(cfg))


def _of_first_readable(cfg: DictConfig, read: Callable[[str], tuple]) -> tuple:
    errors = []
    for split in ("train", "test"):
        node = cfg.dataloader[split].dataset
        try:
            _register(node)
            return read(as_names(node.names)[0])
        except InputError as error:
            errors.append(error)
    raise errors[0]


def _register(node: DictConfig) -> None:
    """The data of a config exists once it is registered."""
    if _is_custom(node):
        register_custom_dataset(
            node.names,
            json_file=node.json_file,
            image_root=node.image_root,
            field=node.field,
            classes_from=node.get("classes_from"),
            split=node.get("split"),
        )


def _is_custom(node: DictConfig) -> bool:
    target = node.get("_target_")
    return (locate(target) if isinstance(target, str) else target) is load_custom_dataset
