"""Things that one process does for all."""

import pickle
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

    In the others the exception is a copy with the attribute ``is_told``, which is true: the main process tells it. All
    processes must come here, else they would wait for each other.
    """
    value = error = None
    if comm.is_main_process():
        try:
            value = call()
        except Exception as e:
            error = e
    with waiting_for("rank 0, which does something for all"):
        value, copied = comm.all_gather((value, error and _portable(error)))[0]
    if error is not None:
        # Not its copy, which has no traceback.
        raise error
    if copied is not None:
        copied.is_told = True
        raise copied
    return value


def _portable(error: Exception) -> Exception:
    """The error, or its text where it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return LostProcessError(f"rank 0 failed ({type(error).__name__}: {error})")
    return error
