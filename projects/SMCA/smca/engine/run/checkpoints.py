"""The checkpoints of a training: written whole, verified when read, the newest good one found."""

import contextlib
import dataclasses
import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from smca.description.model_info import INFO_KEY, ModelInfo
from smca.engine.averages import WeightAverage, average_statistics
from smca.engine.trainer import Stopped, Trainer
from smca.errors import InputError
from smca.main_process import run_on_main
from smca.whole_file import replacing

from .newest_checkpoint import (
    check_classes,
    fingerprint,
    load_checkpoint,
    newest_checkpoint,
    one_line,
    read_manifest,
)
from .run_directory import BEST, FINAL, MANIFEST, checkpoint_files, iteration_of

logger = logging.getLogger(__name__)


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; those written before are as they were."""


class RunCheckpointer:
    """Saves and restores everything a training needs to go on as if it had never stopped.

    A file is ``{"model", "ema", "trainer", "iteration", "smca"}``, tensors and plain values only, so that
    ``torch.load`` takes it with ``weights_only``. Random states are not in it: sample order, augmentation and
    dropout follow from (seed, iteration). "checkpoints.json" has size and sha256 of every file, "last_checkpoint"
    the newest one's name, as Detectron2 writes it.
    """

    def __init__(
        self,
        *,
        directory: str,
        model: nn.Module,
        trainer: Trainer,
        average: WeightAverage | None = None,
        info: ModelInfo | None = None,
        max_to_keep: int | None = 3,
    ):
        """
        Args:
            directory: the run's output directory; on several machines one that all of them see.
            model: the detector, not wrapped.
            trainer: its ``state_dict`` holds optimiser, hooks, scaler and iteration.
            average: EMA weights, saved beside the raw ones.
            info: description of the model, saved with it.
            max_to_keep: periodic checkpoints to keep, at least 2 so that a damaged one can be replaced; None keeps all.
        """
        self.model = model
        self._root = Path(directory)
        self.trainer = trainer
        self.average = average
        self._info = info
        self._max_to_keep = max_to_keep

    def save(self, iteration: int, *, final: bool = False) -> None:
        """Write a checkpoint that a resumed training continues after ``iteration``; on the main process.

        Raises:
            CheckpointWriteError: if the disk is full or cannot be written.
        """
        name = FINAL if final else f"model_{iteration:07d}.pth"
        self._write(name, self._weights(iteration) | {"trainer": self.trainer.state_dict()})
        manifest = read_manifest(self._root)
        manifest[name] = fingerprint(self._root / name) | {"iteration": iteration}
        self._write_text(MANIFEST, json.dumps(manifest, indent=1))
        self._write_text("last_checkpoint", name)
        self._prune(manifest)
        logger.info("Saved %s.", self._root / name)

    def average_statistics(self) -> None:
        """Running statistics become the same in all processes, which all have to call this."""
        for model in (self.model, *([] if self.average is None else [self.average.model])):
            average_statistics(model)

    def save_best(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Write "model_best.pth": weights and what they reached, nothing to resume from."""
        self._write(BEST, self._weights(iteration, metrics))

    def resume(self) -> int:
        """Load the newest checkpoint that is whole, in every process; a damaged newer one is named.

        Returns:
            The first iteration to do.

        Raises:
            InputError: if there is none, or it belongs to another model.
        """
        path = run_on_main(self._newest_whole)
        content = load_checkpoint(path)
        check_classes(path, content, () if self._info is None else self._info.class_names)
        try:
            self.model.load_state_dict(content["model"])
            self.trainer.load_state_dict(content["trainer"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise InputError(
                f"--resume: {path} does not fit this config ({one_line(error)}); resume with the config it was made "
                f"with, {self._root / 'config.yaml'}, or start a new run from it with train.init_checkpoint={path}"
            ) from error
        if self.average is not None:
            if "ema" not in content:
                raise InputError(
                    f"--resume: {path} was written without EMA weights, but train.ema.enabled is set; resume without"
                )
            self.average.load_state_dict(content["ema"])
        logger.info("Resuming after iteration %d from %s.", content["iteration"], path)
        return content["iteration"] + 1

    def _weights(self, iteration: int, metrics: Mapping[str, float] | None = None) -> dict:
        content: dict[str, Any] = {"model": self.model.state_dict(), "iteration": iteration}
        if self.average is not None:
            content["ema"] = self.average.state_dict()
        if self._info is not None:
            info = dataclasses.replace(self._info, metrics=dict(metrics or {}))
            content[INFO_KEY] = info.to_json()
        return content

    def _newest_whole(self) -> Path:
        # Left by a process that was killed while it wrote.
        for partial in self._root.glob("*.part"):
            partial.unlink(missing_ok=True)
        return newest_checkpoint(self._root)

    def _prune(self, manifest: dict[str, dict]) -> None:
        if self._max_to_keep is None:
            return
        # From the directory, for a file that was written just before a kill is not in the manifest.
        periodic = [name for name in checkpoint_files(self._root) if name != FINAL]
        periodic.sort(key=iteration_of)
        for name in periodic[: -self._max_to_keep]:
            (self._root / name).unlink(missing_ok=True)
            manifest.pop(name, None)
        self._write_text(MANIFEST, json.dumps(manifest, indent=1))

    def _write(self, name: str, content: dict) -> None:
        with self._replacing(name) as partial, _WatchedFile(io.FileIO(partial, "wb")) as file:
            try:
                torch.save(content, file)
            except RuntimeError as error:
                # PyTorch's writer calls the file from C++ and raises an error of its own for the file's.
                raise file.error or error from error

    def _write_text(self, name: str, text: str) -> None:
        with self._replacing(name) as partial:
            partial.write_text(text)

    @contextlib.contextmanager
    def _replacing(self, name: str) -> Iterator[Path]:
        try:
            with replacing(self._root / name) as partial:
                yield partial
            _sync_directory(self._root)
        except OSError as error:
            raise CheckpointWriteError(
                f"cannot write {self._root / name}: {error.strerror or error}; earlier checkpoints are unharmed, make "
                "room and go on with --resume"
            ) from error


class _WatchedFile(io.BufferedWriter):
    """Remembers the error with which it could not be written."""

    error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


class CheckpointHook(HookBase):
    """Saves every ``period`` iterations, after the last one, and when the training is asked to stop or fails."""

    def __init__(self, checkpointer: RunCheckpointer, period: int):
        """To be registered behind the schedule's hook, whose state is saved.

        Args:
            checkpointer: see above.
            period: iterations between two checkpoints; 0 saves only at the end.
        """
        self._checkpointer = checkpointer
        self._period = period
        self._done = self._saved = -1

    def before_train(self) -> None:
        # What was loaded is there; of a new training there is nothing yet.
        self._done = self._saved = self.trainer.start_iter - 1

    def after_step(self) -> None:
        self._done = self.trainer.iter
        self.trainer.is_step_whole = True
        done = self.trainer.iter + 1
        final = done == self.trainer.max_iter
        due = self._period > 0 and done % self._period == 0
        if not (final or due or self.trainer.stop_signum):
            return
        self._saved = self.trainer.iter
        self._checkpointer.average_statistics()
        run_on_main(lambda: self._checkpointer.save(self.trainer.iter, final=final))

    def after_train(self) -> None:
        """After an error save the last whole step, in the main process alone: the others may be gone."""
        # Not after a second Ctrl-C, which is in a hurry.
        has_failed = isinstance(sys.exc_info()[1], Exception | Stopped)
        if not (has_failed and self.trainer.is_step_whole and self._done > self._saved):
            return
        self._saved = self._done
        if comm.is_main_process():
            try:
                self._checkpointer.save(self._done)
            except CheckpointWriteError as error:
                # What ended the training is said after this.
                logger.error("Iteration %d is lost: %s", self._done, error)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
