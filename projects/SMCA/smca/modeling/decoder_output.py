from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from .queries import Queries


@dataclass(frozen=True)
class DecoderOutput:
    """What heads predict from.

    Attributes:
        hidden: (L, B, Q, C) normalised output of every layer.
        image_sizes: (B, 2) unpadded (width, height) in pixels.
        references: logits that boxes are predicted relative to, points (L or 1, B, Q, 2) as (x, y) or boxes
            (L or 1, B, Q, 4) as (cx, cy, w, h), 1 where all layers share them; None for plain DETR.
        queries: what the decoder started from.
        priors: what the modulation gave for every layer, such as :class:`~smca.modeling.SpatialPrior`; empty without.
    """

    hidden: Tensor
    image_sizes: Tensor
    references: Tensor | None = None
    queries: Queries | None = None
    priors: tuple[Any, ...] = ()

    def last_layer(self) -> "DecoderOutput":
        """The same with L = 1."""
        references = None if self.references is None else self.references[-1:]
        return replace(
            self, hidden=self.hidden[-1:], references=references, priors=self.priors[-1:]
        )
