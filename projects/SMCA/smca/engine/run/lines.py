"""The numbers of a training as lines, one for each iteration that has some, and the file of them: metrics.json."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detectron2.utils.events import EventWriter, get_event_storage

WINDOW = 20
"""Iterations that a noisy number is smoothed over, as in Detectron2."""


class Line(NamedTuple):
    """Numbers of an iteration by their flat names."""

    iteration: int
    numbers: dict[str, float]


class LineWriter(EventWriter):
    """Collects what is new since it was last asked to write.

    Attributes:
        up_to: last iteration to write, where a later one is not to count.
    """

    def __init__(self, last: int, line: dict[str, float]):
        """
        Args:
            last: iteration up to which all is written already, but for ``line``.
            line: numbers of that iteration, if it is to have a line.
        """
        self._last = last
        self._pending: list[Line] = [Line(last, line)] if line else []
        self.up_to = math.inf

    def write(self) -> None:
        by_iteration: dict[int, dict] = defaultdict(dict)
        for name, (v, i) in get_event_storage().latest_with_smoothing_hint(WINDOW).items():
            if self._last < i <= self.up_to:
                by_iteration[i][name] = v
        for iteration, numbers in sorted(by_iteration.items()):
            self._pending.append(Line(iteration, numbers))
            self._last = iteration
        self.send(self._pending)
        self._pending = []

    def send(self, lines: Sequence[Line]) -> None:
        """Hand lines on; after an error they come again.

        Raises:
            OSError: if that is not possible now.
        """
        raise NotImplementedError


class MetricsFile(LineWriter):
    """A line of json per iteration, as Detectron2's ``JSONWriter``, but never half a line."""

    def __init__(self, path: Path, last: int, line: dict[str, float]):
        """See :class:`LineWriter`; ``path`` is appended to."""
        super().__init__(last, line)
        self._path = path

    def send(self, lines: Sequence[Line]) -> None:
        text = "".join(
            json.dumps({**line.numbers, "iteration": line.iteration}, sort_keys=True) + "\n"
            for line in lines
        )
        with open(self._path, "ab") as file:
            whole = file.tell()
            try:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), whole)
                raise
