"""Files that are there whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_LONGEST_NAME = 255
"""Bytes, of the usual file systems."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike, *, ending: str = "") -> Iterator[Path]:
    """A path to write to, whose file takes the place of ``path`` at the end, on the disk and not only in its cache.

    After an error the file that was there before is unharmed, and what was written is gone. A pipe or a device is
    written in place: it must not become a file.

    Args:
        path: the file.
        ending: that the path to write to must have, for a writer that goes by it.

    Raises:
        OSError: with the file's name, if it cannot be written.
    """
    path = Path(path)
    if is_written_in_place(path):
        with naming(path):
            yield path
        return
    end = f".part{ending}"
    # With an ending it would be taken for a whole file where nobody is left to remove it, so it is hidden.
    start = "." if ending else ""
    name = shortened(path.name, room=len(start + end))
    partial = path.with_name(f"{start}{name}{end}")
    try:
        with naming(path, instead_of=partial):
            yield partial
            with partial.open("r+b") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        # Where nothing could be made nothing can be removed, and that is not what went wrong.
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def naming(path: str | os.PathLike, *, instead_of: Path | None = None) -> Iterator[None]:
    """Give errors of the system a file's name: "no space left" alone does not say where."""
    try:
        yield
    except OSError as error:
        is_named = error.filename is not None and str(error.filename) != str(instead_of)
        if is_named or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def is_written_in_place(path: str | os.PathLike) -> bool:
    """Whether a file may not take the path's place: that of a device or pipe, or of a link to an open file."""
    if os.path.lexists(path) and os.path.abspath(path).startswith(("/dev/", "/proc/")):
        # /dev/stdout is a link, to a regular file as often as not.
        return os.path.islink(path) or not os.path.isfile(path)
    return os.path.exists(path) and not os.path.isfile(path)


def shortened(name: str, *, room: int = 0) -> str:
    """A file name cut so that ``room`` more bytes fit."""
    while len(os.fsencode(name)) > _LONGEST_NAME - room:
        name = name[:-1]
    return name
