"""The loop of a training: a step at a time, and how it ends."""

import contextlib
import logging
import re
import time
from collections.abc import Iterator, Sequence

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from torch import nn

from smca.data.loader import TrainLoader, check_batch_size
from smca.errors import InputError
from smca.main_process import as_lost_process
from smca.waiting import waiting_for

from .averages import WeightAverage, running_statistics
from .gradients import StepGradients
from .nonfinite import NonFiniteError, file_names
from .precision import MixedPrecision
from .stop_signal import StopSignal, TrainingInterrupted

logger = logging.getLogger(__name__)


class StepError(InputError):
    """The images of a step cannot be trained on; parameters are as they were before it."""


class Stopped(BaseException):
    """Carries the error that ends a training past Detectron2's loop, which would log it with a traceback."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error


class _EndedError(Exception):
    """A hook has seen enough: the training is over before its last iteration."""


class Trainer(TrainerBase):
    """One optimisation step per iteration, over one or several forward passes and one or several processes.

    Everything else (schedule, evaluation, checkpoints, logging) is done by Detectron2's hooks.

    Attributes:
        is_ended: whether a hook has ended it before its last iteration.
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
        self.precision = precision or MixedPrecision(device_type="cpu", dtype=None)
        self.average = average
        self.skip_nonfinite = skip_nonfinite
        self.stop_signum = 0
        self.is_step_whole = True
        self._gradients = StepGradients(
            model=model,
            optimizer=optimizer,
            precision=self.precision,
            accumulate_steps=accumulate_steps,
            clip_norm=clip_grad_norm,
            seed=seed,
        )
        self.is_ended = False
        self._skipped = 0
        self._signal = StopSignal()
        self._batches = None

    def train(self, start_iter: int, max_iter: int) -> None:
        """Train the iterations [start_iter, max_iter) on the batches that belong to them, or fewer: see :meth:`end`.

        Raises:
            NonFiniteError: if a loss, gradient or matching cost is not finite, more often than tolerated.
            StepError: if the images of a step cannot be loaded, or take more memory than there is.
            TrainingInterrupted: if a signal asked to stop; the hooks have had their turn.
            OSError: if a hook could not write.
        """
        self.loader.start_iteration = start_iter
        self.is_ended = False
        try:
            # Loading processes are started inside, so that a signal meanwhile ends neither them nor this one.
            with self._signal.listening():
                self._batches = iter(self.loader)
                super().train(start_iter, max_iter)
        except Stopped as stopped:
            if not isinstance(stopped.error, _EndedError):
                raise stopped.error from None
        finally:
            self.loader.close()
            self._batches = None

    def end(self) -> None:
        """Make the step that is being done the last one; for hooks of all processes, in the same step."""
        self.is_ended = True

    def before_train(self) -> None:
        with _past_the_loop():
            super().before_train()
            self._end_if_asked()

    def _end_if_asked(self) -> None:
        if self.is_ended:
            raise _EndedError

    def run_step(self) -> None:
        batch: list[dict] = []
        with _past_the_loop():
            try:
                self._run_step(batch)
            except Exception as error:
                reason = _reason(error, batch)
                step = f"iteration {self.iter} ({file_names(batch) if batch else 'its images'})"
                if reason is None:
                    error.add_note(f"in {step}")
                    raise
                raise StepError(
                    f"{step} cannot be done: {reason}; what was trained before it is saved: mend the cause, or leave "
                    "the image out, and go on with --resume"
                ) from error

    def _run_step(self, batch: list[dict]) -> None:
        """One step of the optimizer, or a skipped one.

        Args:
            batch: empty, to be filled with the step's images, so that an error can name them.
        """
        start = time.perf_counter()
        batch += next(self._batches)
        data_time = time.perf_counter() - start
        detector = self._gradients.detector
        buffers = running_statistics(detector) if self.skip_nonfinite else []
        before = [buffer.clone() for buffer in buffers]
        self.optimizer.zero_grad(set_to_none=True)
        try:
            losses, norm = self._gradients.fill(batch, self.iter)
        except NonFiniteError as error:
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
            self._leave_out(error)
            return
        self.is_step_whole = False
        self.precision.step(self.optimizer)
        if self.average is not None:
            self.average.update(detector)
        self._skipped = 0
        self.storage.put_scalar("grad_norm", norm)
        self._write_metrics(losses, data_time)

    def after_step(self) -> None:
        with _past_the_loop():
            super().after_step()
            if self.stop_signum:
                raise TrainingInterrupted(
                    f"stopped as asked after iteration {self.iter}, which is saved; go on with --resume",
                    self.stop_signum,
                )
            self._end_if_asked()

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

    def _leave_out(self, error: NonFiniteError) -> None:
        self._skipped += 1
        if self._skipped > self.skip_nonfinite:
            if self.skip_nonfinite:
                error = NonFiniteError(f"{error} ({self._skipped} steps in a row)")
            raise error
        self.precision.leave_out()
        self.optimizer.zero_grad(set_to_none=True)
        logger.warning("Step left out, %d in a row: %s", self._skipped, error)
        self.storage.put_scalar("skipped_steps", self._skipped, smoothing_hint=False)
        self._gather([])

    def _gather(self, values: Sequence[float]) -> list[list[float]]:
        """Numbers of every process, and on the way whether any was asked to stop."""
        with waiting_for(f"the other ranks to finish iteration {self.iter}"):
            gathered = comm.all_gather([float(self._signal.signum), *values])
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


@contextlib.contextmanager
def _past_the_loop() -> Iterator[None]:
    """What ends a training in order, or for a reason that a sentence tells, is no exception to Detectron2's loop."""
    try:
        yield
    except (InputError, OSError, TrainingInterrupted, _EndedError) as error:
        raise Stopped(error) from error
    except RuntimeError as error:
        lost = as_lost_process(error)
        if lost is None:
            raise
        raise Stopped(lost) from error


def _reason(error: Exception, batch: list[dict]) -> str | None:
    """Why a step cannot be done, where its images are the cause; None for all other errors."""
    if not batch and isinstance(error, InputError | OSError):
        # A loading process hands its traceback on as text, which ends with the sentence.
        return re.sub(r"^[\w.]+Error: ", "", str(error).strip().splitlines()[-1])
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"out of memory ({str(error).partition('. ')[0]})"
    return None
