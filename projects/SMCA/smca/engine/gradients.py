"""The gradients of a step: one or several forward passes, looked at before they change anything."""

import math
import random
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from smca.waiting import waiting_for

from .nonfinite import NonFiniteError, file_names, first_bad_gradient, first_bad_tensor
from .precision import MixedPrecision


class StepGradients:
    """Fills the gradients of a model's parameters from a batch.

    Attributes:
        detector: the model without its wrapper for several processes.
        parameters: those that are trained.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        precision: MixedPrecision,
        accumulate_steps: int,
        clip_norm: float,
        seed: int,
    ):
        """The arguments are those of :class:`~smca.engine.Trainer`."""
        self.detector = model.module if isinstance(model, DistributedDataParallel) else model
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._model = model
        self._optimizer = optimizer
        self._precision = precision
        self._accumulate_steps = accumulate_steps
        self._max_norm = clip_norm if clip_norm > 0 else math.inf
        self._seed = seed

    def fill(self, batch: list[dict], iteration: int) -> tuple[dict[str, float], float]:
        """Forward and backward passes of a step; the gradients are clipped.

        Returns:
            Losses by name, averaged over the forward passes, and the norm of all gradients before they were clipped.

        Raises:
            NonFiniteError: in every process, if a loss of any or a gradient is not finite.
        """
        size = len(batch) // self._accumulate_steps
        parts = [batch[i * size : (i + 1) * size] for i in range(self._accumulate_steps)]
        keywords = self._box_count(parts, iteration)
        total: Tensor | None = None
        for index, part in enumerate(parts):
            is_last = index == len(parts) - 1
            wrapped = self._model is not self.detector
            with self._model.no_sync() if wrapped and not is_last else nullcontext():
                losses = self._forward(iteration, index, part, keywords)
                self._precision.backward(sum(losses.values()) / len(parts))
            values = torch.stack([v.detach().float() for v in losses.values()]) / len(parts)
            total = values if total is None else total + values
        return dict(zip(losses, total.tolist(), strict=True)), self._norm(batch, iteration)

    def _box_count(self, parts: list[list[dict]], iteration: int) -> dict[str, float]:
        """What the losses of one forward pass are averaged over: boxes per pass and process, at least one per step."""
        if not hasattr(self.detector, "count_boxes"):
            return {}
        count = float(sum(self.detector.count_boxes(part) for part in parts))
        if comm.get_world_size() > 1:
            tensor = torch.tensor([count], device=self.parameters[0].device)
            with waiting_for(f"the other ranks to load the images of iteration {iteration}"):
                torch.distributed.all_reduce(tensor)
            count = tensor.item() / comm.get_world_size()
        return {"num_boxes": max(count, 1.0) / len(parts)}

    def _forward(
        self, iteration: int, index: int, part: list[dict], keywords: dict
    ) -> dict[str, Tensor]:
        def run(model: nn.Module) -> dict[str, Tensor]:
            seed_generators(self._seed, iteration, index, comm.get_rank())
            with self._precision.autocast():
                return model(part, **keywords)

        losses, problem = {}, ""
        try:
            losses = run(self._model)
        except FloatingPointError as error:
            problem = str(error)
        else:
            values = torch.stack([v.detach().float() for v in losses.values()])
            if not torch.isfinite(values).all():
                named = zip(losses, values.tolist(), strict=True)
                problem = next(f"{n} is {v}" for n, v in named if not math.isfinite(v))
        if problem:
            problem = f"{problem} ({file_names(part)})"
        self._agree_on(
            problem, iteration, lambda: first_bad_tensor(self.detector, lambda: run(self.detector))
        )
        return losses

    def _agree_on(self, problem: str, iteration: int, explain: Callable[[], str]) -> None:
        """Raise in every process if there is a problem in any: the others would wait for its gradients."""
        if comm.get_world_size() > 1:
            flag = torch.tensor([float(bool(problem))], device=self.parameters[0].device)
            with waiting_for(
                f"the other ranks to finish the forward pass of iteration {iteration}"
            ):
                torch.distributed.all_reduce(flag)
                if not flag.item():
                    return
        elif not problem:
            return
        if problem:
            problem = f"{problem}; {explain()}"
        problem = next(text for text in comm.all_gather(problem) if text)
        raise NonFiniteError(f"iteration {iteration}: {problem}; no parameter was changed")

    def _norm(self, batch: list[dict], iteration: int) -> float:
        self._precision.unscale(self._optimizer)
        try:
            return nn.utils.clip_grad_norm_(
                self.parameters, self._max_norm, error_if_nonfinite=True
            ).item()
        except RuntimeError as error:
            # Raised before the gradients are scaled, which would spread a NaN over all of them.
            norms = [p.grad.norm() for p in self.parameters if p.grad is not None]
            norm = torch.stack(norms).norm().item()
            if math.isfinite(norm):
                raise
            # Gradients are averaged over the processes, so all of them see this.
            raise NonFiniteError(
                f"iteration {iteration}: the gradient norm is {norm} ({file_names(batch)}); "
                f"{first_bad_gradient(self.detector)}; no parameter was changed"
            ) from error


def seed_generators(*words: int) -> None:
    """Seed torch's, numpy's and Python's generators with what follows from some non-negative numbers."""
    word = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(word)
    np.random.seed(word % 2**32)
    random.seed(word)
