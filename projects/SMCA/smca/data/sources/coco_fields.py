"""Reads one field after the other of a list of json objects; says of bad records what is wrong, and what is meant."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from smca.errors import InputError
from smca.text import clip

_MISSING = object()


class Problem(NamedTuple):
    """Why a record of a file cannot be used.

    Attributes:
        kind: short name that is the same for all records with this trouble.
        sentence: names the record.
        part: "image", "annotation" or "category".
        index: place in the file's list, from 0.
    """

    kind: str
    sentence: str
    part: str
    index: int


class Repair(NamedTuple):
    """What is done about a field that is written in another way than COCO's, where it is clear what is meant.

    Attributes:
        kind: of the problem.
        meaning: makes of a value what is meant by it, or raises InputError.
        change: what was done, such as "numbers written as text, converted".
    """

    kind: str
    meaning: Callable[[Any], Any]
    change: str

    def meant(self, value: Any) -> Any:
        """None where it is not clear."""
        try:
            return self.meaning(value)
        except InputError:
            return None


class Mend(NamedTuple):
    """What is meant by a field of a bad record.

    Attributes:
        part, index: the record, see :class:`Problem`.
        key: the field.
        value: to be written into it.
        change: see :class:`Repair`.
    """

    part: str
    index: int
    key: str
    value: Any
    change: str


class Records:
    """A list of json objects of one kind. A record with a problem is bad, and only its first one is told.

    Attributes:
        good: (n,) bool.
        problems: one per bad record.
        mends: of all fields that have one.
    """

    def __init__(self, records: Sequence[Any], kind: str, names: Sequence[str] | None = None):
        """
        Args:
            records: as they are.
            kind: "image", "annotation" or "category".
            names: of the records, for messages; by default their places and ids.
        """
        self.kind = kind
        self._names = names
        self.problems: list[Problem] = []
        self.mends: list[Mend] = []
        self.good = np.ones(len(records), dtype=bool)
        self._ids: list = [None] * len(records)
        self._rows = records
        if not set(map(type, records)) <= {dict}:
            self._rows = [row if isinstance(row, dict) else {} for row in records]
            for index, row in enumerate(records):
                if not isinstance(row, dict):
                    self.reject(index, f"is {show(row)} instead of an object")

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, index: int) -> str:
        """Such as "annotation 17 (id 93)"; 17 counts from 0."""
        if self._names is not None:
            return self._names[index]
        return f"{self.kind} {index} (id {show(self._ids[index])})"

    def reject(self, index: int, what: str, kind: str | None = None) -> None:
        if self.good[index]:
            self.good[index] = False
            kind = kind or f"malformed {self.kind}"
            self.problems.append(Problem(kind, f"{self.name(index)} {what}", self.kind, index))

    def mend(self, index: int, key: str, value: Any, change: str) -> None:
        self.mends.append(Mend(self.kind, index, key, value, change))

    def reject_repeated(self, ids: Sequence) -> None:
        """All records but the first of an id."""
        if len(set(ids)) == len(ids):
            return
        first: dict = {}
        for index, value in enumerate(ids):
            if value is not None and first.setdefault(value, index) != index:
                said = f"has the id of {self.kind} {first[value]}"
                self.reject(index, said, f"duplicate {self.kind} id")

    def read_ids(self) -> list:
        """The field "id" as it is, for naming records; None where there is none."""
        self._ids = [row.get("id") for row in self._rows]
        return self._ids

    def without(self, key: str) -> list[int]:
        """Places of records whose field is missing, null or empty."""
        return [index for index, row in enumerate(self._rows) if not row.get(key)]

    def read(
        self,
        key: str,
        kinds: set[type],
        wanted: str,
        *,
        convert: Callable[[Any], Any] | None = None,
        repair: Repair | None = None,
        default: Any = _MISSING,
        placeholder: Any = None,
    ) -> list:
        """One value per record.

        Args:
            key: the field.
            kinds: types to take as they are.
            wanted: what the field must be, for messages.
            convert: makes values of other types usable, or raises InputError.
            repair: of values that make their record bad.
            default: of records without the field; None in the file counts as being without it.
            placeholder: stands in for bad values.
        """
        values = [row.get(key, default) for row in self._rows]
        if set(map(type, values)) <= kinds:
            return values
        for index, value in enumerate(values):
            if type(value) in kinds:
                continue
            if value is None and default is not _MISSING:
                values[index] = default
                continue
            try:
                if value is _MISSING or convert is None:
                    raise InputError(value)
                values[index] = convert(value)
            except InputError:
                values[index] = placeholder
                if value is _MISSING:
                    self.reject(index, f"has no {key}")
                    continue
                meant = repair and repair.meant(value)
                said = f"has {key} {show(value)}, which must be {wanted}"
                self.reject(index, said, None if meant is None else repair.kind)
                if meant is not None:
                    self.mend(index, key, meant, repair.change)
        return values

    def require(
        self,
        key: str,
        values: list,
        is_right: Callable[[Any], bool],
        said: str,
        placeholder: Any = None,
    ) -> None:
        """Reject records whose value, hashable and of the right type, is not right; it is replaced in place."""
        if all(map(is_right, set(values))):
            return
        for index, value in enumerate(values):
            if not is_right(value):
                self.reject(index, f"has {key} {show(value)}, {said}")
                values[index] = placeholder

    def field(self, index: int, key: str) -> Any:
        """As it is, None where there is none."""
        return self._rows[index].get(key)


def show(value: Any) -> str:
    """A value on one short line."""
    text = ascii(value) if isinstance(value, str) else str(value)
    return clip(" ".join(text.split()), 50)


def whole_number(value: Any) -> int:
    """A number such as 3 or 3.0; true and false are none.

    Raises:
        InputError: for anything else.
    """
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise InputError(value)


def flag(value: Any) -> int:
    """0 or 1 from 0, 1, 0.0, 1.0, false or true.

    Raises:
        InputError: for anything else.
    """
    if value in (0, 1):
        return int(value)
    raise InputError(value)


def finite_float(value: Any) -> float:
    """A number as a float; integers beyond its range become infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def is_writable(text: str) -> bool:
    """Whether there is a text, fit for a line of a file or a file's name: no lone surrogates or control characters."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return bool(text) and all(character >= " " for character in text)
