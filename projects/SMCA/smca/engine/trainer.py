import math
import time

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from torch import nn

from smca.data.loader import TrainLoader


class Trainer(TrainerBase):
    """One optimisation step per iteration: forward, backward, gradient clipping, step.

    Everything else (schedule, evaluation, checkpoints, logging) is done by Detectron2's hooks.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        loader: TrainLoader,
        optimizer: torch.optim.Optimizer,
        clip_grad_norm: float = 0.0,
    ):
        """
        Args:
            model: returns weighted losses by name in training mode.
            loader: endless batches.
            optimizer: over the model's trainable parameters.
            clip_grad_norm: largest L2 norm of all gradients together; 0 does not clip.
        """
        super().__init__()
        model.train()
        self.model = model
        self.loader = loader
        self.optimizer = optimizer
        self.clip_grad_norm = clip_grad_norm
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._batches = None

    def train(self, start_iter: int, max_iter: int) -> None:
        """Train the iterations [start_iter, max_iter) on the batches that belong to them."""
        self.loader.start_iteration = start_iter
        self._batches = iter(self.loader)
        super().train(start_iter, max_iter)

    def run_step(self) -> None:
        """
        Raises:
            FloatingPointError: on a loss or gradient that is not finite; parameters are left untouched.
        """
        start = time.perf_counter()
        batch = next(self._batches)
        data_time = time.perf_counter() - start

        losses = self.model(batch)
        total = sum(losses.values())
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        values = torch.stack([v.detach() for v in losses.values()]).tolist()
        named = dict(zip(losses, values, strict=True))
        self._check_losses(named, batch)
        max_norm = self.clip_grad_norm if self.clip_grad_norm > 0 else math.inf
        norm = nn.utils.clip_grad_norm_(self._parameters, max_norm).item()
        if not math.isfinite(norm):
            raise FloatingPointError(
                f"iteration {self.iter}: the gradient norm is {norm} ({_file_names(batch)}); "
                "no parameter was changed"
            )
        self.optimizer.step()
        self.storage.put_scalar("grad_norm", norm)
        self._write_metrics(named, data_time)

    def state_dict(self) -> dict:
        state = super().state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])

    def _write_metrics(self, losses: dict[str, float], data_time: float) -> None:
        """Losses averaged over ranks and the slowest rank's waiting time, under Detectron2's names."""
        gathered = comm.gather((losses, data_time))
        if comm.is_main_process():
            mean = {k: sum(rank[k] for rank, _ in gathered) / len(gathered) for k in losses}
            self.storage.put_scalar("data_time", max(waited for _, waited in gathered))
            self.storage.put_scalar("total_loss", sum(mean.values()))
            if len(mean) > 1:
                self.storage.put_scalars(**mean)

    def _check_losses(self, losses: dict[str, float], batch: list[dict]) -> None:
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            raise FloatingPointError(
                f"iteration {self.iter}: {bad[0]} is {losses[bad[0]]} ({_file_names(batch)}); "
                "no parameter was changed"
            )


def _file_names(batch: list[dict]) -> str:
    return "images " + ", ".join(str(item.get("file_name", "?")) for item in batch)
