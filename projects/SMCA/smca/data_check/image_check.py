"""Reads every image file of a data set as training will, in several processes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import numpy as np
from detectron2.utils.file_io import PathManager
from tqdm import tqdm

from smca.data.image_file import (
    MAX_DATA_SET_PIXELS,
    has_8_bits_in_more,
    is_turned,
    read_image,
)
from smca.data.image_files import DENIED, MISSING, file_problem
from smca.errors import InputError

from .findings import Finding, found

_CHUNK = 32
NO_PERMISSION = f"image file: {DENIED}"


class ImageState(NamedTuple):
    """What a look into one image file says.

    Attributes:
        size: (width, height) in pixels as training reads it, EXIF rotation applied; None if it cannot.
        error: ``MISSING``, ``DENIED`` or why else the file cannot be read; empty if it can.
        turned: whether the EXIF rotation swaps width and height.
        contrast: largest minus smallest value of the channel that has most, of 255.
        digest: the same for files of the same pixels.
        has_8_bits_in_more: whether it is black for 8-bit values in more bits.
    """

    size: tuple[int, int] | None
    error: str = ""
    turned: bool = False
    contrast: int = 255
    digest: str = ""
    has_8_bits_in_more: bool = False

    @property
    def is_denied(self) -> bool:
        return self.error == DENIED


def read_images(paths: Sequence[str], *, workers: int, progress: bool) -> list[ImageState]:
    """The state of each file; every pixel is decoded, which is the only way to see that a file is cut off.

    Args:
        paths: of the files.
        workers: processes; 0 reads in this one.
        progress: show a bar on stderr.

    Raises:
        InputError: if a process is killed.
    """
    bar = {"total": len(paths), "desc": "reading images", "unit": "img", "disable": not progress}
    if workers == 0:
        return list(tqdm(map(read_image_state, paths), **bar))
    try:
        with ProcessPoolExecutor(workers) as pool:
            return list(tqdm(pool.map(read_image_state, paths, chunksize=_CHUNK), **bar))
    except BrokenProcessPool as error:
        raise InputError(
            "a process that reads images was ended from outside, probably for want of memory: use fewer --workers"
        ) from error


def read_image_state(path: str) -> ImageState:
    if problem := file_problem(path):
        return ImageState(None, problem)
    try:
        local = PathManager.get_local_path(path)
        pixels = read_image(local, max_pixels=MAX_DATA_SET_PIXELS)
        turned = is_turned(local)
        black = has_8_bits_in_more(local, pixels)
    except (InputError, OSError) as error:
        if isinstance(error.__cause__ or error, PermissionError):
            return ImageState(None, DENIED)
        return ImageState(None, " ".join(str(error).removeprefix(f"{path}: ").split()))
    height, width, channels = pixels.shape
    return ImageState(
        (width, height),
        turned=turned,
        contrast=int(np.ptp(pixels.reshape(-1, channels), axis=0).max()),
        digest=hashlib.blake2b(pixels, digest_size=8).hexdigest(),
        has_8_bits_in_more=black,
    )


def find_image_faults(
    paths: Sequence[str], states: Sequence[ImageState], stated: np.ndarray
) -> list[Finding]:
    """Faults of the files and of their stated sizes.

    Args:
        paths, states: of N files.
        stated: (N, 2) float64 (width, height) in pixels that the annotations give, inf where they give none.
    """
    errors: dict[str, list[str]] = {MISSING: [], DENIED: []}
    unreadable, other = [], []
    for path, state, (width, height) in zip(paths, states, stated.tolist(), strict=True):
        if state.error in errors:
            errors[state.error].append(path)
        elif state.size is None:
            unreadable.append(f"{path}: {state.error}")
        elif width != np.inf and state.size != (width, height):
            swapped = state.turned and state.size == (height, width)
            note = ", turned by its EXIF data" if swapped else ""
            size = "x".join(map(str, state.size))
            other.append(f"{path} is {size}{note}, stated as {width:.0f}x{height:.0f}")
    advice = (
        "get the permission to read it and to enter its folder; --fix writes nothing until then"
    )
    return [
        *found("missing image file", errors[MISSING]),
        *found(NO_PERMISSION, errors[DENIED], remedy=advice),
        *found("unreadable image file", unreadable),
        *found("image of another size", other),
    ]
