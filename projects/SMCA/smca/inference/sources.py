"""What the command line names: files, folders and patterns, as a list of image and video files."""

import dataclasses
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp",
    ".avif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".qoi",
)  # fmt: skip
"""What counts as an image in a folder. A file that is named is tried whatever it ends in."""

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".flv", ".ogv", ".3gp",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sources:
    """
    Attributes:
        files: in the order of the command line, folders sorted; none twice.
        problems: a sentence for each name that led to no file.
    """

    files: list[Path]
    problems: list[str]


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(
    names: Sequence[str], *, recursive: bool = False, except_below: Path | None = None
) -> Sources:
    """
    Args:
        names: files, folders (their images and videos are meant) and patterns with * ? [] or **.
        recursive: folders below a folder, too.
        except_below: a folder that a folder above it does not lead into, where results are written to.
    """
    found: dict[Path, Path] = {}
    problems = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            files = _files_of(path, recursive, except_below)
            nothing = "the folder has no images or videos"
        elif os.path.lexists(path) or not glob.has_magic(name):
            # Whether it can be read shows when its turn comes.
            files, nothing = [path], ""
        else:
            files, nothing = _matches(name), "no file matches"
        if not files:
            problems.append(f"{name}: {nothing}")
        for file in files:
            found.setdefault(Path(os.path.abspath(file)), file)
    return Sources(list(found.values()), problems)


def _files_of(folder: Path, recursive: bool, except_below: Path | None) -> list[Path]:
    wanted = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    files = [
        file
        for file in (_walk(folder, except_below) if recursive else folder.iterdir())
        if file.suffix.lower() in wanted and not file.name.startswith(".") and not file.is_dir()
    ]
    return sorted(files)


def _walk(folder: Path, except_below: Path | None) -> Iterator[Path]:
    excluded = except_below.resolve() if except_below is not None else None
    for parent, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and Path(parent, name).resolve() != excluded
        ]
        yield from (Path(parent, name) for name in names)


def _matches(pattern: str) -> list[Path]:
    found = (Path(name) for name in glob.iglob(pattern, recursive=True))
    return sorted(path for path in found if path.is_file())
