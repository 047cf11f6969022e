"""Widths and heights relative to a side in pixels instead of the image: a shift of their logits."""

import math

from torch import Tensor
from torch.nn import functional as F

from smca.errors import InputError


def check_size_reference(side: float | None, owner: str) -> None:
    """Refuse what is no side.

    Raises:
        InputError: naming the field below ``owner``.
    """
    if side is not None and not (isinstance(side, int | float) and 0 < side < math.inf):
        raise InputError(f"{owner}.size_reference is {side!r}, it must be a side in pixels or None")


def size_shift(side: float, image_sizes: Tensor) -> Tensor:
    """(B, 1, 4) to be added to logits of boxes (cx, cy, w, h).

    Args:
        side: in pixels.
        image_sizes: (B, 2) unpadded (width, height) in pixels.
    """
    return F.pad((side / image_sizes).log(), (2, 0))[:, None]
