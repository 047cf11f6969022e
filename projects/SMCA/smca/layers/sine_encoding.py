import math

import torch
from torch import Tensor

from smca.errors import InputError

from .precision import at_least_float32


def sine_position_encoding(
    padding_mask: Tensor,
    embed_dim: int,
    *,
    temperature: float = 10000.0,
    eps: float = 1e-6,
    shift: float = 0.0,
) -> Tensor:
    """DETR's fixed two-dimensional sine encoding.

    A cell's coordinate is its cumulative count among the valid cells of its column or row (so it starts at 1),
    normalised to 2 pi over the valid cells. The first half of the channels encodes y, the second x; inside a
    half even channels are sines, odd ones cosines.

    Args:
        padding_mask: (B, h, w) bool, True where a cell is padding.
        embed_dim: C, a multiple of 4.
        temperature: ratio of the longest to the shortest wave.
        eps: keeps a map without valid cells finite.
        shift: added to the count: -0.5 puts coordinates into the middle of the cells, as Deformable DETR does.

    Returns:
        (B, C, h, w) float32. Values in padded cells have no meaning.

    Raises:
        InputError: if ``embed_dim`` is not a multiple of 4.
    """
    if embed_dim % 4:
        raise InputError(f"embed_dim must be a multiple of 4 for sine positions, got {embed_dim}")
    per_axis = embed_dim // 2
    valid = ~padding_mask
    frequency = temperature ** (
        -2 * torch.arange(per_axis // 2, dtype=torch.float32, device=padding_mask.device) / per_axis
    )

    def encode_axis(dim: int) -> Tensor:
        count = valid.cumsum(dim, dtype=torch.float32)
        total = count.narrow(dim, count.shape[dim] - 1, 1)
        angle = ((count + shift) / (total + eps) * (2 * math.pi))[..., None] * frequency
        return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)

    return torch.cat((encode_axis(1), encode_axis(2)), dim=-1).permute(0, 3, 1, 2)


def sine_coordinate_encoding(
    coordinates: Tensor, channels: int, *, temperature: float = 10000.0
) -> Tensor:
    """Sine code of single coordinates, as :func:`sine_position_encoding` has it for cells.

    Args:
        coordinates: (..., P) in [0, 1].
        channels: of each coordinate, an even number; even ones are sines, odd ones cosines.
        temperature: ratio of the longest to the shortest wave.

    Returns:
        (..., P * channels), coordinates behind each other in the order given, at least float32.
    """
    coordinates = at_least_float32(coordinates)
    steps = torch.arange(channels // 2, dtype=coordinates.dtype, device=coordinates.device)
    frequency = temperature ** (-2 * steps / channels)
    angle = (2 * math.pi * coordinates)[..., None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-3)
