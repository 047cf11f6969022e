"""Averages: of weights over the steps of a training, of running statistics over its processes."""

import copy
from collections.abc import Iterable

import torch
from detectron2.utils import comm
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _NormBase


class WeightAverage:
    """The exponential moving average of a model: parameters averaged, buffers (running statistics) copied.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the first, random weights fade soon.
    """

    def __init__(self, model: nn.Module, *, decay: float):
        """
        Args:
            model: with its initial weights, which have to be the same in all processes already.
            decay: share of the old average at each update once it is warm, in [0, 1).
        """
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


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Buffers of norms that a forward pass in training changes."""
    norms = (module for module in model.modules() if isinstance(module, _NormBase))
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False)]


def average_statistics(model: nn.Module) -> None:
    """Give all processes the mean of their running statistics: each has seen its own images only.

    So what is evaluated over all processes is what the main process saves. To be called by all of them.
    """
    if comm.get_world_size() == 1:
        return
    for buffer in running_statistics(model):
        if buffer.is_floating_point():
            distributed.all_reduce(buffer)
            buffer /= comm.get_world_size()


def _tensors(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.detach() for tensor in tensors]
