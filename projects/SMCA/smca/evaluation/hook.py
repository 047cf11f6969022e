"""The training hook that evaluates, keeps the best model and redraws the convergence plot."""

import logging
import math
import os
from collections.abc import Callable, Mapping

import detectron2.utils.comm as comm
from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict

from smca.errors import InputError
from smca.main_process import run_on_main

from .convergence_plot import CurvePoint, Curves, draw_curves, read_curves

logger = logging.getLogger(__name__)


class EvaluationHook(HookBase):
    """Evaluate every ``period`` iterations and after the last one.

    Every number goes to the trainer's event storage, together with "epoch", so register this hook
    before the ``PeriodicWriter``. The model with the highest ``metric`` is kept as
    "model_best.pth", weights only; a resume still starts from the last checkpoint. The plot is
    "convergence.png". Iterations count from 0, as everywhere in Detectron2; epochs are iterations
    done, divided.

    The best value and the curves are the hook's state, under the class's name in the trainer's
    ``state_dict()``. Register it on all ranks, since ``evaluate`` runs on all.
    """

    def __init__(
        self,
        *,
        period: int,
        evaluate: Callable[[], Mapping | None],
        iters_per_epoch: float,
        output_dir: str,
        save_best: Callable[[int, Mapping[str, float]], None] | None = None,
        metric: str = "bbox/AP",
    ) -> None:
        """
        Args:
            period: iterations between evaluations; 0 evaluates only at the end.
            evaluate: returns nested results, on ranks but the main one something empty. It sees to
                it that the model is in training mode afterwards, as ``inference_on_dataset`` does.
            iters_per_epoch: training images / images per step.
            output_dir: where metrics.json is and the plot goes.
            save_best: writes the best model, given the iteration and all numbers; called on the main process.
                Without it none is kept.
            metric: flat name ("bbox/AP") of the number that says which model is best.
        """
        if period < 0:
            raise InputError(
                f"The evaluation period is {period}; it must be 0 (only at the end) or more."
            )
        if not iters_per_epoch > 0:
            raise InputError(f"iters_per_epoch is {iters_per_epoch}; it must be positive.")
        self._period = period
        self._evaluate = evaluate
        self._iters_per_epoch = iters_per_epoch
        self._output_dir = output_dir
        self._save_best = save_best
        self._metric = metric
        prefix = metric.rpartition("/")[0]
        group = f"{prefix}/" if prefix else ""
        names = (metric, *(f"{group}{name}" for name in ("AP", "AP50", "AP75")))
        self._curves: Curves = {name: [] for name in dict.fromkeys(names)}
        self._best: CurvePoint | None = None
        self._last_done = 0

    @property
    def best(self) -> CurvePoint | None:
        """The best evaluation so far, None before the first."""
        return self._best

    @property
    def metric(self) -> str:
        """Flat name of the number that says which model is best."""
        return self._metric

    @property
    def last_done(self) -> int:
        """Iterations done before the last evaluation, the same in all processes; 0 before the first."""
        return self._last_done

    def values(self) -> list[float]:
        """The metric of each evaluation that gave one, in their order; on the main process."""
        return [point.value for point in self._curves[self._metric]]

    def before_train(self) -> None:
        self._take_up_curves()
        # A training that was stopped between a checkpoint and the evaluation that belongs to it.
        start = self.trainer.start_iter
        if 0 < start < self.trainer.max_iter and self._is_due(start) and not self._is_known(start):
            self._run(start)

    def _take_up_curves(self) -> None:
        start = self.trainer.start_iter
        metrics_file = os.path.join(self._output_dir, "metrics.json")
        if not comm.is_main_process() or not os.path.exists(metrics_file):
            return
        try:
            written = read_curves(
                metrics_file, tuple(self._curves), iters_per_epoch=self._iters_per_epoch
            )
        except InputError as e:
            logger.warning(f"The convergence plot starts anew: {e}")
            return
        for name, own in self._curves.items():
            # The file may reach beyond the checkpoint that this training resumes from.
            merged = {p.iteration: p for p in written[name] if p.iteration < start}
            merged.update((p.iteration, p) for p in own)
            self._curves[name] = [merged[iteration] for iteration in sorted(merged)]
        # A checkpoint written just before an evaluation does not know what that found and kept.
        known = [*([] if self._best is None else [self._best]), *self._curves[self._metric]]
        self._best = max(known, key=lambda p: p.value, default=None)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        # A training that is asked to stop has little time left: it evaluates when it goes on.
        if self._is_due(done) and not getattr(self.trainer, "stop_signum", 0):
            self._run(done)

    def _is_due(self, done: int) -> bool:
        # The last evaluation is here too, not in after_train, where the iteration is one more: so
        # the writers put it on the line of the last step.
        return done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0)

    def _is_known(self, done: int) -> bool:
        """Whether the evaluation after ``done`` iterations was run, by the main process's account."""
        known = any(p.iteration == done - 1 for p in self._curves[self._metric])
        return comm.all_gather(known or self._last_done >= done)[0]

    def after_train(self) -> None:
        # Only a failed training ends below max_iter. A finished one that is resumed takes no step;
        # it lacks its last evaluation if it was killed during that.
        last = self.trainer.max_iter
        if self.trainer.iter >= last and not self._is_known(last):
            self._run(last)

    def _run(self, done: int) -> None:
        # Outside a step the storage is one iteration ahead.
        self.trainer.storage.iter = done - 1
        results = self._evaluate()
        self._last_done = done
        # All processes learn if the best model could not be written, and they start the next step together.
        run_on_main(lambda: self._report(done, results))

    def _report(self, done: int, results: Mapping | None) -> None:
        if results:
            scalars = _flatten(results)
            self.trainer.storage.put_scalars(
                **scalars, epoch=done / self._iters_per_epoch, smoothing_hint=False
            )
            self._record(done, scalars)

    def _record(self, done: int, scalars: dict[str, float]) -> None:
        epoch = done / self._iters_per_epoch
        for name, points in self._curves.items():
            if math.isfinite(scalars.get(name, math.nan)):
                earlier = [p for p in points if p.iteration < done - 1]
                self._curves[name] = [*earlier, CurvePoint(done - 1, epoch, scalars[name])]
        value = scalars.get(self._metric)
        if value is None:
            logger.warning(
                f"The evaluation has no '{self._metric}', so no best model is kept; it has "
                f"{', '.join(list(scalars)[:6])}."
            )
        elif math.isfinite(value) and (self._best is None or value > self._best.value):
            self._best = CurvePoint(done - 1, epoch, value)
            if self._save_best is not None:
                self._save_best(done - 1, scalars)
        if self._best is not None:
            logger.info(
                f"best {self._metric} {self._best.value:.1f} at iteration {self._best.iteration} "
                f"(epoch {self._best.epoch:.1f})"
            )
        self._draw()

    def _draw(self) -> None:
        if not comm.is_main_process() or not any(self._curves.values()):
            return
        try:
            os.makedirs(self._output_dir, exist_ok=True)
            draw_curves(self._curves, os.path.join(self._output_dir, "convergence.png"))
        except Exception:
            # Days of training are worth more than a picture that metrics.json can be drawn from.
            logger.warning("The convergence plot could not be drawn.", exc_info=True)

    def state_dict(self) -> dict:
        """Plain numbers and lists, so that ``torch.load`` takes them with ``weights_only``."""
        return {
            "best": None if self._best is None else list(self._best),
            "curves": {name: [list(p) for p in points] for name, points in self._curves.items()},
            "last_done": self._last_done,
        }

    def load_state_dict(self, state_dict: dict) -> None:
        """Take up ``state_dict()``; curves that this hook does not draw are left out."""
        best = state_dict["best"]
        self._best = None if best is None else CurvePoint(*best)
        self._last_done = state_dict["last_done"]
        for name in self._curves:
            self._curves[name] = [CurvePoint(*p) for p in state_dict["curves"].get(name, ())]


def _flatten(results: Mapping) -> dict[str, float]:
    flat = {}
    for name, value in flatten_results_dict(results).items():
        try:
            flat[name] = float(value)
        except (TypeError, ValueError) as e:
            raise InputError(
                f"The evaluation gave {value!r} for '{name}'; it must return nested dicts of "
                "numbers."
            ) from e
    return flat
