"""The directory a training writes to: which files are its own, and how a new run keeps an old one's."""

import os
import re
from pathlib import Path

from smca.errors import InputError

FINAL = "model_final.pth"
BEST = "model_best.pth"
REPORT = "report.html"
MANIFEST = "checkpoints.json"

_RUN_FILES = (
    "*.pth",
    "*.part",
    "last_checkpoint",
    MANIFEST,
    "metrics.json",
    "convergence.png",
    REPORT,
    "config*.yaml",
    "log.txt*",
    "events.out.tfevents.*",
    "service_*.json",
    "wandb",
)


def checkpoint_files(output_dir: str | Path) -> list[str]:
    """Names of the checkpoints a training can be resumed from."""
    return sorted(
        path.name
        for path in Path(output_dir).glob("model_*.pth")
        if path.name == FINAL or re.fullmatch(r"model_\d+\.pth", path.name)
    )


def iteration_of(name: str) -> int:
    """The iteration after which a periodic checkpoint was written, from its name."""
    return int(name.removeprefix("model_").removesuffix(".pth"))


def check_output_dir(output_dir: str | Path) -> None:
    """Refuse an output directory that could not be one.

    Raises:
        InputError: if nothing can be written there; nothing is made.
    """
    path = Path(output_dir)
    there = next(p for p in (path, *path.absolute().parents) if os.path.lexists(p))
    if not there.is_dir():
        raise InputError(f"train.output_dir={output_dir}: {there} is no folder; give another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"train.output_dir={output_dir}: {there} cannot be written to; give another one"
        )


def has_checkpoint(output_dir: str | Path) -> bool:
    return bool(checkpoint_files(output_dir))


def set_earlier_run_aside(output_dir: str) -> Path | None:
    """Move what an earlier run left in ``output_dir`` to ``earlier_run_N`` inside it, so that nothing is lost.

    Returns:
        Where it went; None if there was no earlier run.
    """
    root = Path(output_dir)
    if not has_checkpoint(root) and not (root / "metrics.json").is_file():
        return None
    number = 1
    while (root / f"earlier_run_{number}").exists():
        number += 1
    aside = root / f"earlier_run_{number}"
    aside.mkdir()
    for pattern in _RUN_FILES:
        for path in root.glob(pattern):
            path.rename(aside / path.name)
    return aside
