"""The checkpoints of a training: written whole, verified when read, the newest good one found."""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import nn

from smca.checkpoint.model_info import INFO_KEY, ModelInfo

from .ema import WeightAverage
from .main_process import run_on_main
from .run_directory import FINAL, MANIFEST, checkpoint_files
from .trainer import Trainer

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

        Raises:
            ValueError: if fewer than 2 are to be kept.
        """
        if max_to_keep is not None and max_to_keep < 2:
            raise ValueError(
                f"train.checkpointer.max_to_keep={max_to_keep}: keep at least 2, or there is nothing left if the "
                "newest is damaged; null keeps all"
            )
        self._root = Path(directory)
        self._model = model
        self._trainer = trainer
        self._average = average
        self._info = info
        self._max_to_keep = max_to_keep

    def save(self, iteration: int, *, final: bool = False) -> None:
        """Write a checkpoint that a resumed training continues after ``iteration``; on the main process.

        Raises:
            CheckpointWriteError: if the disk is full or cannot be written.
        """
        name = FINAL if final else f"model_{iteration:07d}.pth"
        self._write(name, self._weights(iteration) | {"trainer": self._trainer.state_dict()})
        manifest = self._read_manifest()
        manifest[name] = _fingerprint(self._root / name) | {"iteration": iteration}
        self._write_text(MANIFEST, json.dumps(manifest, indent=1))
        self._write_text("last_checkpoint", name)
        self._prune(manifest)
        logger.info("Saved %s.", self._root / name)

    def save_best(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Write "model_best.pth": weights and what they reached, nothing to resume from."""
        self._write("model_best.pth", self._weights(iteration, metrics))

    def resume(self) -> int:
        """Load the newest checkpoint that is whole, in every process; a damaged newer one is named.

        Returns:
            The first iteration to do.

        Raises:
            ValueError: if there is none, or it belongs to another model.
        """
        name = run_on_main(self._newest_whole)
        path = self._root / name
        try:
            content = _load(path)
        except OSError as error:
            raise ValueError(
                f"{path} cannot be read here ({error}): train.output_dir must be on a file system that all "
                "machines share"
            ) from error
        try:
            self._model.load_state_dict(content["model"])
            self._trainer.load_state_dict(content["trainer"])
        except (RuntimeError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"--resume: {path} does not fit this config ({reason[:300]}); resume with the config it was made "
                f"with, {self._root / 'config.yaml'}, or start a new run from it with train.init_checkpoint={path}"
            ) from error
        if self._average is not None:
            if "ema" not in content:
                raise ValueError(
                    f"--resume: {path} was written without EMA weights, but train.ema.enabled is set; resume without"
                )
            self._average.load_state_dict(content["ema"])
        logger.info("Resuming after iteration %d from %s.", content["iteration"], path)
        return content["iteration"] + 1

    def _weights(self, iteration: int, metrics: Mapping[str, float] | None = None) -> dict:
        content: dict[str, Any] = {"model": self._model.state_dict(), "iteration": iteration}
        if self._average is not None:
            content["ema"] = self._average.state_dict()
        if self._info is not None:
            info = dataclasses.replace(self._info, metrics=dict(metrics or {}))
            content[INFO_KEY] = info.to_json()
        return content

    def _newest_whole(self) -> str:
        manifest = self._read_manifest()
        found = checkpoint_files(self._root)
        # A file that the manifest does not know was renamed just before the end: newer than all others.
        known = [name for name in manifest if name in found]
        known.sort(key=lambda name: manifest[name]["iteration"], reverse=True)
        unknown = [name for name in found if name not in manifest]
        unknown.sort(key=lambda name: (self._root / name).stat().st_mtime, reverse=True)
        damaged = []
        for name in unknown + known:
            reason = _damage(self._root / name, manifest.get(name))
            if reason is None:
                return name
            damaged.append(name)
            logger.warning(
                "%s is damaged (%s); trying the one before it.", self._root / name, reason
            )
        raise ValueError(
            f"--resume: no checkpoint of {self._root} can be read ({', '.join(damaged)} damaged); start without "
            "--resume, with train.init_checkpoint=FILE if you have other weights"
        )

    def _read_manifest(self) -> dict[str, dict]:
        try:
            return json.loads((self._root / MANIFEST).read_text())
        except (OSError, ValueError):
            # The files themselves are still there, and are tried one by one.
            return {}

    def _prune(self, manifest: dict[str, dict]) -> None:
        if self._max_to_keep is None:
            return
        periodic = [name for name in manifest if name != FINAL]
        periodic.sort(key=lambda name: manifest[name]["iteration"])
        for name in periodic[: -self._max_to_keep]:
            (self._root / name).unlink(missing_ok=True)
            del manifest[name]
        self._write_text(MANIFEST, json.dumps(manifest, indent=1))

    def _write(self, name: str, content: dict) -> None:
        def write(partial: Path) -> None:
            with partial.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())

        self._replace(name, write)

    def _write_text(self, name: str, text: str) -> None:
        def write(partial: Path) -> None:
            with partial.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())

        self._replace(name, write)

    def _replace(self, name: str, write) -> None:
        partial = self._root / f"{name}.part"
        try:
            write(partial)
            os.replace(partial, self._root / name)
            _sync_directory(self._root)
        # PyTorch's writer turns the error of a full disk into a RuntimeError.
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            cause = error.__context__ if isinstance(error.__context__, OSError) else error
            reason = getattr(cause, "strerror", None) or str(cause).splitlines()[0]
            raise CheckpointWriteError(
                f"cannot write {self._root / name}: {reason}; earlier checkpoints are unharmed, make room and go on "
                "with --resume"
            ) from error


class CheckpointHook(HookBase):
    """Saves every ``period`` iterations, after the last one, and when the training is asked to stop."""

    def __init__(self, checkpointer: RunCheckpointer, period: int):
        """
        Args:
            checkpointer: see above.
            period: iterations between two checkpoints; 0 saves only at the end.
        """
        self._checkpointer = checkpointer
        self._period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        final = done == self.trainer.max_iter
        due = self._period > 0 and done % self._period == 0
        if not (final or due or self.trainer.stop_signum):
            return
        run_on_main(lambda: self._checkpointer.save(self.trainer.iter, final=final))


def _load(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


def _fingerprint(path: Path) -> dict:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _damage(path: Path, expected: Mapping | None) -> str | None:
    """Why a file is not what was written, or None."""
    if expected is not None:
        actual = _fingerprint(path)
        for key in ("bytes", "sha256"):
            if actual[key] != expected[key]:
                return f"its {key} are {actual[key]} instead of {expected[key]}"
        return None
    try:
        content = _load(path)
    except Exception as error:
        return str(error).splitlines()[0]
    return None if "trainer" in content else "it holds no state to resume from"


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
