"""Weights by name or URL as a local file, through Detectron2's own path handlers."""

import os

from detectron2.utils.file_io import PathManager


def fetch_weights(source: str) -> str:
    """The local file of a path, URL, "detectron2://" or "smca://" name; downloaded and cached by its handler.

    Raises:
        ValueError: if it cannot be fetched.
    """
    if "://" not in source:
        return source
    try:
        return os.fspath(PathManager.get_local_path(source))
    except (OSError, RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{source} cannot be fetched ({reason}); download it elsewhere and name the file"
        ) from error
