from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from smca.errors import InputError

from ..records import FeatureLevel
from .level_tokens import valid_ratios


@dataclass(frozen=True)
class SamplingReference:
    """Where the queries of one decoder layer look from; what deformable co-attention takes for a prior.

    Attributes:
        points: per level a point (B, Q, S, 2) or a box (B, Q, S, 4) in [0, 1] of the padded map.
    """

    points: Tensor


class ReferenceSampling(nn.Module):
    """In a modulation's place: hands each layer the references, of the image, as those of the padded maps."""

    def forward(
        self,
        layer: int,
        located_query: Tensor,
        previous: Any,
        levels: Sequence[FeatureLevel],
        image_sizes: Tensor,
        reference: Tensor | None = None,
    ) -> SamplingReference:
        """What the layer's attention needs to know of where its queries are.

        Args:
            layer, located_query, previous, image_sizes: not looked at.
            levels: S feature levels, for how much of them is padding.
            reference: (B, Q, 2 or 4) logits.

        Raises:
            InputError: if the queries have no references.
        """
        if reference is None:
            raise InputError(
                "decoder.queries gives no references, from which deformable attention samples"
            )
        return SamplingReference(on_padded_maps(reference.sigmoid(), valid_ratios(levels)))


def on_padded_maps(reference: Tensor, ratios: Tensor) -> Tensor:
    """(B, Q, 2 or 4) in [0, 1] of the image, (B or 1, S, 2) valid shares -> (B, Q, S, 2 or 4) of the padded maps."""
    ratios = torch.cat([ratios] * (reference.shape[-1] // 2), -1)
    return reference[:, :, None] * ratios[:, None]
