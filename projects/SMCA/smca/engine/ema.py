"""An exponential moving average of the weights while they train."""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """The averaged twin of a model: parameters averaged, buffers (running statistics) copied.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the first, random weights fade soon.
    """

    def __init__(self, model: nn.Module, *, decay: float):
        """
        Args:
            model: with its initial weights loaded.
            decay: share of the old average at each update once it is warm, in [0, 1).

        Raises:
            ValueError: for a decay outside [0, 1).
        """
        if not 0 <= decay < 1:
            raise ValueError(f"train.ema.decay {decay} must be at least 0 and below 1")
        self._decay = decay
        self._updates = 0
        self._averaged = AveragedModel(model, multi_avg_fn=self._average)
        # The first call of update_parameters copies; the twin starts as a copy already.
        self._averaged.n_averaged.fill_(1)
        for parameter in self._averaged.parameters():
            parameter.requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        return self._averaged.module

    def update(self, model: nn.Module) -> None:
        self._updates += 1
        self._averaged.update_parameters(model)

    def state_dict(self) -> dict:
        return {"model": self.model.state_dict(), "updates": self._updates}

    def load_state_dict(self, state_dict: dict) -> None:
        self.model.load_state_dict(state_dict["model"])
        self._updates = state_dict["updates"]

    def _average(self, averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        get_ema_multi_avg_fn(decay)(averaged, current, count)
