"""State dicts of checkpoint files: reading one, and writing it whole."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from smca.checkpoint.reading.model_file import read_model_file
from smca.errors import InputError
from smca.whole_file import replacing

_WRITTEN_SUFFIXES = (".pth", ".pt")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name of a checkpoint file, on the CPU; see :func:`read_model_file`.

    Raises:
        InputError: as there, and for a ``.pkl``, whose names are not those of a model of ours or a released one.
    """
    if Path(path).suffix == ".pkl" and Path(path).is_file():
        raise InputError(
            f"checkpoint {path}: Detectron2's .pkl files are not converted; its models load them "
            "as train.init_checkpoint"
        )
    return read_model_file(path).state_dict


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
    """Raises the ValueErrors of :func:`write_checkpoint`."""
    if path.suffix not in _WRITTEN_SUFFIXES:
        raise InputError(f"output {path} must end in .pth or .pt, as torch.save's files do")
    if not path.parent.is_dir():
        raise InputError(f"output {path}: the folder {path.parent} does not exist")
    if path.exists() and not overwrite:
        raise InputError(
            f"output {path} exists already; name another file or overwrite it (--force)"
        )
