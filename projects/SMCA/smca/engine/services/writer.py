"""Hands the lines of metrics.json to a service, from a thread of its own: a training neither waits nor ends for it."""

import json
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from omegaconf import OmegaConf

from smca.engine.run.lines import Line, LineWriter
from smca.whole_file import replacing

logger = logging.getLogger(__name__)

CONFIG = "config.yaml"
_PATIENCE = 60.0
"""Seconds that the start and the end of a training wait for a service."""
_PAUSE = 60.0
"""Seconds until a service that failed is tried again."""
_PATIENT_TRIES = 3
"""Failures in a row until later lines are tried, and the most lines that are passed over for it."""


class ServiceRun(Protocol):
    """A run at a service; whatever goes wrong is raised as any exception.

    Attributes:
        id: that the run is gone on with by.
    """

    id: str

    def __init__(self, *, run_id: str | None, name: str, folder: Path, settings: Mapping):
        """
        Args:
            run_id: of a run to go on with; None begins one.
            name: what to call a new one.
            folder: of the training.
            settings: of the experiment by their flat names, for a new one.
        """

    def log(self, line: Line) -> None:
        """Keep the numbers of an iteration."""

    def finish(self, *, succeeded: bool) -> None:
        """Close the run, of a training that has come to its end or has not."""


class ServiceWriter(LineWriter):
    """Sends every line once, also over a resume: "service_NAME.json" says which run it is and what it has.

    After a kill the iterations between the last checkpoint and it are done again, with the same numbers; the service
    has them already and does not get them twice.
    """

    def __init__(
        self,
        name: str,
        connect: type[ServiceRun],
        folder: Path,
        last: int,
        line: dict[str, float],
    ):
        """
        Args:
            name: of the service.
            connect: begins a run, or goes on with one.
            folder: of the training.
            last, line: see :class:`LineWriter`.
        """
        super().__init__(last, line)
        self._name = name
        self._connect = connect
        self._folder = folder
        self._file = folder / f"service_{name}.json"
        self._known = _read(self._file)
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._is_connected = threading.Event()
        self._failures = 0
        # A service that hangs does not keep the process.
        self._thread = threading.Thread(target=self._work, name=f"smca-{name}", daemon=True)
        self._thread.start()
        self._is_connected.wait(_PATIENCE)

    def send(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self._queue.put(line)

    def finish(self, *, succeeded: bool) -> None:
        """The last lines, and the run's end; to be called instead of ``close``."""
        self._queue.put(succeeded)
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            logger.warning("%s does not answer; what it lacks is in metrics.json.", self._name)

    def _work(self) -> None:
        waiting: deque[Line] = deque()
        succeeded: bool | None = None
        run = self._try(None, waiting, succeeded)
        while succeeded is None:
            retry_at = time.monotonic() + _PAUSE if self._failures else None
            while succeeded is None:
                timeout = None if retry_at is None else max(0.0, retry_at - time.monotonic())
                try:
                    entry = self._queue.get(timeout=timeout)
                except queue.Empty:
                    break
                if isinstance(entry, Line):
                    waiting.append(entry)
                else:
                    succeeded = entry
                if not self._failures:
                    break
            run = self._try(run, waiting, succeeded)

    def _try(
        self, run: ServiceRun | None, waiting: deque[Line], succeeded: bool | None
    ) -> ServiceRun | None:
        """Send what waits; a failure, which may be any exception of the service's package, is told once."""
        try:
            if run is None:
                run = self._connected()
            self._send(run, waiting, succeeded)
        except Exception as error:
            if not self._failures:
                logger.warning(
                    "%s cannot be written (%s); the training goes on.", self._name, _reason(error)
                )
            self._failures += 1
            if succeeded is not None and waiting:
                logger.warning("%s lacks the last lines; metrics.json has them.", self._name)
        else:
            if self._failures:
                logger.warning("%s can be written again.", self._name)
            self._failures = 0
        finally:
            self._is_connected.set()
        return run

    def _send(self, run: ServiceRun, waiting: deque[Line], succeeded: bool | None) -> None:
        """All that waits in its order, and the end.

        A line that is refused again and again is tried a last time after a later one was taken: the service works then.
        """
        most = _PATIENT_TRIES if succeeded is not None or self._failures >= _PATIENT_TRIES else 0
        refused: list[tuple[Line, Exception]] = []
        for line in tuple(waiting):
            try:
                self._log(run, line)
            except Exception as error:
                refused.append((line, error))
                if len(refused) > most:
                    raise
            else:
                self._catch_up(run, refused, waiting)
                waiting.popleft()
        if succeeded is not None:
            run.finish(succeeded=succeeded)
            self._catch_up(run, refused, waiting)
        elif refused:
            raise refused[0][1]

    def _catch_up(
        self, run: ServiceRun, refused: list[tuple[Line, Exception]], waiting: deque[Line]
    ) -> None:
        """Once more those that wait before a line that was taken: the service may have come back in between."""
        for line, error in refused:
            waiting.popleft()
            try:
                run.log(line)
            except Exception:
                logger.warning(
                    "%s does not take iteration %d (%s) and lacks it; metrics.json has it.",
                    self._name,
                    line.iteration,
                    _reason(error),
                )
        refused.clear()

    def _connected(self) -> ServiceRun:
        run = self._connect(
            run_id=self._known.get("run"),
            name=self._folder.absolute().name,
            folder=self._folder,
            settings=_settings(self._folder / CONFIG),
        )
        self._remember(run=run.id)
        return run

    def _log(self, run: ServiceRun, line: Line) -> None:
        sent = self._known.get("iteration", -1)
        names = set(self._known.get("names", ())) if line.iteration == sent else set()
        new = {name: value for name, value in line.numbers.items() if name not in names}
        if line.iteration >= sent and new:
            run.log(Line(line.iteration, new))
            self._remember(iteration=line.iteration, names=sorted(names | new.keys()))

    def _remember(self, **entries: object) -> None:
        self._known |= entries
        with replacing(self._file) as partial:
            partial.write_text(json.dumps(self._known))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _read(path: Path) -> dict:
    """Nothing where there is no such file, or it is damaged: the run begins anew then."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _settings(path: Path) -> dict:
    """Fields of the run's config by their flat names; nothing where yaml could not hold them."""
    if not path.is_file():
        return {}
    flat: dict[str, object] = {}

    def visit(prefix: str, node: object) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                visit(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            flat[prefix] = node

    visit("", OmegaConf.to_container(OmegaConf.load(path)))
    return flat
