"""The image files of a data set, all of them at once: that they are there, and their sizes."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from detectron2.utils.file_io import PathManager

from .image_file import read_image_size

_THREADS = 8


def is_file(path: str) -> bool:
    try:
        return PathManager.isfile(path)
    except (OSError, ValueError):
        return False


def read_image_sizes(paths: Sequence[str], *, label: str) -> np.ndarray:
    """(N, 2) float64 (width, height) in pixels; a data set that was read before is not read again.

    Raises:
        ValueError: if a file is missing or is no image, naming the first one.
    """
    return _read_image_sizes(tuple(paths), label)


@functools.lru_cache(maxsize=8)
def _read_image_sizes(paths: tuple[str, ...], label: str) -> np.ndarray:
    check_files_exist(paths, label=label)
    # Around all threads: Python's filters of warnings are the process's.
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool:
        warnings.simplefilter("ignore")
        sizes = list(pool.map(_size_or_error, paths))
    bad = [i for i, size in enumerate(sizes) if isinstance(size, str)]
    if bad:
        raise ValueError(
            f"{len(bad)} of {len(paths)} image files of {label} cannot be read, the first is "
            f"{paths[bad[0]]} ({sizes[bad[0]]}); smca-check-dataset lists all of them"
        )
    return np.array(sizes, dtype=np.float64).reshape(-1, 2)


def check_files_exist(paths: Sequence[str], *, label: str) -> None:
    """
    Raises:
        ValueError: if a file is missing, naming the first one.
    """
    missing = [path for path in paths if not is_file(path)]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(paths)} image files of {label} are missing, the first is "
            f"{missing[0]}; check the folder of its images"
        )


def _size_or_error(path: str) -> tuple[int, int] | str:
    try:
        return read_image_size(PathManager.get_local_path(path))
    except (ValueError, OSError) as error:
        return " ".join(str(error).removeprefix(f"{path}: ").split())
