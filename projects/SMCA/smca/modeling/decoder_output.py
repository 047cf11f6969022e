from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from .queries import Queries


@dataclass(frozen=True)
class DecoderOutput:
    """What heads predict from.

    Attributes:
        hidden: (L, B, Q, C) output of every layer, normalised by the decoder's norm if it has one.
        image_sizes: (B, 2) unpadded (width, height) in pixels.
        references: logits that boxes are predicted relative to, points (L or 1, B, Q, 2) as (x, y) or boxes
            (L or 1, B, Q, 4) as (cx, cy, w, h), 1 where all layers share them; None for plain DETR.
        boxes: (L, B, Q, 4) logits of boxes that a refining decoder has predicted already; None where heads do it.
        queries: what the decoder started from.
        priors: what the modulation gave for every layer, such as :class:`~smca.modeling.SpatialPrior`; empty without.
    """

    hidden: Tensor
    image_sizes: Tensor
    references: Tensor | None = None
    boxes: Tensor | None = None
    queries: Queries | None = None
    priors: tuple[Any, ...] = ()

    def last_layer(self) -> "DecoderOutput":
        """The same with L = 1."""
        last = {
            name: None if values is None else values[-1:]
            for name, values in (("references", self.references), ("boxes", self.boxes))
        }
        return replace(self, hidden=self.hidden[-1:], priors=self.priors[-1:], **last)
