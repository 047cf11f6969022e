"""An unpickler that looks at keys before they are hashed, and a look at a file of ``torch.save`` with it.

Hashing nested tuples that share their parts takes time without end, and a few bytes describe them.
"""

import pickle
from collections.abc import Iterable
from typing import Any, BinaryIO, ClassVar

from smca.errors import InputError

_PICKLES_OF_OLD_FILES = 5
"""Magic number, version, system, content and names of storages, which the values follow."""


class UnsafePickleError(InputError):
    """The file holds what is not run or made."""


class CheckedUnpickler(pickle._Unpickler):
    """Python's own form of the unpickler, in which keys can be looked at and nothing is hashed before.

    It keeps what it is to remember in a dictionary, where the one in C makes room for the largest number it is told,
    and it can be interrupted.
    """

    dispatch: ClassVar[dict] = dict(pickle._Unpickler.dispatch)

    def _load_dict(self) -> None:
        items = self.pop_mark()
        check_keys(items[::2])
        self.append(dict(zip(items[::2], items[1::2], strict=True)))

    def _load_setitem(self) -> None:
        check_keys([self.stack[-2]])
        self.load_setitem()

    def _load_setitems(self) -> None:
        check_keys(self.stack[::2])
        self.load_setitems()

    def _load_additems(self) -> None:
        check_keys(self.stack)
        self.load_additems()

    def _load_frozenset(self) -> None:
        items = self.pop_mark()
        check_keys(items)
        self.append(frozenset(items))

    dispatch[pickle.DICT[0]] = _load_dict
    dispatch[pickle.SETITEM[0]] = _load_setitem
    dispatch[pickle.SETITEMS[0]] = _load_setitems
    dispatch[pickle.ADDITEMS[0]] = _load_additems
    dispatch[pickle.FROZENSET[0]] = _load_frozenset


def check_keys(keys: Iterable) -> None:
    """Refuse keys whose hash could take long.

    Raises:
        UnsafePickleError: for a key that may hold other objects.
    """
    for key in keys:
        is_plain = isinstance(key, str | bytes | int | float | _Nothing | None)
        if not is_plain and key not in (_Nothing, _NothingOfItems):
            raise UnsafePickleError(f"it has a {type(key).__name__} for a key, not a name")


def check_pickles(file: BinaryIO, *, is_old: bool) -> None:
    """The keys of a file that PyTorch's unpickler, which looks at all else, reads next.

    Args:
        file: the pickle of a zip archive, or a whole file in the format before that.
        is_old: whether it is the latter, which begins with several pickles.

    Raises:
        UnsafePickleError: for a key that is no name or number.
        InputError: if this reads the file otherwise than PyTorch might, which is more tolerant of damage.
    """
    try:
        for _ in range(_PICKLES_OF_OLD_FILES if is_old else 1):
            _KeysOnly(file, encoding="latin1").load()
    except UnsafePickleError:
        raise
    except Exception as error:
        raise InputError("it is cut off or no file of torch.save") from error


class _KeysOnly(CheckedUnpickler):
    """Whatever the file names becomes something without content."""

    def find_class(self, module: str, name: str) -> Any:
        return _NothingOfItems if name in ("set", "frozenset", "Counter") else _Nothing

    def persistent_load(self, pid: Any) -> "_Nothing":
        return _Nothing()


class _Nothing:
    """Of an OrderedDict, which hashes the first of each pair that it is made of."""

    def __new__(cls, *arguments: Any) -> "_Nothing":
        for argument in arguments:
            if isinstance(argument, list | tuple):
                cls._check(argument)
        return super().__new__(cls)

    def __call__(self, *arguments: Any) -> "_Nothing":
        return _NothingOfItems(*arguments)

    @classmethod
    def _check(cls, items: Iterable) -> None:
        check_keys(pair[0] for pair in items if isinstance(pair, list | tuple) and pair)

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    extend = append
    update = append
    add = append


class _NothingOfItems(_Nothing):
    @classmethod
    def _check(cls, items: Iterable) -> None:
        check_keys(items)
