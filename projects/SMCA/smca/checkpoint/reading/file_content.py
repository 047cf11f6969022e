"""What is in a checkpoint file, read without running what it may hold."""

import argparse
import contextlib
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from smca.errors import InputError

from .checked_pickle import check_pickles
from .numpy_pickle import load_numpy_pickle

_ZIP = b"PK\x03\x04"
# How torch.save's files before the zip format begin: a pickled number.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def read_content(path: Path) -> Any:
    """Everything that a checkpoint file holds.

    Args:
        path: ``.safetensors`` (its metadata's entries stand beside "model"), ``.pkl`` of numpy arrays, or anything else
            as a file of ``torch.save``.

    Raises:
        InputError: in one sentence, if there is no such file, or it is none of these, or is damaged.
    """
    _check_kind(path)
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        if path.suffix == ".pkl":
            return _read_pickle(path)
        return _read_torch(path)
    except OSError as error:
        raise InputError(
            f"checkpoint {path} cannot be read: {error.strerror or _first_line(error)}"
        ) from error


def _check_kind(path: Path) -> None:
    """What is no checkpoint at all shows in its first bytes."""
    if path.is_dir():
        raise InputError(f"checkpoint {path} is a folder; name the file in it")
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist")
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        raise InputError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    found = None
    if not head:
        found = "it is empty"
    elif head.startswith(b"version https://git-lfs"):
        found = "it is a pointer of git-lfs, not the file itself; fetch that with `git lfs pull`"
    elif not any(head):
        found = "it begins with zeros, so it was not written to the end"
    elif head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        found = "it is a web page, so the download failed"
    if found is not None:
        raise InputError(f"checkpoint {path} cannot be read as a checkpoint: {found}")


def zip_damage(path: Path) -> str | None:
    """Why a file of torch.save is not what was written, or None; PyTorch's reader looks at no checksum.

    PyTorch writes what it stores uncompressed, so that a file cannot ask for more memory than it has bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                return "parts of it are compressed, as torch.save does not write them"
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                return "its parts overlap"
            bad = archive.testzip()
    except OSError:
        raise
    except Exception as error:
        # A damaged table of contents can lead to almost anything.
        return f"it is cut off or damaged ({_first_line(error)})"
    return None if bad is None else f"it is damaged: the checksum of its part {bad!r} is wrong"


def _read_torch(path: Path) -> Any:
    with open(path, "rb") as file:
        is_zip = file.read(len(_ZIP)) == _ZIP
    damage = zip_damage(path) if is_zip else None
    if damage is not None:
        raise InputError(f"{path} cannot be read as a checkpoint: {damage}")
    try:
        _check_keys(path, is_zip=is_zip)
    except InputError as error:
        raise InputError(f"{path} cannot be read as a checkpoint: {error}") from error
    # DETR's training script stores its command line beside the model, a plain record.
    with torch.serialization.safe_globals([argparse.Namespace]):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:
            raise InputError(f"{path} cannot be read as a checkpoint: {_reason(error)}") from error


def _check_keys(path: Path, *, is_zip: bool) -> None:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(path, "rb"))
        if not is_zip:
            check_pickles(file, is_old=True)
            return
        archive = stack.enter_context(zipfile.ZipFile(file))
        # PyTorch takes the first that has the name, in capitals or not.
        found = [name for name in archive.namelist() if name.casefold().endswith("data.pkl")]
        if len(found) != 1 or not found[0].endswith("/data.pkl"):
            raise InputError("it is no file of torch.save, which has one part data.pkl")
        check_pickles(stack.enter_context(archive.open(found[0])), is_old=False)


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise InputError(f"{path}: reading it needs `pip install safetensors`") from error
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {**(file.metadata() or {}), "model": {n: file.get_tensor(n) for n in names}}
    except OSError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as safetensors: it is cut off or damaged ({_first_line(error)})"
        ) from error


def _read_pickle(path: Path) -> Any:
    with open(path, "rb") as file:
        head = file.read(32)
    try:
        if head.startswith((_ZIP, _OLD_TORCH)):
            raise InputError("it is a file of torch.save; name it .pth")
        return load_numpy_pickle(path)
    except InputError as error:
        raise InputError(f"{path} cannot be read as a checkpoint: {error}") from error


def _reason(error: Exception) -> str:
    """One line; PyTorch's own explanation of a refused pickle is a page of advice."""
    text = str(error)
    if match := re.search(r"unsupported (?:global|class)[^\n]*", text, re.IGNORECASE):
        named = re.split(" was not | whose module ", match[0])[0]
        return f"it holds more than tensors ({named})"
    if "TorchScript" in text:
        return "it is a TorchScript program, not a file of tensors"
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return "it asks for more memory than there is"
    if "PytorchStreamReader" in text or "unexpected EOF" in text:
        return "it is cut off or damaged"
    if "Weights only load failed" in text or isinstance(error, LookupError | EOFError):
        return "it is cut off or no file of torch.save"
    if isinstance(error, UnicodeDecodeError):
        return "it is damaged"
    return f"it is damaged ({_first_line(error).partition('. ')[0]})"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
