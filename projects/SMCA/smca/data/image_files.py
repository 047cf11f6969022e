"""The image files of a data set, all of them at once: that they are there, and their sizes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from detectron2.utils.file_io import PathManager

from smca.errors import InputError

from .image_file import read_image_size

# Headers of that many images are read in seconds; of COCO's they would hold up every start.
MAX_OPENED_IMAGES = 20_000
_THREADS = 8
BACKSLASH_ADVICE = "only Windows takes it for a folder's end, write / instead"


MISSING, DENIED = "missing", "permission denied"
"""What :func:`file_problem` says."""


def is_file(path: str) -> bool:
    try:
        return PathManager.isfile(path)
    except (OSError, ValueError):
        return False


def file_problem(path: str) -> str:
    """Empty for a file, else whether it is missing or its folder may not be entered, which ``isfile`` does not tell."""
    if is_file(path):
        return ""
    return DENIED if _is_denied(path) else MISSING


def describe_absence(path: str, kind: str) -> str:
    """Why a "file" or "folder" of that path is not found, for messages."""
    if _is_denied(path):
        return f"{kind} {path} cannot be looked for ({DENIED})"
    return f"there is no {kind} {path}"


def _is_denied(path: str) -> bool:
    try:
        os.stat(path)
    except PermissionError:
        return True
    except (OSError, ValueError):
        pass
    return False


def find_sizes(paths: Sequence[str], *, label: str) -> np.ndarray | None:
    """(N, 2) float64 (width, height) in pixels; None for more than ``MAX_OPENED_IMAGES`` files, which are not opened.

    Raises:
        InputError: if a file is missing or is no image, naming the first one.
    """
    check_files_exist(paths, label=label)
    if len(paths) > MAX_OPENED_IMAGES:
        return None
    sizes = read_sizes(paths)
    bad = [i for i, size in enumerate(sizes) if isinstance(size, str)]
    if bad:
        raise InputError(
            f"{len(bad)} of {len(paths)} image files of {label} cannot be read, the first is "
            f"{paths[bad[0]]} ({sizes[bad[0]]}); smca-check-dataset lists all of them"
        )
    return np.array(sizes, dtype=np.float64).reshape(-1, 2)


def read_sizes(paths: Sequence[str]) -> list[tuple[int, int] | str]:
    """(width, height) in pixels of each file, from its header, or why it cannot be read: ``MISSING`` or a phrase."""
    # Around all threads: Python's filters of warnings are the process's.
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool:
        warnings.simplefilter("ignore")
        return list(pool.map(_size_or_error, paths))


def check_files_exist(paths: Sequence[str], *, label: str) -> None:
    """A look at each path, but not into the files.

    Raises:
        InputError: if a file is missing or in a folder that may not be entered, naming the first one.
    """
    problems = [(path, problem) for path in paths if (problem := file_problem(path))]
    denied = [path for path, problem in problems if problem == DENIED]
    if denied:
        raise InputError(
            f"{len(denied)} of {len(paths)} image files of {label} cannot be read, the first is "
            f"{denied[0]} ({DENIED}); get the permission to enter its folder"
        )
    if problems:
        first = problems[0][0]
        advice = "check the folder of its images"
        if "\\" in first:
            advice = f"its name has a backslash: {BACKSLASH_ADVICE}"
        raise InputError(
            f"{len(problems)} of {len(paths)} image files of {label} are missing, the first is {first}; {advice}"
        )


def _size_or_error(path: str) -> tuple[int, int] | str:
    if problem := file_problem(path):
        return problem
    try:
        return read_image_size(PathManager.get_local_path(path))
    except (InputError, OSError) as error:
        return " ".join(str(error).removeprefix(f"{path}: ").split())
