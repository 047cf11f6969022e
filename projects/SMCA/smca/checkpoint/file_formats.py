"""A model's weights with their description, as the bytes of a file. The same input gives the same bytes."""

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from smca.description.model_info import INFO_KEY, ModelInfo
from smca.errors import InputError
from smca.whole_file import replacing

AUTHOR = "smca"
_TORCH_SUFFIXES = (".pth", ".pt")


def encode_pth(state_dict: Mapping[str, Tensor], info: ModelInfo) -> bytes:
    """``torch.save`` of {"model", "smca"}, loadable with ``weights_only``."""
    buffer = io.BytesIO()
    torch.save({"model": _own_storage(state_dict), INFO_KEY: info.to_json()}, buffer)
    return buffer.getvalue()


def encode_safetensors(state_dict: Mapping[str, Tensor], info: ModelInfo) -> bytes:
    """Tensors by name, with the description as the file's metadata.

    Raises:
        InputError: if safetensors is not installed.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise InputError("writing .safetensors needs `pip install safetensors`") from error
    # One entry only: safetensors writes more of them in any order.
    return save(_own_storage(state_dict), metadata={INFO_KEY: info.to_json()})


def encode_pkl(state_dict: Mapping[str, Tensor], info: ModelInfo) -> bytes:
    """Detectron2's own format of numpy arrays, whose names its checkpointer takes as they are."""
    arrays = {
        # numpy has no bfloat16.
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        for name, tensor in _own_storage(state_dict).items()
    }
    content = {
        "model": arrays,
        "__author__": AUTHOR,
        "matching_heuristics": False,
        INFO_KEY: info.to_json(),
    }
    return pickle.dumps(content, protocol=4)


ENCODERS: dict[str, Callable[[Mapping[str, Tensor], ModelInfo], bytes]] = {
    "pth": encode_pth,
    "safetensors": encode_safetensors,
    "pkl": encode_pkl,
}


def write_checkpoint(
    path: str | Path,
    state_dict: Mapping[str, Tensor],
    *,
    overwrite: bool = False,
    **entries: str,
) -> None:
    """Write ``{"model": state_dict, **entries}`` with ``torch.save``, whole or not at all.

    Raises:
        InputError: if the file exists and ``overwrite`` is not given, if its folder does not exist,
            or if its name does not end in .pth or .pt.
        OSError: if it cannot be written.
    """
    path = Path(path)
    check_writable(path, overwrite=overwrite)
    with replacing(path) as partial:
        torch.save({"model": dict(state_dict), **entries}, partial)


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Raise the InputErrors of :func:`write_checkpoint`."""
    if path.suffix not in _TORCH_SUFFIXES:
        raise InputError(f"output {path} must end in .pth or .pt, as torch.save's files do")
    if not path.parent.is_dir():
        raise InputError(f"output {path}: the folder {path.parent} does not exist")
    if path.exists() and not overwrite:
        raise InputError(
            f"output {path} exists already; name another file or overwrite it (--force)"
        )


def _own_storage(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies: a part of a larger tensor would bring all of it along."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state_dict.items()
    }
