import torch
from torch import Tensor

from .separable_bias import SeparableBias


def separable_log_prior(
    center: Tensor, scale: Tensor, size: tuple[int, int], *, beta: float = 8.0
) -> SeparableBias:
    """Logarithm of the Gaussian-like spatial prior, equation (4), of every query and head.

    The released parametrisation: with d the distance from the centre to a cell, in cells,

        log G = -(d_x^2 s_x^2 + d_y^2 s_y^2) / beta

    which is the paper's equation with s replaced by 1 / s. It has no singularity at s = 0, where it is the
    uniform prior.

    Args:
        center: (B, Q, H, 2) centres as (x, y) in cells; cell (0, 0) has coordinate 0, with no half-cell shift.
            H = 1 is the head-shared prior.
        scale: (B, Q, H, 2) inverse widths as (s_x, s_y), in 1 / cells.
        size: (h, w) of the feature map.
        beta: bandwidth; larger is wider.

    Returns:
        Terms (B, H, Q, h) and (B, H, Q, w), at least float32, <= 0, for attention logits.
    """
    dtype = torch.promote_types(center.dtype, torch.float32)
    center, scale = (t.to(dtype).transpose(1, 2) for t in (center, scale))
    # One function for both axes: columns are axis 0 (x), rows are axis 1 (y).
    terms = []
    for axis, cells in ((1, size[0]), (0, size[1])):
        grid = torch.arange(cells, dtype=dtype, device=center.device)
        distance = (grid - center[..., axis : axis + 1]) * scale[..., axis : axis + 1]
        terms.append(distance.square() / -beta)
    return SeparableBias(*terms)


def gaussian_log_prior(
    center: Tensor, scale: Tensor, size: tuple[int, int], *, beta: float = 8.0
) -> Tensor:
    """:func:`separable_log_prior` of every cell, (B, H, Q, h * w)."""
    return separable_log_prior(center, scale, size, beta=beta).dense()
