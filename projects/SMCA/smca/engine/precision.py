"""Mixed precision: which number format the network computes in, and the loss scale that float16 needs."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from smca.device import PRECISIONS

DTYPES = {name: dtype for name, dtype in PRECISIONS.items() if dtype is not None}


class MixedPrecision:
    """Autocast and, in float16, gradient scaling; with ``dtype=None`` plain float32.

    Spatial prior, box decoding, matching and losses leave autocast by themselves and stay in float32.
    """

    def __init__(self, *, device_type: str, dtype: str | None):
        """
        Args:
            device_type: "cuda" or "cpu".
            dtype: one of ``DTYPES``, or None.
        """
        self._device_type = device_type
        self._dtype = None if dtype is None else DTYPES[dtype]
        scaling = self._dtype is torch.float16
        self._scaler = torch.amp.GradScaler(device_type) if scaling else None
        self._unscaled = False

    def autocast(self) -> AbstractContextManager:
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device_type, self._dtype)

    def backward(self, loss: Tensor) -> None:
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)
            self._unscaled = True

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if self._scaler is None:
            optimizer.step()
        else:
            self._scaler.step(optimizer)
            self._scaler.update()
            self._unscaled = False

    def keep_scale(self) -> None:
        """After a loss that is not finite: no other scale would mend that."""
        if self._unscaled:
            self._scaler.update(self._scaler.get_scale())
            self._unscaled = False

    def leave_out(self) -> None:
        """Instead of :meth:`step`: gradients that were not finite make the next step's scale smaller."""
        if self._unscaled:
            self._scaler.update()
            self._unscaled = False

    def state_dict(self) -> dict:
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        if self._scaler is not None and state_dict:
            self._scaler.load_state_dict(state_dict)
