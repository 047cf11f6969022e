"""The padding of a batch of images of several sizes.

Alone, an image ends where convolutions pad with zeros. In a batch there are zeros beyond its right and bottom border,
too, but in the pixels only: after the first norm they are none any more, and windows at the border look into that.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smca.device import copy_to

from .precision import at_least_float32, full_precision


def padding_mask(batch: Tensor, image_sizes: Sequence[tuple[int, int]]) -> Tensor | None:
    """Where the images of a batch are padded.

    Args:
        batch: (B, C, height, width) padded images.
        image_sizes: B sizes (height, width) without padding.

    Returns:
        (B, height, width) bool, True where the batch is padding; None if no image is padded.
    """
    height, width = batch.shape[-2:]
    if all(tuple(size) == (height, width) for size in image_sizes):
        return None
    # One copy to the device, not one per image.
    return mask_of_sizes(batch, copy_to(torch.tensor(image_sizes), batch.device))


def mask_of_sizes(batch: Tensor, sizes: Tensor) -> Tensor:
    """:func:`padding_mask` of sizes (B, 2) int64, as (height, width), whether an image is padded or not."""
    height, width = batch.shape[-2:]
    rows = torch.arange(height, device=sizes.device) >= sizes[:, :1]
    columns = torch.arange(width, device=sizes.device) >= sizes[:, 1:]
    return rows[:, :, None] | columns[:, None, :]


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, height, width) bool in pixels -> (B, h, w) bool of a feature map, sampled to the nearest pixel.

    Where the strides divide height and width, the valid cells are as many as the image alone has.
    """
    return F.interpolate(mask[:, None].float(), size=size, mode="nearest")[:, 0].bool()


def norm_of_valid(norm: nn.GroupNorm, features: Tensor, padding_mask: Tensor | None) -> Tensor:
    """A group norm whose mean and variance are those of each image's own cells, as if it were alone.

    Args:
        norm: over C channels.
        features: (B, C, h, w).
        padding_mask: (B, height, width) bool in pixels, True where padded; None when no image is.
    """
    if padding_mask is None:
        return norm(features)
    with full_precision(features):
        groups = at_least_float32(features).unflatten(1, (norm.num_groups, -1))
        valid = ~resize_mask(padding_mask, features.shape[-2:])[:, None, None]
        # All but image and group.
        dims = (2, 3, 4)
        count = valid.sum(dims, keepdim=True) * groups.shape[2]
        mean = (groups * valid).sum(dims, keepdim=True) / count
        variance = ((groups - mean).square() * valid).sum(dims, keepdim=True) / count
        normal = ((groups - mean) * (variance + norm.eps).rsqrt()).flatten(1, 2)
        weight, bias = (values[:, None, None] for values in (norm.weight, norm.bias))
        return normal * weight + bias


class Border:
    """Keeps what convolutions see beyond the border of each image of a padded batch at zero."""

    def __init__(self, mask: Tensor):
        """
        Args:
            mask: (B, height, width) bool in pixels, True where padded; height and width are multiples of the strides.
        """
        self._mask = mask
        self._resized: list[Tensor] = []

    def zero_(self, features: Tensor) -> Tensor:
        """(B, C, h, w) features with zeros in padded cells, in place."""
        return features.masked_fill_(self._at(features.shape[-2:]), 0.0)

    def _at(self, size: torch.Size) -> Tensor:
        # Compared one by one: while a graph is traced sizes are expressions, which have no hash.
        for resized in reversed(self._resized):
            if resized.shape[-2:] == size:
                return resized
        self._resized.append(resize_mask(self._mask, size)[:, None])
        return self._resized[-1]
