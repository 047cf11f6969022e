"""Work that a thread does while its caller does other work."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Iterator[Result]:
    """``map(function, items)``, with the next calls in a thread while the caller works on a result.

    The items themselves are asked for here, in the caller's thread. What comes before an item whose call fails, or that
    cannot be had, is given before the error is raised.

    Args:
        function: called for one item after the other.
        items: one for each result.
        ahead: how many calls there are beside the one whose result is next; with 0 it is ``map``.
    """
    if ahead < 1:
        yield from map(function, items)
        return
    rest, calls, failure = iter(items), deque[Future[Result]](), None
    with ThreadPoolExecutor(1) as pool:
        try:
            while True:
                try:
                    calls.append(pool.submit(function, next(rest)))
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                if len(calls) > ahead:
                    yield calls.popleft().result()
            while calls:
                yield calls.popleft().result()
            if failure is not None:
                raise failure
        finally:
            pool.shutdown(cancel_futures=True)
