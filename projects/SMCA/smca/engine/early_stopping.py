"""Ends a training whose evaluations no longer get better."""

import logging
import math
from collections.abc import Iterable

from detectron2.engine import HookBase

from smca.engine.run.checkpoints import RunCheckpointer
from smca.evaluation import EvaluationHook
from smca.main_process import run_on_main

logger = logging.getLogger(__name__)


def evaluations_without_gain(values: Iterable[float], min_delta: float) -> int:
    """How many evaluations in a row, up to the last, were not better by more than ``min_delta`` than the best before.

    Args:
        values: of the metric, in the order of the evaluations.
        min_delta: least gain that counts, in the metric's unit.
    """
    reference, count = -math.inf, 0
    for value in values:
        if value > reference + min_delta:
            reference, count = value, 0
        else:
            count += 1
    return count


class EarlyStoppingHook(HookBase):
    """Saves the final state and ends the training after ``patience`` evaluations without gain.

    To be registered behind the evaluation's hook. It has no state of its own: the evaluations are the evaluation
    hook's, which a checkpoint holds, so that a resumed training ends where an undisturbed one does. All processes end
    together, on the main process's word.
    """

    def __init__(
        self,
        *,
        evaluation: EvaluationHook,
        checkpointer: RunCheckpointer,
        patience: int,
        min_delta: float = 0.0,
    ):
        """
        Args:
            evaluation: what evaluates; its metric is looked at. Evaluations that give none (NaN) do not count.
            checkpointer: saves the final state.
            patience: evaluations without gain after which the training ends.
            min_delta: see :func:`evaluations_without_gain`.
        """
        self._evaluation = evaluation
        self._checkpointer = checkpointer
        self._patience = patience
        self._min_delta = min_delta

    def before_train(self) -> None:
        # One that ended so and is resumed, or lacked its last evaluation, which was made up for by now.
        done = self.trainer.start_iter
        if 0 < done < self.trainer.max_iter and self._is_over():
            # The state after the last step, and no longer before the next one.
            self.trainer.iter = done - 1
            self._end(done)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        is_evaluated = self._evaluation.last_done == done
        if is_evaluated and done < self.trainer.max_iter and self._is_over():
            self._end(done)

    def _is_over(self) -> bool:
        return run_on_main(
            lambda: (
                evaluations_without_gain(self._evaluation.values(), self._min_delta)
                >= self._patience
            )
        )

    def _end(self, done: int) -> None:
        best = self._evaluation.best
        logger.info(
            "Ending after iteration %d: %s was not better by more than %g for %d evaluations%s.",
            done - 1, self._evaluation.metric, self._min_delta, self._patience,
            "" if best is None else f"; its best is {best.value:.2f}, of iteration {best.iteration}",
        )  # fmt: skip
        self._checkpointer.average_statistics()
        run_on_main(lambda: self._checkpointer.save(done - 1, final=True))
        self.trainer.end()
