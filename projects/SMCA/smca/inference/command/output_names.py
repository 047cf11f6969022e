import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from smca.whole_file import shortened


class OutputNames:
    """Paths in one folder for annotated files: none twice, none that of an input.

    Folders below an input folder are found again there. Names that differ in upper and lower case only count as equal,
    since on some systems they are.
    """

    def __init__(
        self, *, folder: Path, inputs: Iterable[Path], below: Mapping[Path, Path] | None = None
    ):
        """
        Args:
            folder: where the files go.
            inputs: files that must stay as they are.
            below: of an input, the folder below ``folder`` that its annotated file goes to; by default itself.
        """
        self.folder = folder
        self._below = below or {}
        self._taken = {_key(path) for path in inputs}

    def take(self, name: str, source: Path | None = None) -> Path:
        """The path for ``name``, such as "x.jpg"; "x_2.jpg" and so on if that is taken.

        Its folder is made.
        """
        folder = self.folder / self._below.get(source, "")
        wanted = Path(name)
        number = 1
        path = folder / _joined(wanted.stem, wanted.suffix)
        while _key(path) in self._taken:
            number += 1
            path = folder / _joined(wanted.stem, f"_{number}{wanted.suffix}")
        self._taken.add(_key(path))
        folder.mkdir(parents=True, exist_ok=True)
        return path


def _joined(stem: str, end: str) -> str:
    """A name no longer than a file system takes."""
    return shortened(stem, room=len(os.fsencode(end))) + end


def _key(path: Path) -> str:
    # Unlike pathlib's resolve it takes a link that leads to itself.
    return os.path.realpath(path).casefold()
