"""Install Detectron2 where no index offers it: a pure-Python wheel of release 0.6.

No package index has an official Detectron2. `pb1-detectron2==0.6` is a source archive whose Python
files are those of the official v0.6 tag, without the C++ sources, so pip alone cannot build it.
This module downloads it with its hash checked, applies the fixes of `smca_detectron2_recipe`,
builds a wheel, keeps it in a cache and installs it. An importable Detectron2 is left alone.

It imports neither PyTorch nor Detectron2, so it runs in an environment that has neither.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import smca_detectron2_recipe as recipe
from smca_detectron2_recipe import GUIDE_URL, WHEEL_NAME

SDIST_REQUIREMENT = "pb1-detectron2==0.6"
SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"


class InstallError(Exception):
    """Something went wrong; the message is one sentence that says what to do."""


# Runs in a process of its own: an import may crash, and a finished installation needs a fresh one.
PROBE = """\
import importlib.util, json
spec = importlib.util.find_spec("detectron2")
if spec is None or spec.origin is None:
    print(json.dumps(None))
else:
    import os
    import detectron2, detectron2.layers
    print(json.dumps([detectron2.__version__, os.path.dirname(detectron2.__file__)]))
"""


def find_detectron2() -> tuple[str, str] | None:
    """Version and folder of the Detectron2 that this Python imports, None where there is none.

    Raises:
        InstallError: there is one and importing it fails.
    """
    # -P keeps a folder named detectron2 below the current one from being taken for the package.
    probe = subprocess.run([sys.executable, "-P", "-c", PROBE], capture_output=True, text=True)
    if probe.returncode != 0:
        reason = (probe.stderr.strip().splitlines() or ["it crashed"])[-1]
        raise InstallError(
            f"the installed Detectron2 cannot be imported ({reason}): reinstall it by its own "
            f"guide, {GUIDE_URL}, or replace it by the pure-Python one with --force"
        )
    found = json.loads(probe.stdout.strip().splitlines()[-1])
    return None if found is None else (found[0], found[1])


def cache_root() -> Path:
    """`$SMCA_CACHE`, else `$XDG_CACHE_HOME/smca`, else `~/.cache/smca`."""
    if override := os.environ.get("SMCA_CACHE"):
        return Path(override).expanduser().resolve()
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "smca"


def cache_entry() -> Path:
    """The folder in the cache for a wheel of this very recipe: a changed fix makes a new one."""
    return cache_root() / f"detectron2-{_sha256(Path(recipe.__file__))[:12]}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cached_wheel(entry: Path) -> Path | None:
    """The wheel in the cache folder `entry`, None where it is missing or not what was put there."""
    wheel, recorded = entry / WHEEL_NAME, entry / f"{WHEEL_NAME}.sha256"
    try:
        intact = recorded.read_text().strip() == _sha256(wheel)
    except (OSError, UnicodeDecodeError):
        return None
    return wheel if intact else None


def _publish(wheel: Path, entry: Path) -> Path:
    """Put `wheel` into the cache in one rename, so that no reader ever sees half of it."""
    with tempfile.TemporaryDirectory(dir=entry.parent, prefix=".staging-") as staging:
        staged = Path(staging) / entry.name
        staged.mkdir()
        shutil.copyfile(wheel, staged / WHEEL_NAME)
        (staged / f"{WHEEL_NAME}.sha256").write_text(_sha256(wheel) + "\n")
        shutil.rmtree(entry, ignore_errors=True)
        staged.rename(entry)
    return entry / WHEEL_NAME


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold an exclusive lock on `directory` itself, which leaves no lock file behind."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        # Some network file systems cannot lock a folder: then a race costs a second build.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _pip(*arguments: str, goal: str) -> None:
    """Run pip in this environment.

    Raises:
        InstallError: pip failed; the sentence is made from its output.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    process = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if process.returncode == 0:
        return
    output = process.stdout or ""
    if "DO NOT MATCH THE HASHES" in output:
        reason = (
            f"the downloaded file does not have the expected sha256 {SDIST_SHA256}, so it was "
            "thrown away: check which package index pip uses (`pip config list`)"
        )
    elif re.search(r"No matching distribution|ConnectionError|Max retries|Read timed out", output):
        reason = (
            "no package index within reach has what it needs: check the network connection and "
            f"pip's index settings, or install Detectron2 by its own guide, {GUIDE_URL}"
        )
    else:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"(ERROR|error|\w*Error)\b", line)]
        reason = f"pip says: {(errors or lines or ['nothing'])[-1]}"
    raise InstallError(f"could not {goal}: {reason}")


def _check_build_tools() -> None:
    """Make sure of pip, and of what the release's own setup.py imports when pip runs it."""
    remedies = {
        "pip": "-m ensurepip",
        "torch": "-m pip install torch torchvision",
        "setuptools": "-m pip install 'setuptools<81'",
    }
    for module, remedy in remedies.items():
        if importlib.util.find_spec(module) is None:
            raise InstallError(
                f"building Detectron2 needs {module}, which is not installed: run "
                f"`{sys.executable} {remedy}`, then this command again"
            )


