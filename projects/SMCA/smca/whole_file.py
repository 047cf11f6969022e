"""Files that are there whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A path to write to, whose file takes the place of ``path`` at the end, on the disk and not only in its cache.

    After an error the file that was there before is unharmed, and what was written is gone.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.part")
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
