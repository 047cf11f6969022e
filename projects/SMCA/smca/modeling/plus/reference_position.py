import math

import torch
from torch import Tensor, nn

from smca.errors import InputError
from smca.layers import MLP, sine_coordinate_encoding


class ReferencePosition(nn.Module):
    """Position of each query from where it is: a sine encoding of its reference, through an MLP (DAB-DETR).

    Each coordinate is encoded as the axes of the image are (:func:`smca.layers.sine_position_encoding`): the first
    C / 2 channels are y's, then come x's and, of boxes, width's and height's.
    """

    def __init__(self, *, embed_dim: int, temperature: float = 20.0, num_coordinates: int = 4):
        """
        Args:
            embed_dim: C, a multiple of 4.
            temperature: ratio of the longest to the shortest wave; DETR's 10,000 gives channels that hardly change
                over an image, DAB-DETR's 20 does not.
            num_coordinates: of the references, 2 for points and 4 for boxes.

        Raises:
            InputError: for a number of channels that cannot be divided so, or a temperature that is not positive.
        """
        super().__init__()
        if embed_dim % 4:
            raise InputError(f"query_position.embed_dim must be a multiple of 4, got {embed_dim}")
        if not 0 < temperature < math.inf:
            raise InputError(f"query_position.temperature must be positive, got {temperature}")
        self.temperature = temperature
        self.per_coordinate = embed_dim // 2
        self.mlp = MLP(num_coordinates * self.per_coordinate, embed_dim, embed_dim, num_layers=2)

    def forward(self, layer: int, target: Tensor, reference: Tensor) -> Tensor:
        """Positions of queries that are where the references say.

        Args:
            layer, target: the decoder layer's index and input, not looked at.
            reference: (B, Q, 2 or 4) logits.

        Returns:
            (B, Q, C).
        """
        return self.mlp(self.encode(reference.sigmoid()))

    def encode(self, coordinates: Tensor) -> Tensor:
        """(..., 2 or 4) as (x, y, w, h) in [0, 1] -> (..., 2 or 4 times C / 2), at least float32."""
        y_first = torch.cat([coordinates[..., 1:2], coordinates[..., :1], coordinates[..., 2:]], -1)
        return sine_coordinate_encoding(y_first, self.per_coordinate, temperature=self.temperature)
