"""Things that one process does for all."""

from collections.abc import Callable
from typing import TypeVar

from detectron2.utils import comm
from torch import distributed

from .waiting import waiting_for

T = TypeVar("T")


class LostProcessError(RuntimeError):
    """Another process of this training is gone, and said itself why, if it could."""


def as_lost_process(error: Exception) -> LostProcessError | None:
    """What a failed collective means; None for any other error."""
    text = str(error)
    is_backend = isinstance(error, distributed.DistBackendError) or (
        isinstance(error, RuntimeError) and ("gloo" in text or "NCCL" in text)
    )
    if isinstance(error, LostProcessError) or not (is_backend and comm.get_world_size() > 1):
        return error if isinstance(error, LostProcessError) else None
    reason = next(iter(text.splitlines()), "")
    return LostProcessError(
        f"another process of the training is gone or does not answer ({reason})"
    )


def run_on_main(call: Callable[[], T]) -> T:
    """Call in the main process only; its result, or its exception, in every process.

    There the exception has the attribute ``is_told``, true in all processes but the main one, which is to tell it.
    All processes must come here, else they would wait for each other.
    """
    value = error = None
    if comm.is_main_process():
        try:
            value = call()
        except Exception as e:
            error = e
    with waiting_for("rank 0, which does something for all"):
        value, error = comm.all_gather((value, error))[0]
    if error is not None:
        error.is_told = not comm.is_main_process()
        raise error
    return value
