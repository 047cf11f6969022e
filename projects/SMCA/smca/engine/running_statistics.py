"""Buffers of norms that a forward pass in training changes."""

from detectron2.utils import comm
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _NormBase


def running_statistics(model: nn.Module) -> list[Tensor]:
    return [
        buffer
        for module in model.modules()
        if isinstance(module, _NormBase)
        for buffer in module.buffers(recurse=False)
    ]


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
