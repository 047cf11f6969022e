from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class FeatureLevel:
    """One scale of the image features, flattened to tokens in row-major order.

    Attributes:
        tokens: (B, N, C) features.
        position: (B, N, C) position encoding (with the level embedding where there are several levels).
        padding_mask: (B, N) bool, True where a cell is padding; None when no image of the batch is padded.
        size: (h, w) of the map, N = h * w.
        stride: pixels per cell.
    """

    tokens: Tensor
    position: Tensor
    padding_mask: Tensor | None
    size: tuple[int, int]
    stride: int

    def with_tokens(self, tokens: Tensor) -> "FeatureLevel":
        return replace(self, tokens=tokens)

    @property
    def attention_mask(self) -> Tensor | None:
        """(B, 1, 1, N) bool, True where a cell may be attended to; None when all may."""
        return None if self.padding_mask is None else ~self.padding_mask[:, None, None, :]
