from torch import nn


def get_param_groups(model: nn.Module, *, backbone_lr: float) -> list[dict]:
    """Trainable parameters for an optimiser: the backbone's with a rate of its own, all others with the default.

    Args:
        model: a detector whose backbone is the child ``backbone``.
        backbone_lr: learning rate of the backbone's trainable parameters.
    """
    backbone, rest = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (backbone if name.startswith("backbone.") else rest).append(parameter)
    groups = [{"params": rest}, {"params": backbone, "lr": backbone_lr}]
    return [group for group in groups if group["params"]]
