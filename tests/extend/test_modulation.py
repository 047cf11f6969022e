"""A spatial prior of one's own: a class, and a line in a config."""

from dataclasses import dataclass

import torch
from detectron2.config import LazyCall as L
from torch import Tensor, nn


@dataclass(frozen=True)
class LaplacePrior:
    """Falls with the distance itself, not its square, and prefers levels as a query likes."""

    center_logits: Tensor
    centers: list[Tensor]
    level_weights: Tensor

    @property
    def references(self) -> Tensor:
        return self.center_logits[None]

    def bias(self, index, level):
        h, w = level.size
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        cells = torch.stack([x, y], -1).flatten(0, 1).to(self.centers[index])
        return -torch.cdist(self.centers[index], cells.expand(len(self.centers[index]), -1, -1))[
            :, None
        ]


class LaplaceModulation(nn.Module):
    def __init__(self, embed_dim, num_levels):
        super().__init__()
        self.center = nn.Linear(embed_dim, 2)
        self.level = nn.Linear(embed_dim, num_levels)

    def forward(self, layer, located_query, previous, levels, image_sizes, reference=None):
        logits = self.center(located_query) if previous is None else previous.center_logits
        center = logits.sigmoid() * image_sizes[:, None]
        centers = [center / level.stride for level in levels]
        return LaplacePrior(logits, centers, self.level(located_query).softmax(-1))


def use_laplace(model):
    model.decoder.modulation = L(LaplaceModulation)(
        embed_dim="${..embed_dim}", num_levels="${..num_levels}"
    )


def test_a_modulation(train_and_predict):
    done = train_and_predict(use_laplace, base="smca")
    assert isinstance(done["model"].decoder.modulation, LaplaceModulation)
