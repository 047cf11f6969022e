"""Weights by name or URL as a local file, through Detectron2's own path handlers."""

import os
from urllib.parse import unquote

from detectron2.utils.file_io import PathManager

from smca.errors import InputError


def check_source(source: str) -> None:
    """Refuse a name or URL that climbs out of where it is kept, to any file of this machine.

    Raises:
        InputError: for one that does.
    """
    scheme, separator, rest = source.partition("://")
    if separator and scheme != "file" and ".." in unquote(rest).replace("\\", "/").split("/"):
        raise InputError(f"{source}: a name of weights may not go up in folders ('..')")


def fetch_weights(source: str) -> str:
    """The local file of a path, URL, "detectron2://" or "smca://" name; downloaded and cached by its handler.

    Raises:
        InputError: if it cannot be fetched.
    """
    check_source(source)
    if "://" not in source:
        return source
    if source.startswith(("torchvision://", "timm://")):
        raise InputError(f"{source} is a backbone to start a training from, and no checkpoint")
    try:
        return os.fspath(PathManager.get_local_path(source))
    except (OSError, RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{source} cannot be fetched ({reason}); download it elsewhere and name the file"
        ) from error
