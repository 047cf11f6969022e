"""Where a model computes, and in which number format."""

import torch
from torch import Tensor

from smca.errors import InputError

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Names and what autocast computes in."""


def find_device(device: str | torch.device, *, option: str = "device") -> torch.device:
    """ "auto" is "cuda" where there is one, else "cpu".

    Args:
        device: "auto", or what ``torch.device`` takes.
        option: what the user set it with, for messages.

    Raises:
        InputError: if the device is unknown or not there.
    """
    count = torch.cuda.device_count()
    if str(device) == "auto":
        return torch.device("cuda" if count else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InputError(
            f"{option} {device!r} is unknown; use auto, cpu, cuda or cuda:N"
        ) from error
    if found.type == "cuda" and (found.index or 0) >= count:
        seen = f"{count or 'no'} CUDA device{'s' if count > 1 else ''}"
        raise InputError(f"{option}={device}, but PyTorch sees {seen}; use {option}=cpu")
    # Of some kinds, such as "meta", PyTorch makes tensors but there is no machine.
    if found.type != "cuda" and (found.index or 0) >= _count(found.type):
        raise InputError(f"{option}={device}, but PyTorch sees no such device; use {option}=cpu")
    return found


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """What autocast computes in; None without it.

    Raises:
        InputError: if the precision is unknown or not for this device.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} must be one of {', '.join(PRECISIONS)}")
    if precision == "float16" and device.type == "cpu":
        raise InputError("precision float16 needs a GPU; use bfloat16 on a CPU")
    return PRECISIONS[precision]


def _count(kind: str) -> int:
    return getattr(getattr(torch, kind, None), "device_count", int)()


def copy_to(values: Tensor, device: torch.device) -> Tensor:
    """A copy on a device, for which the host does not wait: to a GPU it goes from memory that is pinned."""
    if device.type != "cuda":
        return values.to(device)
    if values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
