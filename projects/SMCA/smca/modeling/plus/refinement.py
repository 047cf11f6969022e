import math

from torch import Tensor, nn

from smca.layers import MLP

_FARTHEST = math.log(1e5)
"""References nearer to a border of the image than 1e-5 count as that far from it, so that every step stays finite."""


class BoxRefinement(nn.Module):
    """Boxes predicted as a step from where each query is, and where it goes on from: iterative refinement.

    With r the reference of a layer and h its output, both boxes of equation (12) being logits:

        box = r + MLP(h)

    which is sigmoid(MLP(h) + logit(.)) of the reference's box. The next layer's reference is this box without
    gradient, so that each layer learns its own step (Deformable DETR). Looking forward twice (DINO) it keeps the
    gradient of this one step, so that it learns from its own layer's loss and the next one's.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        num_layers: int,
        share_layers: bool = True,
        look_forward_twice: bool = False,
        initial_size: float = 0.0,
    ):
        """
        Args:
            embed_dim: C.
            num_layers: decoder layers.
            share_layers: one MLP for all layers, or one for each.
            look_forward_twice: as above.
            initial_size: what the first layer adds to the logits of width and height at the start, which says how
                large the boxes of points are; -2 is a side of 0.12.
        """
        super().__init__()
        self.initial_size = initial_size
        self.look_forward_twice = look_forward_twice
        self.steps = nn.ModuleList(
            MLP(embed_dim, embed_dim, 4, num_layers=3)
            for _ in range(1 if share_layers else num_layers)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The last linear layers are 0: boxes start as the references, but for the size that points are given."""
        for step in self.steps:
            nn.init.zeros_(step.layers[-1].weight)
            nn.init.zeros_(step.layers[-1].bias)
        nn.init.constant_(self.steps[0].layers[-1].bias[2:], self.initial_size)

    def forward(self, layer: int, hidden: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Move the references by a step that the layer's output predicts.

        Args:
            layer: index of the decoder layer.
            hidden: (B, Q, C) its output.
            reference: (B, Q, 4) logits of boxes, or (B, Q, 2) of points, whose boxes get width and height from the
                step alone.

        Returns:
            Logits of the layer's boxes and of the next layer's references, (B, Q, 4) each.
        """
        step = self.steps[layer % len(self.steps)](hidden)
        box = _added(step, reference)
        if self.look_forward_twice:
            return box, _added(step, reference.detach())
        return box, box.detach()


def _added(step: Tensor, reference: Tensor) -> Tensor:
    reference = reference.clamp(-_FARTHEST, _FARTHEST)
    if reference.shape[-1] == step.shape[-1]:
        return step + reference
    dims = reference.shape[-1]
    return step + nn.functional.pad(reference, (0, step.shape[-1] - dims))
