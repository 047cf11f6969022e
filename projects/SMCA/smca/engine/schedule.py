import math
from collections.abc import Sequence

from fvcore.common.param_scheduler import ParamScheduler
from omegaconf import DictConfig


def iteration_of_epoch(epoch: float, iterations_per_epoch: float) -> int:
    """First iteration at which ``epoch`` epochs' worth of images have been seen."""
    return math.ceil(epoch * iterations_per_epoch - 1e-6)


def learning_rate_factor(cfg: DictConfig) -> float:
    """What ``train.lr_scaling`` makes of a batch size other than the one that the learning rate is for.

    Raises:
        ValueError: for an unknown rule, or a reference that is no batch size.
    """
    rule, reference = cfg.train.lr_scaling.rule, cfg.train.lr_scaling.reference_batch_size
    if reference < 1:
        raise ValueError(f"train.lr_scaling.reference_batch_size {reference} must be at least 1")
    ratio = cfg.dataloader.train.total_batch_size / reference
    rules = {None: 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}
    if rule not in rules:
        raise ValueError(f"train.lr_scaling.rule {rule!r} must be null, linear or sqrt")
    return rules[rule]


class EpochSchedule(ParamScheduler):
    """Learning rate multiplied by ``gamma`` after certain epochs, with an optional linear warm-up.

    Epochs are the unit, so the schedule survives a change of batch size or data set. The engine fills
    ``iterations_per_epoch`` and ``max_iter`` in, which only it knows.
    """

    def __init__(
        self,
        *,
        drop_epochs: Sequence[float],
        gamma: float = 0.1,
        warmup_iterations: int = 0,
        warmup_factor: float = 0.001,
        iterations_per_epoch: float,
        max_iter: int,
    ):
        """
        Args:
            drop_epochs: epochs after which the rate is multiplied by ``gamma``.
            gamma: see above.
            warmup_iterations: length of the linear rise from ``warmup_factor`` to 1.
            warmup_factor: multiplier at iteration 0 when there is a warm-up.
            iterations_per_epoch: images divided by total batch size.
            max_iter: length of the training, which fvcore's position in [0, 1] is relative to.
        """
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
