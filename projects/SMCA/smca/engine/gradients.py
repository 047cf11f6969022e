"""The gradients of a step: one or several forward passes, looked at before they change anything."""

import math
import random
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from smca.waiting import waiting_for

from .nonfinite import NonFiniteError, file_names, first_bad_gradient, first_bad_tensor
from .precision import MixedPrecision


@dataclass(frozen=True)
class _Pass:
    """A forward pass of a step, by its place in the training, and what the model is called with."""

    iteration: int
    index: int
    images: list[dict]
    keywords: dict[str, float]


class _InAllOrNone(nn.Module):
    """A detector whose forward pass fails in all processes or in none.

    It stands inside of the wrapper for several processes: once that has left its forward pass it waits for a backward
    pass, and would begin to reduce in the next step's first one, where the others do not.
    """

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector
        self.own_error: FloatingPointError | None = None

    def forward(self, *args: Any, **options: Any) -> dict[str, Tensor]:
        self.own_error, losses = None, {}
        try:
            losses = self.detector(*args, **options)
        except FloatingPointError as error:
            self.own_error = error
        with waiting_for("the other ranks to finish their forward pass"):
            errors = comm.all_gather(self.own_error is not None)
        if any(errors):
            raise FloatingPointError("in one of the processes") from self.own_error
        return losses


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
        self.detector = model
        if isinstance(model, DistributedDataParallel):
            self.detector = model.module
            model.module = _InAllOrNone(self.detector)
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
        passes = [_Pass(iteration, index, part, keywords) for index, part in enumerate(parts)]
        names, values = [], []
        for one in passes:
            waits = self._model is not self.detector and one is not passes[-1]
            with self._model.no_sync() if waits else nullcontext():
                losses = self._forward(one)
                self._precision.backward(sum(losses.values()) / len(passes))
            names = list(losses)
            values.append(torch.stack([v.detach().float() for v in losses.values()]))
        self._precision.unscale(self._optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        rows, norm_value = self._check_finite(passes, names, torch.stack(values), norm)
        nn.utils.clip_grads_with_norm_(self.parameters, self._max_norm, norm)
        means = [sum(column) / len(passes) for column in zip(*rows, strict=True)]
        return dict(zip(names, means, strict=True)), norm_value

    def _box_count(self, parts: list[list[dict]], iteration: int) -> dict[str, float]:
        """What the losses of one forward pass are averaged over: boxes per pass and process, at least one per step."""
        if not hasattr(self.detector, "count_boxes"):
            return {}
        count = float(sum(self.detector.count_boxes(part) for part in parts))
        with waiting_for(f"the other ranks to load the images of iteration {iteration}"):
            counts = comm.all_gather(count)
        count = sum(counts) / len(counts)
        return {"num_boxes": max(count, 1.0) / len(parts)}

    def _forward(self, one: _Pass) -> dict[str, Tensor]:
        try:
            return self._run(self._model, one)
        except FloatingPointError as error:
            own = error if self._model is self.detector else self._model.module.own_error
        problem = f"{own} ({file_names(one.images)}); {self._first_bad_tensor(one)}" if own else ""
        raise self._error(one.iteration, self._told_to_all(problem))

    def _run(self, model: nn.Module, one: _Pass) -> dict[str, Tensor]:
        seed_generators(self._seed, one.iteration, one.index, comm.get_rank())
        with self._precision.autocast():
            return model(one.images, **one.keywords)

    def _first_bad_tensor(self, one: _Pass) -> str:
        return first_bad_tensor(self.detector, lambda: self._run(self.detector, one))

    def _check_finite(
        self, passes: list[_Pass], names: list[str], losses: Tensor, norm: Tensor
    ) -> tuple[list[list[float]], float]:
        """Losses (P, N) of P forward passes, and the gradients' norm, on the host.

        Raises:
            NonFiniteError: in every process, if one of these is not finite in any.
        """
        iteration = passes[0].iteration
        is_bad = (~torch.isfinite(losses).all()).to(losses)
        with waiting_for(f"the other ranks to finish the backward pass of iteration {iteration}"):
            if comm.get_world_size() > 1:
                torch.distributed.all_reduce(is_bad)
            # One copy, for which a GPU's queue runs empty once.
            copied = torch.cat([losses.flatten(), norm.to(losses)[None], is_bad[None]])
            *flat, norm_value, any_bad = copied.tolist()
        rows = [flat[i : i + len(names)] for i in range(0, len(flat), len(names))]
        if not any_bad and math.isfinite(norm_value):
            return rows, norm_value
        if any_bad:
            self._precision.keep_scale()
        problems = (
            f"{name} is {value} ({file_names(one.images)}); {self._first_bad_tensor(one)}"
            for one, row in zip(passes, rows, strict=True)
            for name, value in zip(names, row, strict=True)
            if not math.isfinite(value)
        )
        problem = self._told_to_all(next(problems, ""))
        if not problem:
            # Gradients are averaged over the processes, so all of them see this.
            images = file_names([item for one in passes for item in one.images])
            bad = first_bad_gradient(self.detector)
            problem = f"the gradient norm is {norm_value} ({images}); {bad}"
        raise self._error(iteration, problem)

    def _told_to_all(self, problem: str) -> str:
        """The first problem of any process; all come here, each with its own or an empty text."""
        with waiting_for("the other ranks to look for what is not finite"):
            return next(filter(None, comm.all_gather(problem)), "")

    def _error(self, iteration: int, problem: str) -> NonFiniteError:
        return NonFiniteError(f"iteration {iteration}: {problem}; no parameter was changed")


def seed_generators(*words: int) -> None:
    """Seed torch's, numpy's and Python's generators with what follows from some non-negative numbers."""
    word = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(word)
    np.random.seed(word % 2**32)
    random.seed(word)
