"""What the command line names: files, folders and patterns, as a list of image and video files."""

import dataclasses
import errno
import glob
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from smca.data.image_file import IMAGE_SUFFIXES

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".flv", ".ogv", ".3gp",
)  # fmt: skip

UNREAD_SUFFIXES = (
    ".heic", ".heif", ".svg", ".pdf", ".eps", ".ai", ".psd", ".xcf", ".jxl", ".jxr", ".dng", ".cr2", ".cr3", ".nef",
    ".arw", ".orf", ".raf", ".rw2", ".raw", ".tga", ".exr", ".hdr", ".dcm", ".pcx", ".wmf", ".emf",
)  # fmt: skip
"""What people take for an image and nothing here reads; told where a folder has it."""


@dataclasses.dataclass(frozen=True)
class Sources:
    """
    Attributes:
        files: in the order of the command line, folders sorted; none twice.
        below: of a file, the folder that it lies in as seen from the folder that was named; without an entry there.
        problems: a sentence for each name that led to no file, and for what is passed over.
    """

    files: list[Path]
    problems: list[str]
    below: dict[Path, Path] = dataclasses.field(default_factory=dict)


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(
    names: Sequence[str], *, recursive: bool = False, except_below: Path | None = None
) -> Sources:
    """The images and videos that a command's inputs name.

    Args:
        names: files, folders (their images and videos are meant) and patterns with * ? [] or **.
        recursive: folders below a folder, too.
        except_below: a folder that a folder above it does not lead into, where results are written to.
    """
    found: dict[str, Path] = {}
    below: dict[Path, Path] = {}
    problems: list[str] = []
    for name in map(os.fspath, names):
        if not name:
            problems.append("the name of an input is empty")
            continue
        root, before = Path(name), len(problems)
        # Not pathlib's own, which raises where a name is too long or a folder is closed.
        if os.path.isdir(name):
            files = _files_of(root, recursive, except_below, problems.append)
            nothing = "the folder has no images or videos"
        elif os.path.lexists(name) or not glob.has_magic(name):
            # Whether it can be read shows when its turn comes.
            files, root, nothing = [root], root.parent, ""
        else:
            files, root, nothing = _matches(name), _fixed_part(name), "no file matches"
        if not files and len(problems) == before:
            problems.append(f"{name}: {nothing}")
        for file in files:
            found.setdefault(os.path.abspath(file), file)
            below.setdefault(file, file.relative_to(root).parent)
    return Sources(list(found.values()), problems, below)


def _files_of(
    folder: Path, recursive: bool, except_below: Path | None, complain: Callable[[str], None]
) -> list[Path]:
    files, unread = [], Counter()
    for file in _walk(folder, recursive, except_below, complain):
        suffix = file.suffix.lower()
        if file.name.startswith(".") or os.path.isdir(file):
            continue
        # What such a link would lead to is not known; it is named when its turn comes, as one that is given itself.
        if suffix in IMAGE_SUFFIXES + VIDEO_SUFFIXES or _is_link_in_a_circle(file):
            files.append(file)
        elif suffix in UNREAD_SUFFIXES:
            unread[suffix] += 1
    if unread:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(unread.items()))
        complain(
            f"{folder}: files of kinds that cannot be read are passed over ({kinds}); convert them to JPEG or PNG"
        )
    return sorted(files)


def _walk(
    folder: Path, recursive: bool, except_below: Path | None, complain: Callable[[str], None]
) -> Iterator[Path]:
    excluded = os.path.realpath(except_below) if except_below is not None else None

    def passed_over(error: OSError) -> None:
        complain(f"{error.filename}: the folder cannot be read ({error.strerror})")

    for parent, folders, names in os.walk(folder, onerror=passed_over):
        yield from (Path(parent, name) for name in names)
        if not recursive:
            break
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(parent, name)) != excluded
        ]


def _is_link_in_a_circle(file: Path) -> bool:
    try:
        os.stat(file)
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _matches(pattern: str) -> list[Path]:
    # A link that leads nowhere is named when its turn comes, as if it had been given itself.
    return sorted(
        Path(name) for name in glob.iglob(pattern, recursive=True) if not os.path.isdir(name)
    )


def _fixed_part(pattern: str) -> Path:
    """The folder that all matches lie below."""
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)
    return Path(*fixed)
