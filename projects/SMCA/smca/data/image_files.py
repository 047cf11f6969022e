"""Sizes of image files as Detectron2 will read them, from their headers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image

_EXIF_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
_THREADS = 8

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that are missing or that it cannot read."""


def is_file(path: str) -> bool:
    try:
        return PathManager.isfile(path)
    except (OSError, ValueError):
        return False


def size_of(image: Image.Image) -> tuple[int, int]:
    """(width, height) in pixels after the rotation that the EXIF data asks for, which Detectron2 applies."""
    width, height = image.size
    try:
        turned = image.getexif().get(_EXIF_ORIENTATION) in _TURNED
    except Exception:  # Detectron2 takes the image as it is, too
        turned = False
    return (height, width) if turned else (width, height)


def read_image_size(path: str) -> tuple[int, int]:
    """(width, height) in pixels.

    Raises:
        UNREADABLE: whatever Pillow raises.
    """
    with PathManager.open(path, "rb") as file, Image.open(file) as image:
        return size_of(image)


def read_image_sizes(paths: Sequence[str], *, label: str) -> np.ndarray:
    """(N, 2) float64 (width, height) in pixels; a data set that was read before is not read again.

    Raises:
        ValueError: if a file is missing or is no image, naming the first one.
    """
    return _read_image_sizes(tuple(paths), label)


@functools.lru_cache(maxsize=8)
def _read_image_sizes(paths: tuple[str, ...], label: str) -> np.ndarray:
    check_files_exist(paths, label=label)
    with ThreadPoolExecutor(_THREADS) as pool:
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
        return read_image_size(path)
    except UNREADABLE as error:
        return " ".join(str(error).split())
