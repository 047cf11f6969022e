from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SeparableBias:
    """Logits that are added in attention to a map's cells: one of the cell's row and one of its column.

    Attributes:
        of_row: (B, H or 1, Q, h).
        of_column: (B, H or 1, Q, w).
        allowed: (B, 1, 1, h * w) bool, True where a cell may be attended to; None where all may.
    """

    of_row: Tensor
    of_column: Tensor
    allowed: Tensor | None = None

    @property
    def terms(self) -> tuple[Tensor, Tensor]:
        return self.of_row, self.of_column

    @property
    def requires_grad(self) -> bool:
        return any(term.requires_grad for term in self.terms)

    def dense(self) -> Tensor:
        """(B, H or 1, Q, h * w), row by row, minus infinity where a cell may not be attended to."""
        bias = (self.of_row[..., :, None] + self.of_column[..., None, :]).flatten(-2)
        return bias if self.allowed is None else bias.masked_fill(~self.allowed, float("-inf"))


def dense_bias(bias: Tensor | SeparableBias | None) -> Tensor | None:
    """A bias of either form as a tensor."""
    return bias.dense() if isinstance(bias, SeparableBias) else bias
