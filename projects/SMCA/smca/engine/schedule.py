"""How long a training is, and which learning rates its parameters have on the way."""

import inspect
import math
from collections.abc import Mapping, Sequence

from detectron2.utils.registry import locate
from fvcore.common.param_scheduler import ParamScheduler
from omegaconf import DictConfig
from torch import nn

from smca.errors import InputError

FEW_STEPS = 500
"""A detector from scratch finds nothing in fewer, and a fine-tuned one gains from more."""

MOST_ITERATIONS = 10**9
"""More than any training takes: what is longer was mistyped, and would not fit the counters of other libraries."""


def check_length(epochs: float, iterations_per_epoch: float) -> None:
    """Refuse a length that was mistyped.

    Raises:
        InputError: if so many epochs have more iterations than any training takes.
    """
    if epochs * iterations_per_epoch > MOST_ITERATIONS:
        raise InputError(
            f"train.epochs={epochs} is {epochs * iterations_per_epoch:.2g} iterations of this data set, at most "
            f"{MOST_ITERATIONS} can be made"
        )


def iteration_of_epoch(epoch: float, iterations_per_epoch: float) -> int:
    """First iteration at which ``epoch`` epochs' worth of images have been seen."""
    return math.ceil(epoch * iterations_per_epoch - 1e-6)


def few_steps_warning(max_iter: int, iterations_per_epoch: float, *, by_epochs: bool) -> str | None:
    """What to set when a training is too short to learn much, as on a small data set; None if it is not.

    Args:
        max_iter: length of the training.
        iterations_per_epoch: images divided by total batch size.
        by_epochs: whether the length was given as ``train.epochs``.
    """
    if max_iter >= FEW_STEPS:
        return None
    longer = f"train.max_iter={FEW_STEPS}"
    if by_epochs:
        longer = f"train.epochs={math.ceil(FEW_STEPS / iterations_per_epoch)}"
    return (
        f"{max_iter} steps are few, about {FEW_STEPS} is the least that a detector learns something in: set {longer} "
        "or more (learning-rate drops move along)"
    )


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
        InputError: for a factor whose name is no module's, or factors without a base.
    """
    factors = dict(lr_factors or {})
    if factors and base_lr is None:
        raise InputError("optimizer.params.lr_factors needs base_lr, which they multiply")
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
        raise InputError(
            f"optimizer.params.lr_factors names {unknown[0]!r}, but no trainable module of the model is called so"
        )
    groups = [{"params": rest}, {"params": backbone, "lr": backbone_lr}]
    groups += [
        {"params": parameters, "lr": factors[name] * base_lr} for name, parameters in slowed.items()
    ]
    return [group for group in groups if group["params"]]


def learning_rate_factor(cfg: DictConfig) -> float:
    """What ``train.lr_scaling`` makes of a batch size other than the one that the learning rate is for."""
    scaling = cfg.train.lr_scaling
    ratio = cfg.dataloader.train.total_batch_size / scaling.reference_batch_size
    return {None: 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[scaling.rule]


def fill_schedule(node: DictConfig, **known: float | None) -> None:
    """Give a schedule's config what only the engine knows; Detectron2's own schedules take none of it."""
    target = node._target_
    parameters = inspect.signature(locate(target) if isinstance(target, str) else target).parameters
    for name, value in known.items():
        if name in parameters:
            node[name] = value


class EpochSchedule(ParamScheduler):
    """Learning rate multiplied by ``gamma`` on the way, with an optional linear warm-up.

    Drops stand at shares of the training, so the schedule keeps its shape when ``train.epochs``, ``train.max_iter``,
    the batch size or the data set changes, or at epochs of one's own. The engine fills in what only it knows:
    ``iterations_per_epoch``, ``max_iter`` and ``training_epochs``.
    """

    def __init__(
        self,
        *,
        drop_at: Sequence[float] = (),
        drop_epochs: Sequence[float] | None = None,
        gamma: float = 0.1,
        warmup_iterations: int = 0,
        warmup_factor: float = 0.001,
        iterations_per_epoch: float,
        max_iter: int,
        training_epochs: float | None = None,
    ):
        """
        Args:
            drop_at: shares of the training, in (0, 1], after which the rate is multiplied by ``gamma``.
            drop_epochs: the same as epochs, whatever the length; where given, ``drop_at`` is not looked at.
            gamma: see above.
            warmup_iterations: length of the linear rise from ``warmup_factor`` to 1.
            warmup_factor: multiplier at iteration 0 when there is a warm-up.
            iterations_per_epoch: images divided by total batch size.
            max_iter: length of the training, which fvcore's position in [0, 1] is relative to.
            training_epochs: the same in epochs, before it was rounded up to whole iterations.
        """
        if drop_epochs is None:
            epochs = training_epochs or max_iter / iterations_per_epoch
            drop_epochs = [share * epochs for share in drop_at]
        self.milestones = [iteration_of_epoch(e, iterations_per_epoch) for e in drop_epochs]
        self.gamma = gamma
        self.warmup_iterations = warmup_iterations
        self.warmup_factor = warmup_factor
        self.max_iter = max_iter

    def __call__(self, where: float) -> float:
        """Multiplier at the position ``where`` = iteration / max_iter."""
        iteration = round(where * self.max_iter)
        value = self.gamma ** sum(iteration >= milestone for milestone in self.milestones)
        if iteration < self.warmup_iterations:
            progress = iteration / self.warmup_iterations
            value *= self.warmup_factor * (1 - progress) + progress
        return value
