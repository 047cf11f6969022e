"""An exponential moving average of the weights while they train."""

import copy

import torch
from torch import Tensor, nn

from smca.errors import InputError


class WeightAverage:
    """The averaged twin of a model: parameters averaged, buffers (running statistics) copied.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the first, random weights fade soon.
    """

    def __init__(self, model: nn.Module, *, decay: float):
        """
        Args:
            model: with its initial weights, which have to be the same in all processes already.
            decay: share of the old average at each update once it is warm, in [0, 1).

        Raises:
            InputError: for a decay outside [0, 1).
        """
        if not 0 <= decay < 1:
            raise InputError(f"train.ema.decay {decay} must be at least 0 and below 1")
        self._decay = decay
        self._updates = 0
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        averaged, current = _tensors(self.model.parameters()), _tensors(model.parameters())
        torch._foreach_lerp_(averaged, current, 1 - decay)
        # All at once; one by one they are hundreds of small kernels on a GPU.
        torch._foreach_copy_(_tensors(self.model.buffers()), _tensors(model.buffers()))

    def state_dict(self) -> dict:
        return {"model": self.model.state_dict(), "updates": self._updates}

    def load_state_dict(self, state_dict: dict) -> None:
        self.model.load_state_dict(state_dict["model"])
        self._updates = state_dict["updates"]


def _tensors(tensors) -> list[Tensor]:
    return [tensor.detach() for tensor in tensors]
