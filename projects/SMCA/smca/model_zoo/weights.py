"""Names of trained weights as verified local files."""

import os
from pathlib import Path

from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler, get_cache_dir

from smca.errors import InputError

from .download import download, is_intact
from .index import ZooEntry, find_entry

PREFIX = "smca://"
CACHE_ENVIRONMENT = "SMCA_CACHE"


def resolve_weights(source: str) -> str:
    """The local file of a name such as "smca://smca_r50_50ep"; any other path as it is.

    Weights are downloaded once, into $SMCA_CACHE or, without it, where Detectron2 keeps its downloads
    ($FVCORE_CACHE or ~/.torch/iopath_cache), in "smca/". Their hash is looked at each time.

    Raises:
        InputError: if no index has the name, or the file cannot be fetched, or is not what the index says.
    """
    if not source.startswith(PREFIX):
        return source
    return str(local_file(find_entry(source.removeprefix(PREFIX).rstrip("/"))))


def local_file(entry: ZooEntry) -> Path:
    """The verified file of an entry.

    Raises:
        InputError: as :func:`resolve_weights`.
    """
    if entry.is_local:
        path = Path(entry.url)
        if not path.is_file():
            raise InputError(f"{PREFIX}{entry.name}: the file {path} of the index does not exist")
        if not is_intact(path, sha256=entry.sha256, size=entry.size):
            raise InputError(
                f"{PREFIX}{entry.name}: {path} is not the file that the index describes: its size or sha256 is another"
            )
        return path
    # The hash keeps files of one name apart; a newer entry is another file.
    path = cache_folder() / entry.sha256[:16] / entry.file_name
    if not is_intact(path, sha256=entry.sha256, size=entry.size):
        download(entry.url, path, sha256=entry.sha256, size=entry.size)
    return path


def cache_folder() -> Path:
    """Where downloads are kept."""
    own = os.environ.get(CACHE_ENVIRONMENT)
    return Path(own).expanduser() if own else Path(get_cache_dir()) / "smca"


class ZooPathHandler(PathHandler):
    """Lets Detectron2's checkpointer, and so ``MODEL.WEIGHTS``, take names of this zoo."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **options) -> str:
        return resolve_weights(path)

    def _isfile(self, path: str, **options) -> bool:
        return Path(resolve_weights(path)).is_file()

    def _exists(self, path: str, **options) -> bool:
        return self._isfile(path)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **options):
        return PathManager.open(resolve_weights(path), mode, buffering=buffering)


def register_zoo_paths() -> None:
    """Once for all; a second call changes nothing."""
    PathManager.register_handler(ZooPathHandler(), allow_override=True)
