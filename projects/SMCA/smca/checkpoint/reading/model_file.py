"""Reading a checkpoint with what it says about its model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smca.checkpoint.conversion.class_columns import COCO_CLASS_NAMES
from smca.description.model_info import INFO_KEY, ModelInfo
from smca.errors import InputError
from smca.text import printable

from .fetch import fetch_weights
from .file_content import read_content

_DTYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
_SHARED_BYTES = 1 << 24
"""A head that all layers share is stored under several names."""

CONVERTED_KEY = "converted_from"
"""Beside "model" in what convert_file writes: the name of the released file, whose classes are COCO's."""


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """The tensors of a checkpoint, and what it says about them.

    Attributes:
        path: of the file.
        state_dict: tensors by name, on the CPU.
        ema: their moving averages, where a training kept them.
        info: how to build and use the model, if the file says so.
        class_names: of its classes, from ``info``; COCO's for a converted release.
        author: who says to have made a Detectron2-style ``.pkl``; "Caffe2" for one of Detectron1 or Caffe2.
        matching_heuristics: whether Detectron2 finds the model's names by likeness, as for its ImageNet files.
    """

    path: str
    state_dict: dict[str, Tensor]
    ema: dict[str, Tensor] | None = None
    info: ModelInfo | None = None
    class_names: tuple[str, ...] = ()
    author: str = ""
    matching_heuristics: bool = False

    @property
    def best_state_dict(self) -> dict[str, Tensor]:
        """The moving averages where there are any, else the tensors themselves."""
        return self.state_dict if self.ema is None else {**self.state_dict, **self.ema}


def read_model_file(source: str | Path) -> ModelFile:
    """Read a checkpoint without running what it may hold.

    Args:
        source: what :func:`~smca.checkpoint.reading.fetch.fetch_weights` takes, a
            ``.safetensors`` file, a Detectron2-style ``.pkl`` of numpy arrays, or a file of ``torch.save`` (a state
            dict, or one under "model", "state_dict" or "model_state"). A prefix "module." of all names, left by a
            distributed wrapper, is taken off.

    Raises:
        InputError: if there is no such file, or it cannot be fetched or read, or holds no state dict, or does not say
            in a readable way what its model is.
    """
    path = Path(fetch_weights(os.fspath(source)))
    content = read_content(path)
    if path.suffix == ".pkl":
        return _from_pickle(path, content)
    state, info = _tensors(_state_of(content), path), _info_of(content, path)
    names = () if info is None else info.class_names
    if not names and isinstance(content, Mapping) and CONVERTED_KEY in content:
        names = _coco_names(state)
    return ModelFile(
        path=str(path),
        state_dict=state,
        ema=_ema_of(content, path),
        info=info,
        class_names=names,
    )


def _from_pickle(path: Path, content: Any) -> ModelFile:
    """As Detectron2's checkpointer understands it: its own format has an author, all others are Caffe2's."""
    if not isinstance(content, Mapping):
        raise _no_state_dict(path)
    if "model" in content and "__author__" in content:
        author, state = str(content["__author__"]), content["model"]
        heuristics = bool(content.get("matching_heuristics", False))
    else:
        author, state, heuristics = "Caffe2", content.get("blobs", content), True
        if isinstance(state, Mapping):
            state = {k: v for k, v in state.items() if not str(k).endswith("_momentum")}
    info = _info_of(content, path)
    return ModelFile(
        path=str(path),
        state_dict=_tensors(state, path),
        info=info,
        class_names=() if info is None else info.class_names,
        author=author,
        matching_heuristics=heuristics,
    )


def _state_of(content: Any) -> Any:
    for key in ("model", "state_dict", "model_state"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            return content[key]
    return content


def _ema_of(content: Any, path: Path) -> dict[str, Tensor] | None:
    if not isinstance(content, Mapping) or not isinstance(content.get("ema"), Mapping):
        return None
    return _tensors(_state_of(content["ema"]), path)


def _info_of(content: Any, path: Path) -> ModelInfo | None:
    text = content.get(INFO_KEY) if isinstance(content, Mapping) else None
    if text is None or isinstance(text, Tensor):
        return None
    try:
        return ModelInfo.from_json(text)
    except InputError as error:
        raise InputError(f"checkpoint {path}: {error}") from error


def _coco_names(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """COCO's, if there is a row for each of them, with or without "no object"."""
    classifier = state.get("heads.classifier.bias")
    number = len(COCO_CLASS_NAMES)
    has_rows = classifier is not None and len(classifier) in (number, number + 1)
    return COCO_CLASS_NAMES if has_rows else ()


def _tensors(state: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(state, Mapping) or not state:
        raise _no_state_dict(path)
    tensors = {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            value = _as_tensor(value)
        if value is None or not isinstance(name, str):
            raise _no_state_dict(path)
        problem = _oddity(name, value)
        if problem is not None:
            raise InputError(f"checkpoint {path}: the tensor {printable(name)[:100]} {problem}")
        tensors[name] = value
    if _are_copies(tensors):
        raise InputError(
            f"checkpoint {path}: its tensors claim several times the values that it holds, since they share them; save "
            "a .clone() of each"
        )
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _are_copies(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors lie in the same bytes over and over, more than weights that several layers share do."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors.values()}
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return claimed > 2 * sum(storage.nbytes() for storage in storages.values()) + _SHARED_BYTES


def _oddity(name: str, tensor: Tensor) -> str | None:
    """Why a tensor is none that a model's state holds."""
    if printable(name) != name:
        return "has a name with control characters"
    if tensor.is_meta:
        return "has a shape, but no values (it is on the meta device)"
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"is not dense ({'nested' if tensor.is_nested else tensor.layout}); save it with .to_dense()"
    if tensor.is_quantized:
        return "is quantised; save it with .dequantize()"
    if tensor.dtype not in _DTYPES:
        return f"holds {str(tensor.dtype).removeprefix('torch.')} values, which no model here has"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "claims more values than the file holds (it is expanded); save a .clone() of it"
    return None


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Name of a tensor that holds NaN or infinity; a model with it predicts nothing."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None


def _as_tensor(value: Any) -> Tensor | None:
    """A numpy array or number as a tensor; None for anything else."""
    if type(value).__module__ != "numpy":
        return None
    try:
        # PyTorch has one order of bytes only.
        return torch.as_tensor(value.astype(value.dtype.newbyteorder("=")))
    except (TypeError, ValueError):
        return None


def _no_state_dict(path: Path) -> InputError:
    return InputError(
        f"checkpoint {path} holds no state dict; expected tensors by name, at the top or under 'model'"
    )
