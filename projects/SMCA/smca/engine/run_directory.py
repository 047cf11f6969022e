"""The directory a training writes to: which files are its own, and how a new run keeps an old one's."""

import logging
from pathlib import Path

logger = logging.getLogger(__name__)

_RUN_FILES = (
    "*.pth",
    "last_checkpoint",
    "metrics.json",
    "convergence.png",
    "config.yaml",
    "log.txt*",
    "events.out.tfevents.*",
)


def has_checkpoint(output_dir: str) -> bool:
    return (Path(output_dir) / "last_checkpoint").is_file()


def set_earlier_run_aside(output_dir: str) -> Path | None:
    """Move what an earlier run left in ``output_dir`` to ``earlier_run_N`` inside it, so that nothing is lost.

    Returns:
        Where it went; None if there was no checkpoint to protect.
    """
    if not has_checkpoint(output_dir):
        return None
    root = Path(output_dir)
    number = 1
    while (root / f"earlier_run_{number}").exists():
        number += 1
    aside = root / f"earlier_run_{number}"
    aside.mkdir()
    for pattern in _RUN_FILES:
        for path in root.glob(pattern):
            path.rename(aside / path.name)
    return aside
