import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from smca.data.loader import TrainLoader, check_batch_size
from smca.errors import InputError
from smca.main_process import as_lost_process
from smca.waiting import waiting_for

from .ema import WeightAverage
from .nonfinite import (
    NonFiniteError,
    file_names,
    first_bad_gradient,
    first_bad_tensor,
)
from .precision import MixedPrecision
from .running_statistics import running_statistics
from .seeding import seed_generators
from .stop_signal import StopSignal, TrainingInterrupted

logger = logging.getLogger(__name__)


class StepError(InputError):
    """The images of a step cannot be trained on; parameters are as they were before it."""


class Stopped(BaseException):
    """Carries the error that ends a training past Detectron2's loop, which would log it with a traceback."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error


class Trainer(TrainerBase):
    """One optimisation step per iteration, over one or several forward passes and one or several processes.

    Everything else (schedule, evaluation, checkpoints, logging) is done by Detectron2's hooks.

    Attributes:
        stop_signum: the signal that asked any of the processes to stop, 0 if none did; set after the step.
        is_step_whole: whether parameters, optimiser, averages and schedule belong to the same number of steps; not
            from the optimiser's step until the schedule's.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        loader: TrainLoader,
        optimizer: torch.optim.Optimizer,
        clip_grad_norm: float = 0.0,
        accumulate_steps: int = 1,
        precision: MixedPrecision | None = None,
        average: WeightAverage | None = None,
        skip_nonfinite: int = 0,
        seed: int = 0,
    ):
        """
        Args:
            model: returns weighted losses by name in training mode; may be wrapped for several processes. If it has
                ``count_boxes``, it is told how many boxes to average over (see :meth:`smca.modeling.SMCA.forward`).
            loader: endless batches.
            optimizer: over the model's trainable parameters.
            clip_grad_norm: largest L2 norm of all gradients together; 0 does not clip.
            accumulate_steps: forward passes per step; each gets an equal part of the process's batch.
            precision: mixed precision; None is float32.
            average: EMA weights, updated after every step.
            skip_nonfinite: steps in a row that may be left out because a loss or gradient is not finite.
            seed: dropout and whatever else is random in a step follows from it, the iteration and the process.

        Raises:
            InputError: if the forward passes of all processes cannot share the images of a step evenly.
        """
        super().__init__()
        check_batch_size(loader.total_batch_size, accumulate_steps)
        model.train()
        self.model = model
        self.loader = loader
        self.optimizer = optimizer
        self.clip_grad_norm = clip_grad_norm
        self.accumulate_steps = accumulate_steps
        self.precision = precision or MixedPrecision(device_type="cpu", dtype=None)
        self.average = average
        self.skip_nonfinite = skip_nonfinite
        self.stop_signum = 0
        self.is_step_whole = True
        self._seed = seed
        self._skipped = 0
        self._detector = model.module if isinstance(model, DistributedDataParallel) else model
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._signal = StopSignal()
        self._batches = None

    def train(self, start_iter: int, max_iter: int) -> None:
        """Train the iterations [start_iter, max_iter) on the batches that belong to them.

        Raises:
            NonFiniteError: if a loss, gradient or matching cost is not finite, more often than tolerated.
            StepError: if the images of a step cannot be loaded, or take more memory than there is.
            TrainingInterrupted: if a signal asked to stop; the hooks have had their turn.
            OSError: if a hook could not write.
        """
        self.loader.start_iteration = start_iter
        try:
            # Loading processes are started inside, so that a signal meanwhile ends neither them nor this one.
            with self._signal.listening():
                self._batches = iter(self.loader)
                super().train(start_iter, max_iter)
        except Stopped as stopped:
            raise stopped.error from None
        finally:
            self.loader.close()
            self._batches = None

    def before_train(self) -> None:
        try:
            super().before_train()
        except OSError as error:
            raise Stopped(error) from error

    def run_step(self) -> None:
        batch: list[dict] = []
        try:
            self._run_step(batch)
        except Exception as error:
            named = as_lost_process(error) or self._named(error, batch)
            if named is error:
                raise  # a bug, which Detectron2 logs with its traceback
            raise Stopped(named) from error

    def _named(self, error: Exception, batch: list[dict]) -> Exception:
        """What ends a training inside of a step, with the iteration and its images."""
        step = f"iteration {self.iter} ({file_names(batch) if batch else 'its images'})"
        reason = None
        if not batch and isinstance(error, ValueError | OSError):
            # A loading process hands its traceback on as text, which ends with the sentence.
            reason = str(error).strip().splitlines()[-1].removeprefix("ValueError: ")
        elif isinstance(error, torch.OutOfMemoryError | MemoryError):
            reason = f"out of memory ({str(error).partition('. ')[0]})"
        if reason is None:
            error.add_note(f"in {step}")
            return error
        return StepError(
            f"{step} cannot be done: {reason}; what was trained before it is saved: mend the cause, or leave the "
            "image out, and go on with --resume"
        )

    def _run_step(self, batch: list[dict]) -> None:
        start = time.perf_counter()
        batch += next(self._batches)
        data_time = time.perf_counter() - start
        parts = _split(batch, self.accumulate_steps)
        buffers = running_statistics(self._detector) if self.skip_nonfinite else []
        before = [buffer.clone() for buffer in buffers]
        self.optimizer.zero_grad(set_to_none=True)
        try:
            losses = self._forward_backward(parts)
            norm = self._gradient_norm(batch)
        except NonFiniteError as error:
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
            self._leave_out(error)
            return
        self.is_step_whole = False
        self.precision.step(self.optimizer)
        if self.average is not None:
            self.average.update(self._detector)
        self._skipped = 0
        self.storage.put_scalar("grad_norm", norm)
        self._write_metrics(losses, data_time)

    def after_step(self) -> None:
        try:
            super().after_step()
        except OSError as error:
            raise Stopped(error) from error
        except RuntimeError as error:
            lost = as_lost_process(error)
            if lost is None:
                raise
            raise Stopped(lost) from error
        if self.stop_signum:
            raise Stopped(
                TrainingInterrupted(
                    f"stopped as asked after iteration {self.iter}, which is saved; go on with --resume",
                    self.stop_signum,
                )
            )

    def after_train(self) -> None:
        try:
            super().after_train()
        except OSError as error:
            if self.iter >= self.max_iter:
                raise
            # The writers' last lines, after an error that says more.
            logger.warning("The last metrics could not be written: %s", error)

    def state_dict(self) -> dict:
        state = super().state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        state["precision"] = self.precision.state_dict()
        state["skipped"] = self._skipped
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.precision.load_state_dict(state_dict.get("precision", {}))
        self._skipped = state_dict.get("skipped", 0)

    def _forward_backward(self, parts: list[list[dict]]) -> dict[str, float]:
        """Gradients of all parts added up; losses by name, averaged over them."""
        keywords = self._box_count(parts)
        total: torch.Tensor | None = None
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            with nullcontext() if last or self.model is self._detector else self.model.no_sync():
                losses = self._forward(index, part, keywords)
                scaled = sum(losses.values()) / len(parts)
                self.precision.backward(scaled)
            values = torch.stack([v.detach().float() for v in losses.values()]) / len(parts)
            total = values if total is None else total + values
        return dict(zip(losses, total.tolist(), strict=True))

    def _forward(self, index: int, part: list[dict], keywords: dict) -> dict[str, torch.Tensor]:
        seed_generators(self._seed, self.iter, index, comm.get_rank())
        losses, problem = {}, ""
        try:
            with self.precision.autocast():
                losses = self.model(part, **keywords)
        except FloatingPointError as error:
            problem = str(error)
        else:
            values = torch.stack([v.detach().float() for v in losses.values()])
            if not torch.isfinite(values).all():
                name, value = next(
                    (n, v)
                    for n, v in zip(losses, values.tolist(), strict=True)
                    if not math.isfinite(v)
                )
                problem = f"{name} is {value}"
        if problem:
            problem = f"{problem} ({file_names(part)})"
        self._agree_on(problem, lambda: self._explain(index, part, keywords))
        return losses

    def _agree_on(self, problem: str, explain: Callable[[], str]) -> None:
        """Raise in every process if there is a problem in any: the others would wait for its gradients."""
        if comm.get_world_size() > 1:
            flag = torch.tensor([float(bool(problem))], device=self._parameters[0].device)
            with waiting_for(
                f"the other ranks to finish the forward pass of iteration {self.iter}"
            ):
                torch.distributed.all_reduce(flag)
                if not flag.item():
                    return
        elif not problem:
            return
        if problem:
            problem = f"{problem}; {explain()}"
        problem = next(text for text in comm.all_gather(problem) if text)
        raise NonFiniteError(f"iteration {self.iter}: {problem}; no parameter was changed")

    def _explain(self, index: int, part: list[dict], keywords: dict) -> str:
        def run() -> None:
            seed_generators(self._seed, self.iter, index, comm.get_rank())
            with self.precision.autocast():
                self._detector(part, **keywords)

        return first_bad_tensor(self._detector, run)

    def _gradient_norm(self, batch: list[dict]) -> float:
        self.precision.unscale(self.optimizer)
        max_norm = self.clip_grad_norm if self.clip_grad_norm > 0 else math.inf
        try:
            norm = nn.utils.clip_grad_norm_(self._parameters, max_norm, error_if_nonfinite=True)
        except RuntimeError as error:
            # Raised before the gradients are scaled, which would spread a NaN over all of them.
            norms = [p.grad.norm() for p in self._parameters if p.grad is not None]
            norm = torch.stack(norms).norm().item()
            if math.isfinite(norm):
                raise
            # Gradients are averaged over the processes, so all of them see this.
            raise NonFiniteError(
                f"iteration {self.iter}: the gradient norm is {norm} ({file_names(batch)}); "
                f"{first_bad_gradient(self._detector)}; no parameter was changed"
            ) from error
        return norm.item()

    def _leave_out(self, error: NonFiniteError) -> None:
        self._skipped += 1
        if self._skipped > self.skip_nonfinite:
            if self.skip_nonfinite:
                error = NonFiniteError(f"{error} ({self._skipped} steps in a row)")
            raise Stopped(error)
        self.precision.leave_out()
        self.optimizer.zero_grad(set_to_none=True)
        logger.warning("Step left out, %d in a row: %s", self._skipped, error)
        self.storage.put_scalar("skipped_steps", self._skipped, smoothing_hint=False)
        self._gather([])

    def _box_count(self, parts: list[list[dict]]) -> dict[str, float]:
        """What the losses of one forward pass are averaged over: boxes per pass and process, at least one per step."""
        if not hasattr(self._detector, "count_boxes"):
            return {}
        count = float(sum(self._detector.count_boxes(part) for part in parts))
        if comm.get_world_size() > 1:
            tensor = torch.tensor([count], device=self._parameters[0].device)
            with waiting_for(f"the other ranks to load the images of iteration {self.iter}"):
                torch.distributed.all_reduce(tensor)
            count = tensor.item() / comm.get_world_size()
        return {"num_boxes": max(count, 1.0) / len(parts)}

    def _gather(self, values: Sequence[float]) -> list[list[float]]:
        """Numbers of every process, and on the way whether any was asked to stop."""
        mine = [float(self._signal.signum), *values]
        gathered = [mine]
        if comm.get_world_size() > 1:
            tensor = torch.tensor(mine, dtype=torch.float64, device=self._parameters[0].device)
            rows = [torch.empty_like(tensor) for _ in range(comm.get_world_size())]
            with waiting_for(f"the other ranks to finish iteration {self.iter}"):
                torch.distributed.all_gather(rows, tensor)
                gathered = torch.stack(rows).tolist()
        self.stop_signum = int(max(row[0] for row in gathered))
        return [row[1:] for row in gathered]

    def _write_metrics(self, losses: dict[str, float], data_time: float) -> None:
        """Losses averaged over processes and the longest wait for data, under Detectron2's names."""
        rows = self._gather([data_time, *losses.values()])
        if not comm.is_main_process():
            return
        means = [sum(column) / len(rows) for column in zip(*rows, strict=True)][1:]
        self.storage.put_scalar("data_time", max(row[0] for row in rows))
        self.storage.put_scalar("total_loss", sum(means))
        if len(losses) > 1:
            self.storage.put_scalars(**dict(zip(losses, means, strict=True)))


def _split(batch: list[dict], parts: int) -> list[list[dict]]:
    size = len(batch) // parts
    return [batch[start : start + size] for start in range(0, size * parts, size)]
