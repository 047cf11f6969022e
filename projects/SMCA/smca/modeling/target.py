from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Target:
    """Ground truth of one image.

    Attributes:
        labels: (T,) int64 contiguous classes.
        boxes: (T, 4) as (cx, cy, w, h) in [0, 1] of the unpadded image.
    """

    labels: Tensor
    boxes: Tensor