def download_sdist(directory: Path) -> Path:
    """Fetch the source archive into `directory` and check its hash.

    Raises:
        InstallError: it cannot be had, or its hash is wrong.
    """
    requirements = directory / "requirements.txt"
    requirements.write_text(f"{SDIST_REQUIREMENT} --hash=sha256:{SDIST_SHA256}\n")
    target = directory / "download"
    _pip(
        *("download", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"),
        *("--require-hashes", "--dest", str(target), "-r", str(requirements)),
        goal=f"download {SDIST_REQUIREMENT}",
    )
    archives = sorted(target.glob("*.tar.gz"))
    if len(archives) != 1 or _sha256(archives[0]) != SDIST_SHA256:
        raise InstallError(
            f"could not download {SDIST_REQUIREMENT}: what pip left is not the archive with sha256 "
            f"{SDIST_SHA256}, check which package index pip uses (`pip config list`)"
        )
    return archives[0]


def unpack(archive: Path, directory: Path) -> Path:
    """Unpack regular files and folders of `archive` and return its one top folder.

    Raises:
        InstallError: it holds links, devices or paths that lead out of `directory`.
    """
    directory.mkdir()
    root = directory.resolve()
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            target = (root / member.name).resolve()
            if not (member.isfile() or member.isdir()) or not target.is_relative_to(root):
                raise InstallError(
                    f"{archive.name} holds {member.name!r}, which is not safe to unpack"
                )
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    (top,) = root.iterdir()
    return top


def build_wheel(directory: Path) -> Path:
    """Download, fix and build inside the scratch folder `directory`.

    Raises:
        InstallError: a step failed.
    """
    _check_build_tools()
    print(f"Downloading {SDIST_REQUIREMENT} (0.5 MB) ...", flush=True)
    source = unpack(download_sdist(directory), directory / "source")
    recipe.prepare_source(source)
    print(f"Building {WHEEL_NAME} ...", flush=True)
    target = directory / "wheel"
    _pip(
        *("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(source)),
        goal="build Detectron2's wheel",
    )
    wheel = target / WHEEL_NAME
    if not wheel.is_file():
        raise InstallError(f"could not build Detectron2's wheel: pip left no {WHEEL_NAME}")
    return wheel


def get_wheel(force: bool = False) -> Path:
    """The wheel's place in the cache, after building it where it is missing or damaged.

    Raises:
        InstallError: it could not be built; the cache is then as it was.
    """
    entry = cache_entry()
    with _locked(entry.parent):
        wheel = None if force else cached_wheel(entry)
        if wheel is None:
            for stale in entry.parent.glob(".staging-*"):
                shutil.rmtree(stale, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix="smca-detectron2-") as scratch:
                wheel = _publish(build_wheel(Path(scratch)), entry)
    return wheel


def _copy_wheel(wheel: Path, directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f".{WHEEL_NAME}.{os.getpid()}"
    try:
        shutil.copyfile(wheel, partial)
        return partial.replace(directory / WHEEL_NAME)
    finally:
        partial.unlink(missing_ok=True)


def install(wheel: Path, force: bool = False) -> None:
    """Install `wheel` and what it needs, then import it to make sure.

    Raises:
        InstallError: pip could not install it, or it cannot be imported afterwards.
    """
    print(f"Installing {wheel.name} ...", flush=True)
    _pip("install", str(wheel), goal="install Detectron2's wheel")
    if force:
        _pip(
            *("install", "--no-deps", "--force-reinstall", str(wheel)),
            goal="install Detectron2's wheel",
        )
    found = find_detectron2()
    if found is None:
        raise InstallError(f"pip installed {wheel.name}, but {sys.executable} does not find it")
    print(f"Detectron2 {found[0]} is installed in {found[1]}.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smca-install-detectron2",
        description="Install a pure-Python Detectron2 0.6, unless a Detectron2 can be imported "
        f"already. For one with compiled operators, follow its own guide first: {GUIDE_URL}",
    )
    parser.add_argument("--wheel-dir", type=Path, metavar="DIR", help="copy the wheel to DIR, too")
    parser.add_argument(
        "--no-install", action="store_true", help="only build the wheel and say where it is"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="build the wheel anew, and install it over the Detectron2 that is there",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command `smca-install-detectron2`; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        found = None if arguments.no_install or arguments.force else find_detectron2()
        if found is not None:
            print(f"Detectron2 {found[0]} is already installed in {found[1]}: left as it is.")
        if found is None or arguments.wheel_dir is not None:
            wheel = get_wheel(arguments.force)
            if arguments.wheel_dir is not None:
                wheel = _copy_wheel(wheel, arguments.wheel_dir)
            if arguments.no_install or arguments.wheel_dir is not None:
                print(f"The wheel is {wheel}.")
        if found is None and not arguments.no_install:
            install(wheel, arguments.force)
    except InstallError as error:
        print(f"smca-install-detectron2: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        hint = f"the cache is {cache_root()}, and SMCA_CACHE names another"
        print(f"smca-install-detectron2: {error} ({hint})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
