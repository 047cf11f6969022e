"""Things that one process does for all."""

from collections.abc import Callable
from typing import TypeVar

from detectron2.utils import comm

T = TypeVar("T")


def run_on_main(call: Callable[[], T]) -> T:
    """Call in the main process only; its result, or its exception, in every process.

    All processes must come here, else they would wait for each other.
    """
    value = error = None
    if comm.is_main_process():
        try:
            value = call()
        except Exception as e:
            error = e
    value, error = comm.all_gather((value, error))[0]
    if error is not None:
        raise error
    return value
