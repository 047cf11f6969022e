import contextlib
import os
import sys
from typing import TextIO

from tqdm import tqdm

from smca.text import printable
from smca.whole_file import naming

STDOUT = "standard output"


class Console:
    """Lines for people on standard output, and sentences on standard error, around a progress bar.

    Either may be closed, or be closed by who reads it.
    """

    def __init__(self, *, results_on_stdout: bool = False):
        """
        Args:
            results_on_stdout: whether a program reads standard output, so that lines for people go the other way.
        """
        self._lines = sys.stderr if results_on_stdout else sys.stdout

    def tell(self, line: str) -> None:
        """A line that may get lost."""
        with contextlib.suppress(OSError):
            _write(line, self._lines)

    def complain(self, sentence: str) -> None:
        with contextlib.suppress(OSError):
            _write(f"smca-predict: {sentence}", sys.stderr)

    def print_result(self, line: str) -> None:
        """A line that must not get lost.

        Raises:
            OSError: if it cannot be written; with the name ``STDOUT``.
        """
        with naming(STDOUT):
            _write(line, self._lines)


def fill_closed_streams() -> None:
    """Or the next file to be opened would get the number of a closed one, and take what is printed there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def flush_stdout() -> None:
    """So that an error shows now, where it can be told, and not when Python ends.

    Raises:
        OSError: with the name ``STDOUT``.
    """
    if sys.stdout is None:
        return
    try:
        with naming(STDOUT):
            sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError), open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        raise


def _write(line: str, stream: TextIO | None) -> None:
    if stream is not None:
        tqdm.write(printable(line, stream.encoding or "utf-8"), file=stream)
