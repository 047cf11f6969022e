"""What a checkpoint says about itself, so that it can be used without the config it was trained with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import detectron2
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from smca.errors import InputError
from smca.text import clip, printable
from smca.version import __version__

from .model_data import build_model_from_data, lazy_model_as_data
from .model_fields import num_classes_of
from .model_upgrade import up_to_date

INFO_KEY = "smca"
"""Where it stands in a checkpoint: a string of JSON beside "model", in safetensors an entry of the metadata."""


_LARGEST_SIZE = 1 << 12
"""Pixels; more is no size of an image, but a way to exhaust the memory."""

_LARGEST_ID, _LONGEST_ID = 1 << 53, 100
"""Numbers that json's readers agree on, and characters."""

_KINDS = {
    "class_names": list,
    "class_ids": list,
    "min_size_test": int,
    "max_size_test": int,
    "config_name": str,
    "metrics": dict,
    "versions": dict,
}


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Plain data only; nothing here is code, and ``model`` is checked before it is built.

    Attributes:
        model: the ``model`` node of the LazyConfig as plain containers, every ``_target_`` a dotted name.
        class_names: of the classes 0 .. K-1; empty if they are not known.
        class_ids: the category ids that the data set of the training has for them, all numbers or all text; empty if it
            has none, or they are not known.
        min_size_test, max_size_test: pixels that the short and the long side of an image are resized to.
        config_name: zoo name or file of the experiment, for people.
        metrics: flat names such as "bbox/AP", in percent.
        versions: of the packages that made the checkpoint.
    """

    model: dict[str, Any]
    class_names: tuple[str, ...] = ()
    min_size_test: int = 800
    max_size_test: int = 1333
    config_name: str = ""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    class_ids: tuple[int | str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelInfo:
        """What :meth:`to_json` wrote, perhaps in an earlier or a later version.

        Raises:
            InputError: if the text is no json of :meth:`to_json`.
        """
        try:
            content = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"its description of the model is no json: {error}") from error
        if not isinstance(content, dict):
            raise InputError("its description of the model is no json object")
        known = {field.name: field for field in dataclasses.fields(cls)}
        # A later version may say more; what this one does not know it need not read.
        content = {key: value for key, value in content.items() if key in known}
        if not isinstance(content.get("model"), dict):
            raise InputError("its description of the model has no 'model'")
        content["model"] = up_to_date(content["model"])
        for name, kinds in _KINDS.items():
            if name in content and not isinstance(content[name], kinds):
                said = clip(repr(content[name]), 80)
                raise InputError(f"its description of the model has {name} {said}")
        for name in ("min_size_test", "max_size_test"):
            if not 1 <= content.get(name, 1) <= _LARGEST_SIZE:
                raise InputError(f"its description of the model has {name} {content[name]}")
        names = content.get("class_names", ())
        content["class_names"] = tuple(printable(str(name)) for name in names)
        ids = tuple(content.get("class_ids", ()))
        if ids and not _are_ids(ids, content["class_names"], content["model"]):
            raise InputError(
                f"its description of the model has class_ids {clip(repr(ids), 80)}, which are not an id for each class"
            )
        content["class_ids"] = ids
        content["config_name"] = printable(content.get("config_name", ""))
        content["metrics"] = {
            printable(str(name)): value
            for name, value in content.get("metrics", {}).items()
            if isinstance(value, int | float) and abs(value) < 1e9
        }
        return cls(**content)


def _are_ids(ids: Sequence, class_names: Sequence[str], model: Mapping) -> bool:
    """Whether they are as many different ids of one type as there are classes, that other programs can read."""
    classes, number = {len(class_names)}, num_classes_of(model)
    if type(number) is int:
        classes.add(number)
    is_number = all(type(i) is int and abs(i) < _LARGEST_ID for i in ids)
    is_text = all(type(i) is str and len(i) <= _LONGEST_ID and i == printable(i) for i in ids)
    return (is_number or is_text) and len(set(ids)) == len(ids) and classes == {len(ids)}


def model_info_from_lazy(
    cfg: DictConfig,
    *,
    config_name: str = "",
    class_names: Sequence[str] = (),
    class_ids: Sequence[int | str] = (),
) -> ModelInfo:
    """Describe an experiment's model.

    Args:
        cfg: an experiment with ``model``; see :func:`image_sizes_test` for what the sizes are.
        config_name: zoo name or file of the experiment.
        class_names: of classes 0 .. K-1.
        class_ids: their category ids in the data set, none if one of them has none. Ids that could not be read again
            are left out.
    """
    min_size, max_size = image_sizes_test(cfg)
    model = lazy_model_as_data(cfg.model)
    return ModelInfo(
        model=model,
        class_names=tuple(map(str, class_names)),
        min_size_test=min_size,
        max_size_test=max_size,
        config_name=config_name,
        versions=package_versions(),
        class_ids=tuple(class_ids) if _are_ids(class_ids, class_names, model) else (),
    )


def image_sizes_test(cfg: DictConfig) -> tuple[int, int]:
    """Pixels that the short and at most the long side of a test image are resized to.

    They are those of the first augmentation of ``dataloader.test`` that has both, 800 and 1333 without one. A mapper
    may wrap another ``mapper``.
    """
    mapper = OmegaConf.select(cfg, "dataloader.test.mapper")
    while isinstance(mapper, DictConfig):
        for augmentation in mapper.get("augmentations") or ():
            short, long = augmentation.get("short_edge_length"), augmentation.get("max_size")
            if short is not None and long is not None:
                return int(short if isinstance(short, int) else max(short)), int(long)
        mapper = mapper.get("mapper")
    return ModelInfo.min_size_test, ModelInfo.max_size_test


def build_model_from_info(info: ModelInfo) -> nn.Module:
    """The described model, on the CPU, in evaluation mode, with weights as constructed.

    Raises:
        InputError: if the description names what no model here is made of (see
            :func:`~smca.description.allowed_targets.allow_target`), or its arguments do not fit.
    """
    return build_model_from_data(info.model).eval()


def package_versions() -> dict[str, str]:
    """Of what decides how a model computes."""
    try:
        installed = metadata.version("detectron2")
    except metadata.PackageNotFoundError:
        installed = detectron2.__version__
    return {"smca": __version__, "torch": torch.__version__, "detectron2": installed}
