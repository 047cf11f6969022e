from collections.abc import Iterable
from pathlib import Path


class OutputNames:
    """Paths in one folder for annotated files: none twice, none that of an input.

    Names that differ in upper and lower case only count as equal, since on some systems they are.
    """

    def __init__(self, *, folder: Path, inputs: Iterable[Path]):
        """
        Args:
            folder: where the files go.
            inputs: files that must stay as they are.
        """
        self.folder = folder
        self._taken = {_key(path) for path in inputs}

    def take(self, name: str) -> Path:
        """The path for ``name``, such as "x.jpg"; "x_2.jpg" and so on if that is taken."""
        wanted = Path(name)
        number = 1
        path = self.folder / name
        while _key(path) in self._taken:
            number += 1
            path = self.folder / f"{wanted.stem}_{number}{wanted.suffix}"
        self._taken.add(_key(path))
        return path


def _key(path: Path) -> str:
    return str(path.resolve()).casefold()
