"""Leaving mixed precision where half precision would be wrong."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager:
    """A context without autocast on the device of ``like``."""
    if like.is_meta:
        return nullcontext()  # shapes only; there is no autocast for them
    return torch.autocast(like.device.type, enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
