"""A scheduler's or a terminal's wish that the training end, kept until the step is done."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class TrainingInterrupted(Exception):  # noqa: N818 - it is no error
    """The training ended early and in order because it was asked to.

    Attributes:
        signum: the signal that asked.
    """

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum


class StopSignal:
    """Remembers the first of ``STOP_SIGNALS`` that this process gets; a second Ctrl-C ends it at once."""

    def __init__(self) -> None:
        self.signum = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside; outside, and in other threads than the main one, they do what they did."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.signum = 0
        before = {signum: signal.signal(signum, self._receive) for signum in STOP_SIGNALS}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _receive(self, signum: int, _frame) -> None:
        if self.signum and signum == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signum:
            return
        self.signum = signum
        # Without the signal's name: a launcher passes a Ctrl-C on as another.
        logger.warning(
            "The training was asked to stop: it is saved and ends after this step%s.",
            " (again to end it at once)" if signum == signal.SIGINT else "",
        )
