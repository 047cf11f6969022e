from collections.abc import Mapping

from torch import nn


def get_param_groups(
    model: nn.Module,
    *,
    backbone_lr: float,
    lr_factors: Mapping[str, float] | None = None,
    base_lr: float | None = None,
) -> list[dict]:
    """Trainable parameters for an optimiser: the backbone's with a rate of its own, all others with the default.

    Args:
        model: a detector whose backbone is the child ``backbone``.
        backbone_lr: learning rate of the backbone's trainable parameters.
        lr_factors: of modules beyond the backbone, by a part of their dotted name such as "sampling_offsets": what
            ``base_lr`` is multiplied by for their parameters.
        base_lr: the optimiser's rate, needed for the factors only.

    Raises:
        ValueError: for a factor whose name is no module's, or factors without a base.
    """
    factors = dict(lr_factors or {})
    if factors and base_lr is None:
        raise ValueError("optimizer.params.lr_factors needs base_lr, which they multiply")
    backbone, rest, slowed = [], [], {name: [] for name in factors}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith("backbone."):
            backbone.append(parameter)
            continue
        parts = name.split(".")
        slowed.get(next((f for f in factors if f in parts), None), rest).append(parameter)
    unknown = [name for name, parameters in slowed.items() if not parameters]
    if unknown:
        raise ValueError(
            f"optimizer.params.lr_factors names {unknown[0]!r}, but no trainable module of the model is called so"
        )
    groups = [{"params": rest}, {"params": backbone, "lr": backbone_lr}]
    groups += [
        {"params": parameters, "lr": factors[name] * base_lr} for name, parameters in slowed.items()
    ]
    return [group for group in groups if group["params"]]
