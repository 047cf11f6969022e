"""Which of a training's checkpoints is the newest that can be used."""

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from smca.checkpoint.reading.file_content import zip_damage
from smca.description.model_info import INFO_KEY, ModelInfo
from smca.errors import InputError
from smca.main_process import run_on_main

from .run_directory import FINAL, MANIFEST, checkpoint_files, iteration_of

logger = logging.getLogger(__name__)


def newest_checkpoint(directory: str | Path) -> Path:
    """The newest checkpoint that is whole; damaged newer ones are named in the log.

    Raises:
        InputError: if there is none.
    """
    root = Path(directory)
    manifest = read_manifest(root)
    # A file may be missing in the manifest: the process was killed in between, or the manifest was lost.
    found = checkpoint_files(root)
    found.sort(key=lambda name: _iteration(root / name, manifest.get(name)), reverse=True)
    damaged = []
    for name in found:
        reason = _damage(root / name, manifest.get(name))
        if reason is None:
            return root / name
        damaged.append(name)
        logger.warning("%s is damaged (%s); trying the one before it.", root / name, reason)
    raise InputError(
        f"--resume: no checkpoint of {root} can be read ({', '.join(damaged) or 'none'} damaged); start without "
        "--resume, with train.init_checkpoint=FILE if you have other weights"
    )


def load_newest_weights(
    model: nn.Module, directory: str | Path, *, class_names: Sequence[str] = ()
) -> None:
    """The raw weights of the newest whole checkpoint, in every process.

    Args:
        model: of the run's config.
        directory: of the run.
        class_names: of the data, if they are known.

    Raises:
        InputError: if there is none, or it belongs to another model or knows other classes.
    """
    path = run_on_main(lambda: newest_checkpoint(directory))
    content = load_checkpoint(path)
    check_classes(path, content, class_names)
    try:
        model.load_state_dict(content["model"])
    except RuntimeError as error:
        raise InputError(
            f"--resume: {path} does not fit this config ({one_line(error)}); take the config it was made with, "
            f"{path.parent / 'config.yaml'}"
        ) from error


def check_classes(path: Path, content: Mapping, class_names: Sequence[str]) -> None:
    """Refuse a checkpoint whose classes are others than the run's.

    Args:
        path, content: of a checkpoint.
        class_names: of the data; empty if they are not known.

    Raises:
        InputError: for other names. As many would fit, and be taken for the old ones.
    """
    known = ModelInfo.from_json(content[INFO_KEY]).class_names if INFO_KEY in content else ()
    if known and class_names and tuple(class_names) != known:
        raise InputError(
            f"--resume: {path} knows the classes {', '.join(known[:10])}, the data has "
            f"{', '.join(class_names[:10])}; resume with the data it was made with, or start a new run from it with "
            f"train.init_checkpoint={path}, which carries classes over by name"
        )


def _load(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


def load_checkpoint(path: Path) -> dict:
    """A file that the main process has found to be whole."""
    try:
        return _load(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read here ({error}): train.output_dir must be on a file system that all machines share"
        ) from error


def read_manifest(root: Path) -> dict[str, dict]:
    """What was written, by file name: {"bytes", "sha256", "iteration"}; empty if the file is lost or damaged."""
    try:
        manifest = json.loads((root / MANIFEST).read_text())
    except (OSError, ValueError):
        # The files themselves are still there, and are tried one by one.
        return {}
    if not isinstance(manifest, dict):
        return {}
    return {name: entry for name, entry in manifest.items() if _is_entry(entry)}


def _is_entry(entry: object) -> bool:
    kinds = {"bytes": int, "sha256": str, "iteration": int}
    return isinstance(entry, dict) and all(isinstance(entry.get(k), t) for k, t in kinds.items())


def fingerprint(path: Path) -> dict:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _iteration(path: Path, expected: Mapping | None) -> float:
    """The iteration after which a checkpoint was written."""
    if expected is not None:
        return expected["iteration"]
    if path.name != FINAL:
        return iteration_of(path.name)
    try:
        return _load(path)["iteration"]
    except Exception:
        # Damaged: to be looked at, and named, before all others.
        return math.inf


def _damage(path: Path, expected: Mapping | None) -> str | None:
    """Why a file is not what was written, or None."""
    try:
        return _unknown_damage(path) if expected is None else _difference(path, expected)
    except Exception as error:
        return first_line(error)


def _difference(path: Path, expected: Mapping) -> str | None:
    actual = fingerprint(path)
    for key in ("bytes", "sha256"):
        if actual[key] != expected[key]:
            return f"its {key} are {actual[key]} instead of {expected[key]}"
    return None


def _unknown_damage(path: Path) -> str | None:
    damage = zip_damage(path)
    if damage is not None:
        return damage
    content = _load(path)
    whole = isinstance(content, dict) and "trainer" in content
    return None if whole else "it holds no state to resume from"


def first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
