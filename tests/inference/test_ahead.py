"""Work ahead of its caller: same results in the same order, in threads, and never much further than asked."""

import threading
import time

import pytest

from smca.inference.ahead import map_ahead

PATIENCE = 10.0


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_it_is_map(ahead, count):
    def slow_at_first(item):
        time.sleep(0.002 * (count - item))
        return item * item

    assert list(map_ahead(slow_at_first, iter(range(count)), ahead=ahead)) == [
        i * i for i in range(count)
    ]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_items_come_from_the_caller_and_not_too_early(ahead):
    asked, caller = [], threading.current_thread()

    def items():
        for number in range(10):
            assert threading.current_thread() is caller
            asked.append(number)
            yield number

    for result in map_ahead(lambda item: item, items(), ahead=ahead):
        assert len(asked) == min(10, result + 1 + ahead)


def test_the_next_call_runs_while_its_caller_works():
    called = [threading.Event() for _ in range(3)]

    def call(item):
        called[item].set()
        return threading.current_thread()

    results = map_ahead(call, range(3), ahead=1)
    assert next(results) is not threading.current_thread()
    assert called[1].wait(PATIENCE)
    assert not called[2].is_set()


def test_without_looking_ahead_the_caller_does_it():
    (thread,) = map_ahead(lambda _: threading.current_thread(), [0], ahead=0)
    assert thread is threading.current_thread()


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("where", ["item", "call"])
def test_what_comes_before_an_error_is_given(ahead, where):
    def items():
        yield from range(3)
        if where == "item":
            raise OSError("gone")
        yield from range(3, 6)

    def call(item):
        if item == 3:
            raise OSError("gone")
        return item

    results = map_ahead(call, items(), ahead=ahead)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_an_interruption_is_not_put_off():
    def items():
        yield 0
        yield 1
        raise KeyboardInterrupt

    results = map_ahead(lambda item: item, items(), ahead=1)
    assert next(results) == 0
    with pytest.raises(KeyboardInterrupt):
        next(results)


def test_its_threads_end_with_it():
    before = threading.active_count()
    results = map_ahead(lambda item: item, range(100), ahead=2)
    next(results)
    assert threading.active_count() > before
    results.close()
    assert threading.active_count() == before
