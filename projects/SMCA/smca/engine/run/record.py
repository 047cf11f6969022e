"""What a training leaves for its readers: metrics.json, TensorBoard's files, services, and lines on the console."""

import datetime
import functools
import json
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    EventWriter,
    TensorboardXWriter,
)
from fvcore.common.history_buffer import HistoryBuffer

from smca.engine.services import ServiceWriter, service_writer
from smca.whole_file import replacing

from .lines import WINDOW, MetricsFile

logger = logging.getLogger(__name__)

METRICS = "metrics.json"
_REMEMBERED = 1000
"""Values of each number that are kept in memory, what Detectron2's own estimates look at."""


class RecordHook(HookBase):
    """Writes every ``period`` iterations, in the main process; to be registered last.

    A file that cannot be written does not end the training: that is said once, and what metrics.json lacks is written
    when it can be. After a resume the record goes on where the checkpoint is: readers see every iteration once.
    """

    def __init__(
        self, *, output_dir: str, max_iter: int, period: int = 20, services: Sequence[str] = ()
    ):
        """
        Args:
            output_dir: of metrics.json and TensorBoard's files.
            max_iter: iterations of the whole training.
            period: iterations between two lines.
            services: names of :data:`~smca.engine.services.SERVICES` that get the same lines.
        """
        self._output_dir = Path(output_dir)
        self._max_iter = max_iter
        self._period = period
        self._service_names = services
        self._services: list[ServiceWriter] = []
        self._saved: dict[str, tuple[float, int]] = {}
        self._files: list[_Guarded] = []
        self._metrics: MetricsFile | None = None
        self._done = -1
        self._console: EventWriter | None = None

    def before_train(self) -> None:
        storage, start = self.trainer.storage, self.trainer.start_iter
        # Detectron2 keeps a million values of each number: gigabytes over a long training.
        storage._history = defaultdict(functools.partial(HistoryBuffer, max_length=_REMEMBERED))
        if not comm.is_main_process():
            return
        self._output_dir.mkdir(parents=True, exist_ok=True)
        path = self._output_dir / METRICS
        last = start - 1
        line = self._last_line(last, cut_back(path, start)) if start else {}
        self._done = last
        self._metrics = metrics = MetricsFile(path, last, line)
        self._files = [
            _Guarded(str(path), lambda: metrics),
            _Guarded(
                f"TensorBoard's file in {self._output_dir}",
                lambda: _make_tensorboard(str(self._output_dir), last, line),
            ),
        ]
        self._services = [
            service_writer(name, self._output_dir, last, line) for name in self._service_names
        ]
        self._console = _Console(self._max_iter, start)
        if line:
            self._write_files()

    def _last_line(self, iteration: int, written: dict) -> dict:
        """Before the checkpoint; a kill may have cut it off, or an evaluation been made up for since."""
        latest = self.trainer.storage.latest()
        evaluated = {name: value for name, (value, i) in latest.items() if i == iteration}
        if not (written or evaluated or (iteration + 1) % self._period == 0):
            return {}
        saved = {name: value for name, (value, i) in self._saved.items() if i == iteration}
        return {**saved, **written, **evaluated}

    def after_step(self) -> None:
        self._done = self.trainer.iter
        done = self.trainer.iter + 1
        if self._console is not None and (done % self._period == 0 or done == self._max_iter):
            self._write()

    def after_train(self) -> None:
        if self._console is None:
            return
        # Of a training that ended early, and of an evaluation that came after the last step.
        if self._done == self.trainer.iter or self.trainer.iter >= self._max_iter:
            self._write()
        else:
            # A step that failed has no line, whatever it came to know before.
            for writer in (self._metrics, *self._services):
                writer.up_to = self._done
            self._write_files()
        for file in self._files:
            file.close()
        for service in self._services:
            service.finish(succeeded=self.trainer.iter >= self._max_iter or self.trainer.is_ended)

    def _write(self) -> None:
        self._console.write()
        self._write_files()

    def _write_files(self) -> None:
        for file in (*self._files, *self._services):
            file.write()

    def state_dict(self) -> dict:
        """Numbers of the last step, which are perhaps not written yet."""
        latest = self.trainer.storage.latest_with_smoothing_hint(WINDOW)
        return {"latest": {name: [float(v), int(i)] for name, (v, i) in latest.items()}}

    def load_state_dict(self, state_dict: dict) -> None:
        self._saved = {name: tuple(entry) for name, entry in state_dict["latest"].items()}


def cut_back(path: Path, start: int) -> dict:
    """Leave one line of each iteration before ``start`` in a metrics.json, but not of the last one.

    Returns:
        What stood in that last one's line; empty if there was none.
    """
    lines: dict[int, dict] = {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            iteration = entry["iteration"]
        except (ValueError, TypeError, KeyError):
            continue  # half a line, of a kill or a full disk
        if isinstance(iteration, int) and iteration < start:
            # An evaluation that was caught up on has a line of its own.
            lines[iteration] = lines.get(iteration, {}) | entry
    last = lines.pop(start - 1, {})
    with replacing(path) as partial:
        partial.write_text("".join(f"{json.dumps(lines[i], sort_keys=True)}\n" for i in lines))
    last.pop("iteration", None)
    return last


class _Guarded:
    """A writer whose failures are told once and do not reach the training."""

    def __init__(self, name: str, make):
        self._name, self._make = name, make
        self._writer: EventWriter | None = None
        self._is_failing = False

    def write(self) -> None:
        try:
            if self._writer is None:
                self._writer = self._make()
            self._writer.write()
        except OSError as error:
            if not self._is_failing:
                logger.warning(
                    "%s cannot be written (%s); the training goes on without.",
                    self._name, error.strerror or error,
                )  # fmt: skip
            self._is_failing = True
            if not isinstance(self._writer, MetricsFile):
                # TensorBoard's writing thread does not live on after an error.
                self._writer = None
        else:
            if self._is_failing:
                logger.warning("%s can be written again.", self._name)
            self._is_failing = False

    def close(self) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        except OSError as error:
            logger.warning("%s: the last lines are not written (%s).", self._name, error)


def _make_tensorboard(folder: str, last: int, line: dict) -> TensorboardXWriter:
    """Readers forget what earlier files have of iteration ``last`` and of later ones."""
    writer = TensorboardXWriter(folder, WINDOW, purge_step=last if last >= 0 else None)
    for name, value in line.items():
        writer._writer.add_scalar(name, value, last)
    writer._last_write = last
    return writer


class _Console(CommonMetricPrinter):
    """Detectron2's line, with an estimate that counts evaluations and checkpoints in."""

    def __init__(self, max_iter: int, start_iter: int):
        super().__init__(max_iter, WINDOW)
        self._start_iter = start_iter
        self._start_time = time.perf_counter()

    def _get_eta(self, storage: EventStorage) -> str:
        done = max(1, storage.iter + 1 - self._start_iter)
        left = self._max_iter - storage.iter - 1
        seconds = (time.perf_counter() - self._start_time) / done * left
        storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
        return str(datetime.timedelta(seconds=int(seconds)))
