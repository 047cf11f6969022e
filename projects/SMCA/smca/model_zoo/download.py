"""Downloading a file of known size and hash: whole and right, or not at all."""

import functools
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from iopath.common.file_io import file_lock
from tqdm import tqdm

from smca.errors import InputError

_CHUNK = 1 << 20
_TIMEOUT = 30.0
_ATTEMPTS = 3
_PAUSE = 0.5


def download(url: str, target: Path, *, sha256: str, size: int) -> None:
    """Fetch a file, once for all processes of this machine.

    What has arrived stands in "<target>.part". A later attempt, also one of another run, goes on from there if the
    server can send parts, and starts over otherwise. ``target`` appears when the hash is right.

    Args:
        url: http(s) address.
        target: file to make; its folder is made, too.
        sha256: of the file, 64 hexadecimal digits.
        size: of the file in bytes.

    Raises:
        InputError: in one sentence, if it cannot be fetched or is not the file it should be.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(str(target)):
            if not is_intact(target, sha256=sha256, size=size):
                _fetch(url, target, sha256=sha256, size=size)
    except OSError as error:
        raise InputError(
            f"{url} cannot be stored as {target}: {error.strerror or error}; set SMCA_CACHE to another folder"
        ) from error


def is_intact(path: Path, *, sha256: str, size: int) -> bool:
    """Whether there is a file with this content. A file that did not change is hashed once in a process."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return status.st_size == size and _hash_of(path, size, status.st_mtime_ns) == sha256


def hash_file(path: Path) -> str:
    """sha256 as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache
def _hash_of(path: Path, size: int, mtime_ns: int) -> str:
    return hash_file(path)


def _fetch(url: str, target: Path, *, sha256: str, size: int) -> None:
    partial = target.with_name(f"{target.name}.part")
    # What is left of another file, or of a damaged one, shows in the hash: then once more from the start.
    for resuming in (partial.exists(), False):
        if not resuming:
            partial.unlink(missing_ok=True)
        _fill(url, partial, size)
        if hash_file(partial) == sha256:
            os.replace(partial, target)
            return
        partial.unlink()
        if not resuming:
            break
    raise InputError(
        f"{url} is not the file that the model zoo's index describes: its sha256 is another one"
    )


def _fill(url: str, partial: Path, size: int) -> None:
    """Bring ``partial`` to its full size, with a few attempts."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE * attempt)
        try:
            if _append(url, partial, size):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            raise InputError(
                f"{url} cannot be downloaded: the server says {error.code} {error.reason}"
            ) from error
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            TimeoutError,
            ConnectionError,
        ) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    have = partial.stat().st_size if partial.exists() else 0
    raise InputError(
        f"{url} cannot be downloaded ({reason}) after {have} of {size} bytes; the same command goes on from there "
        f"when there is a connection"
    )


def _append(url: str, partial: Path, size: int) -> bool:
    """Ask for what is missing; whether all is there.

    Raises:
        InputError: if the server sends more than ``size`` bytes.
    """
    have = partial.stat().st_size if partial.exists() else 0
    if have >= size:
        return True
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        # A server without ranges answers 200 and sends everything.
        continues = response.status == 206 and _first_byte(response) == have
        if response.status == 206 and not continues:
            partial.unlink()
            return False
        have = have if continues else 0
        with (
            open(partial, "ab" if continues else "wb") as file,
            tqdm(total=size, initial=have, unit="B", unit_scale=True, disable=None) as bar,
        ):
            while chunk := response.read(_CHUNK):
                have += len(chunk)
                if have > size:
                    raise InputError(
                        f"{url} is not the file that the model zoo's index describes: it has more than {size} bytes"
                    )
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    return have == size


def _first_byte(response: http.client.HTTPResponse) -> int:
    """Of "Content-Range: bytes 5-9/10" the 5; -1 if it says something else."""
    unit, _, rest = (response.headers.get("Content-Range") or "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else -1
