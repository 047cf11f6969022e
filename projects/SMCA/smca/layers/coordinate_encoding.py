import math

import torch
from torch import Tensor

from .precision import at_least_float32


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
