"""Says which process has been waiting for what, when others let it wait for long."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from detectron2.utils import comm

PATIENCE = 60.0
"""Seconds until a wait is told, and told again after ten times as many."""

_waits: dict[int, tuple[str, float]] = {}
_watch: threading.Thread | None = None


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Around a call that returns when other processes have come to theirs."""
    if comm.get_world_size() == 1:
        yield
        return
    _start_watch()
    key = threading.get_ident()
    _waits[key] = (what, time.monotonic())
    try:
        yield
    finally:
        _waits.pop(key, None)


def _start_watch() -> None:
    global _watch
    if _watch is None or not _watch.is_alive():
        _watch = threading.Thread(target=_look, name="waiting", daemon=True)
        _watch.start()


def _look() -> None:
    told: dict[float, float] = {}
    while True:
        time.sleep(PATIENCE / 20)
        now = time.monotonic()
        for what, since in list(_waits.values()):
            if now - since > told.get(since, PATIENCE):
                told = {since: 10 * told.get(since, PATIENCE)}
                # Not by a logger: those of all ranks but the first write to a file only.
                print(
                    f"rank {comm.get_rank()} has been waiting for {now - since:.0f} s for {what}",
                    file=sys.stderr,
                    flush=True,
                )
