"""What travels between the parts of a model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

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


@dataclass(frozen=True)
class Target:
    """Ground truth of one image.

    Attributes:
        labels: (T,) int64 contiguous classes.
        boxes: (T, 4) as (cx, cy, w, h) in [0, 1] of the unpadded image.
    """

    labels: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class Queries:
    """What a decoder starts from.

    Attributes:
        content: (B, Q, C).
        position: (B, Q, C), added to the content where queries attend.
        references: (B, Q, 2 or 4) logits of points or boxes that the queries start at, for decoders that use them.
        attention_mask: (Q, Q) bool, True where a query (row) may attend to another (column); None where all may.
        split: takes what the heads give for all Q queries apart, for queries that are there in training only: the
            outputs to be matched, and "more" of them, a :class:`~smca.modeling.MoreOutputs` by name.
    """

    content: Tensor
    position: Tensor
    references: Tensor | None = None
    attention_mask: Tensor | None = None
    split: Callable[[dict[str, Any]], dict[str, Any]] | None = None


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
