"""One training per output directory."""

import contextlib
import fcntl
import logging
import os
import socket
import time
from multiprocessing.util import Finalize
from pathlib import Path

from smca.errors import InputError

logger = logging.getLogger(__name__)

LOCK = "run.lock"
_held: dict[Path, int] = {}


def lock_run(output_dir: str | Path) -> None:
    """Hold the lock of an output directory until this process ends, however it ends.

    It is a POSIX record lock: the kernel takes it back from a process that is gone, file servers know it, so that it
    holds between machines that share the directory, too, and loading processes do not inherit it.

    Raises:
        InputError: if another process holds it; names host and process.
        OSError: if the directory cannot be written.
    """
    path = Path(output_dir).resolve() / LOCK
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.read(descriptor, 500).decode("utf-8", "replace").strip()
            os.close(descriptor)
            raise InputError(
                f"train.output_dir {output_dir} is in use by another training ({holder or 'just starting'}); wait for "
                "its end, or give this one another train.output_dir"
            ) from None
        except OSError as error:
            os.close(descriptor)
            logger.warning("%s: locks do not work there (%s).", path, error.strerror)
            return
        if _is_still(path, descriptor):
            break
        # Its holder has just ended and taken the file away.
        os.close(descriptor)
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    with contextlib.suppress(OSError):  # of a full disk: the lock itself takes no room
        os.ftruncate(descriptor, 0)
        os.write(
            descriptor, f"host {socket.gethostname()}, process {os.getpid()}, {started}\n".encode()
        )
    _held[path] = descriptor
    # Unlike atexit's also at the end of a process that multiprocessing has started.
    Finalize(None, unlock_runs, exitpriority=0)


def unlock_runs() -> None:
    """Give back what this process holds."""
    while _held:
        path, descriptor = _held.popitem()
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
