"""Whether the files that the check is to write can be written, before the check takes its time."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from smca.errors import InputError
from smca.whole_file import is_written_in_place


def check_writable(path: str, option: str) -> None:
    """Refuse a file that could not be written, before the work that it is to hold.

    Args:
        path: of a file to be written; folders that are not there will be made.
        option: that names it.

    Raises:
        InputError: one sentence that names both.
    """
    if os.path.isdir(path):
        raise InputError(f"{option} {path} is a folder; name a file")
    with naming_option(option, path):
        if is_written_in_place(path):
            # A device such as /dev/full says no only when it is written to. Opening a pipe would wait for its reader.
            if not os.access(path, os.W_OK):
                raise PermissionError(None, "permission denied")
            return
        folder = Path(os.path.abspath(path)).parent
        while not os.path.lexists(folder):
            folder = folder.parent
        # To ask for the permission is not enough: in /proc and on a full disk even root cannot make a file.
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")


@contextlib.contextmanager
def naming_option(option: str, path: str) -> Iterator[None]:
    """Turns an error of the system into a sentence that names what was to be written.

    Raises:
        InputError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{option} {path} cannot be written: {reason}") from error
