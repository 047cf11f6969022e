"""What a field of a config may hold, in words and as a question."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a field may hold, in words and as a question."""

    words: str
    holds: Callable[[Any], bool]

    def or_null(self) -> "Kind":
        return Kind(f"{self.words}, or null", lambda value: value is None or self.holds(value))

    def or_list(self) -> "Kind":
        """One of them, or a list of at least one."""
        return Kind(
            f"{self.words}, or a list of such",
            lambda value: (
                all(map(self.holds, value)) and bool(value)
                if isinstance(value, list)
                else self.holds(value)
            ),
        )


def whole(least: int, most: float = math.inf) -> Kind:
    limit = f"at least {least}" if most == math.inf else f"{least} to {most}"
    return Kind(
        f"a whole number, {limit}",
        lambda value: type(value) is int and least <= value <= most,
    )


def number(
    least: float = -math.inf,
    below: float = math.inf,
    *,
    above: bool = False,
    most: float = math.inf,
) -> Kind:
    """At least ``least``, or ``above`` it, and less than ``below``, or at most ``most``."""
    words = "a number" if least == -math.inf else f"a number {'above' if above else 'from'} {least}"
    words += "" if below == math.inf else f" and below {below}"
    words += "" if most == math.inf else f" {'and up to' if above else 'to'} {most}"

    def holds(value: Any) -> bool:
        if type(value) not in (int, float) or not math.isfinite(value):
            return False
        return (value > least if above else value >= least) and value < below and value <= most

    return Kind(words, holds)


def one_of(*values: Any) -> Kind:
    words = ", ".join("null" if value is None else str(value) for value in values[:-1])
    return Kind(
        f"{words} or {values[-1]}",
        lambda value: any(value is v or (type(value) is str and value == v) for v in values),
    )


def list_of(kind: Kind, words: str, length: int | None = None, *, least: int = 0) -> Kind:
    def holds(value: Any) -> bool:
        if not isinstance(value, list) or len(value) < least:
            return False
        return length in (None, len(value)) and all(map(kind.holds, value))

    return Kind(words, holds)


LIST = Kind("a list", lambda value: isinstance(value, list))
FLAG = Kind("True or False", lambda value: type(value) is bool)
TEXT = Kind("a word", lambda value: type(value) is str)
PATH = Kind("a path", lambda value: type(value) is str and bool(value.strip()))
FLAG_OR_NULL = Kind("True, False or null", lambda value: value is None or type(value) is bool)
COUNT, SIZE, RATE = whole(0), whole(1), number(0)
SHARE = number(0, 1)
WHERE = number(0, above=True, most=1)
NUMBERS = list_of(SIZE, "a list of whole numbers, at least 1, such as [32]", least=1)
WORDS = list_of(PATH, "a list of words, such as [res5]", least=1)
FACTORS = Kind(
    "names of modules with a number from 0 for each, such as {sampling_offsets: 0.1}",
    lambda value: isinstance(value, dict) and all(map(RATE.holds, value.values())),
)
