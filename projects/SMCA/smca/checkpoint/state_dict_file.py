"""Checkpoint files: reading them without running what they may hold, and writing them whole."""

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_WRITTEN_SUFFIXES = (".pth", ".pt")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name of a checkpoint file, on the CPU.

    Args:
        path: a file of ``torch.save`` (a state dict, or one under "model" or "state_dict") or of
            safetensors. No code in it is run. A prefix "module." of all names, left by a
            distributed wrapper, is taken off.

    Raises:
        ValueError: if there is no such file, or it cannot be read, or holds no state dict.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"checkpoint {path} is a folder; name the file in it")
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist")
    if path.suffix == ".pkl":
        raise ValueError(
            f"checkpoint {path}: Detectron2's .pkl files are not converted; its models load them "
            "as train.init_checkpoint"
        )
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    state = content
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            state = content[key]
            break
    if (
        not isinstance(state, Mapping)
        or not state
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    ):
        raise ValueError(
            f"checkpoint {path} holds no state dict; expected tensors by name, at the top or under "
            "'model'"
        )
    if all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return dict(state)


def write_checkpoint(
    path: str | Path,
    state_dict: Mapping[str, Tensor],
    *,
    overwrite: bool = False,
    **entries: str,
) -> None:
    """Write ``{"model": state_dict, **entries}`` with ``torch.save``, whole or not at all.

    Raises:
        ValueError: if the file exists and ``overwrite`` is not given, if its folder does not exist,
            or if its name does not end in .pth or .pt.
        OSError: if it cannot be written.
    """
    path = Path(path)
    check_writable(path, overwrite=overwrite)
    partial = path.with_name(f"{path.name}.part")
    try:
        torch.save({"model": dict(state_dict), **entries}, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Raises the ValueErrors of :func:`write_checkpoint`."""
    if path.suffix not in _WRITTEN_SUFFIXES:
        raise ValueError(f"output {path} must end in .pth or .pt, as torch.save's files do")
    if not path.parent.is_dir():
        raise ValueError(f"output {path}: the folder {path.parent} does not exist")
    if path.exists() and not overwrite:
        raise ValueError(
            f"output {path} exists already; name another file or overwrite it (--force)"
        )


def _read_torch(path: Path) -> object:
    # DETR's training script stores its command line beside the model, a plain record.
    with torch.serialization.safe_globals([argparse.Namespace]):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            reason = _reason(error)
            raise ValueError(f"{path} cannot be read as a checkpoint: {reason}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ValueError(f"{path}: reading it needs `pip install safetensors`") from error
    try:
        return load_file(path)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as safetensors: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """One line; PyTorch's own explanation of a refused pickle is a page of advice."""
    text = str(error)
    if match := re.search(r"Unsupported (?:global|class|operand)[^\n]*", text):
        return f"it holds more than tensors ({match[0].split(' was not ')[0]})"
    if "Weights only load failed" in text or isinstance(error, LookupError | EOFError):
        return "it is cut off or no file of torch.save"
    return text.splitlines()[0].partition(". ")[0] if text else type(error).__name__
