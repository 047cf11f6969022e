import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Interruption:
    """A wish of a terminal or a scheduler that the command end: inside, the first is a KeyboardInterrupt.

    The second is ignored, since people press Ctrl-C twice while results are put in their place; a third ends the
    process at once. What the process was started to ignore (``nohup``) stays ignored.

    Attributes:
        signum: the signal; Ctrl-C's if there was none.
    """

    def __init__(self) -> None:
        self.signum = signal.SIGINT
        self._count = 0
        self._is_held = False
        self._before: dict[int, Any] = {}

    @property
    def status(self) -> int:
        """The exit status, as a shell tells it."""
        return 128 + self.signum

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, all files get one record; a wish that comes meanwhile is heard at the end."""
        self._is_held, before = True, self._count
        try:
            yield
        finally:
            self._is_held = False
        if self._count > before:
            raise KeyboardInterrupt

    def hold(self) -> None:
        """From now on results are finished, which takes a moment and must not be cut off."""
        self._is_held = True

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                if signal.getsignal(signum) != signal.SIG_IGN:
                    self._before[signum] = signal.signal(signum, self._receive)
        return self

    def __exit__(self, *error: Any) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _receive(self, signum: int, _frame: Any) -> None:
        self._count += 1
        if self._count > 2:
            os._exit(128 + signum)
        if self._count == 1 and not self._is_held:
            self.signum = signal.Signals(signum)
            raise KeyboardInterrupt
