import torch
from torch import nn


@torch.no_grad()
def xavier_uniform_matrices_(module: nn.Module) -> None:
    """Xavier-uniform values for every matrix of a part of the transformer, in place, as DETR does."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
