"""Detectron2-style ``.pkl`` files, numpy arrays by name, read without running what they may hold.

A pickle is a program that names callables. Here it finds stand-ins for the few that arrays are made of, which only
ever make arrays, and nothing else.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from smca.errors import InputError

from .checked_pickle import CheckedUnpickler, UnsafePickleError, check_keys

_NDARRAY = "numpy.ndarray"
"""What a file gets for the class itself, which it needs to name, but not to have."""

_MODULES = {
    "__builtin__": "builtins",
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
}
"""Names under Python 2 and numpy 1."""

_KINDS = "biufcSU"
"""Booleans, numbers and text; no Python objects, which is what ``O`` holds."""


def load_numpy_pickle(path: str | Path) -> Any:
    """Content of a pickle of containers, text, numbers and numpy arrays; Python 2's strings as latin1.

    Raises:
        UnsafePickleError: if it holds anything else.
        InputError: if it is no pickle, or a damaged one.
    """
    with open(path, "rb") as file:
        unpickler = _NumpyUnpickler(file, encoding="latin1")
        unpickler.budget = 2 * os.fstat(file.fileno()).st_size
        try:
            return _plain(unpickler.load(), {})
        except UnsafePickleError:
            raise
        except MemoryError as error:
            raise InputError("it asks for more memory than there is") from error
        except RecursionError as error:
            raise InputError("it is nested too deeply") from error
        except Exception as error:
            # Damaged bytes can raise almost anything, such as UnicodeDecodeError or AttributeError.
            raise InputError("it is cut off or no pickle of numpy arrays") from error


class _NumpyUnpickler(CheckedUnpickler):
    """Stand-ins are bound methods, whose attributes a file cannot set.

    Attributes:
        budget: bytes that may still be made. One piece of text can be named as the content of many arrays.
    """

    budget = 0

    def spend(self, data: bytes) -> bytes:
        self.budget -= len(data)
        if self.budget < 0:
            raise UnsafePickleError("its arrays claim several times the bytes that it has")
        return data

    def find_class(self, module: str, name: str) -> Any:
        module = _MODULES.get(module, module)
        if (module, name) == ("numpy", "ndarray"):
            return _NDARRAY
        stand_in = self._stand_ins().get((module, name))
        if stand_in is not None:
            return stand_in
        if module.split(".")[0] == "torch":
            raise UnsafePickleError(
                "it holds torch tensors, which a .pkl can only hold together with code; save them with torch.save "
                "as a .pth file instead"
            )
        raise UnsafePickleError(
            f"it names {f'{module}.{name}'[:80]!r}, which is no part of a numpy array and is not run"
        )

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafePickleError("it refers to something outside of itself")

    def _stand_ins(self) -> dict[tuple[str, str], Callable]:
        return {
            ("collections", "OrderedDict"): self._ordered_dict,
            ("numpy", "dtype"): self._dtype,
            ("numpy._core.multiarray", "_reconstruct"): self._reconstruct,
            ("numpy._core.multiarray", "scalar"): self._scalar,
            ("numpy._core.numeric", "_frombuffer"): self._frombuffer,
            ("_codecs", "encode"): self._encode,
            ("builtins", "bytes"): self._bytes,
            ("builtins", "bytearray"): self._bytes,
        }

    def _ordered_dict(self, items: Iterable = ()) -> OrderedDict:
        pairs = [tuple(pair) for pair in items]
        check_keys([key for key, _ in pairs])
        return OrderedDict(pairs)

    def _dtype(self, code: str, align: bool = False, copy: bool = True) -> "_DType":
        return _DType(code)

    def _reconstruct(self, kind: Any, shape: Any, code: Any) -> "_Array":
        # What numpy itself writes. Another shape would be memory that nothing ever fills.
        if kind != _NDARRAY or shape != (0,) or code not in (b"b", "b"):
            raise UnsafePickleError(
                "it holds arrays of a class of their own, or no array as numpy writes it"
            )
        return _Array(self.spend)

    def _scalar(self, dtype: "_DType", data: Any) -> Any:
        return _shaped(self.spend(_as_bytes(data)), dtype, (), "C")[()]

    def _frombuffer(
        self, data: Any, dtype: "_DType", shape: Any, order: str, axes: Any = None
    ) -> "_Array":
        array = _Array(self.spend)
        array.value = _shaped(
            self.spend(_as_bytes(data)), dtype, shape, "F" if order == "F" else "C"
        )
        if order == "K" and axes is not None:
            array.value = array.value.transpose(axes)
        return array

    def _encode(self, text: str, encoding: str) -> bytes:
        # How protocols up to 2 write bytes.
        if encoding != "latin1":
            raise UnsafePickleError(f"it encodes text as {str(encoding)[:20]!r}")
        return self.spend(text.encode("latin1"))

    def _bytes(self, data: bytes = b"") -> bytes:
        return self.spend(_as_bytes(data))


class _DType:
    """A type of the numbers of an array, in the steps in which it is pickled."""

    def __init__(self, code: str):
        self.numpy = np.dtype(_text(code))
        if self.numpy.kind not in _KINDS or self.numpy.names or self.numpy.subdtype:
            raise UnsafePickleError(f"it holds an array of {_text(code)[:20]!r}, not of numbers")

    def __setstate__(self, state: tuple) -> None:
        """Only what numpy writes for the type: Detectron2's unpickler, which comes next, believes all of it."""
        if len(state) != 8 or _text(state[1]) not in ("<", ">", "|", "="):
            raise UnsafePickleError("it describes a type of numbers as numpy does not")
        self.numpy = self.numpy.newbyteorder(_text(state[1]).replace("|", "="))
        expected = self.numpy.__reduce__()[2]
        if state[0] != expected[0] or tuple(state[2:]) != tuple(expected[2:]):
            raise UnsafePickleError("it describes a type of numbers as numpy does not")


class _Array:
    """An array, which is pickled empty and then gets its state."""

    def __init__(self, spend: Callable[[bytes], bytes]):
        self._spend = spend
        self.value = None

    def __setstate__(self, state: tuple) -> None:
        version, shape, dtype, is_fortran, data = state
        if version != 1:
            raise UnsafePickleError("it holds an array as numpy does not write it")
        data = self._spend(_as_bytes(data))
        self.value = _shaped(data, dtype, shape, "F" if is_fortran else "C")


def _plain(content: Any, seen: dict[int, Any], depth: int = 4) -> Any:
    """Arrays in place of their stand-ins, where a checkpoint has arrays; what lies deeper is never looked at.

    What is shared stays shared: containers that hold another one a hundred times, and that again, are few.
    """
    if isinstance(content, _Array):
        return content.value
    if not depth or not isinstance(content, dict | list | tuple):
        return content
    if id(content) not in seen:
        if isinstance(content, dict):
            plain = {key: _plain(value, seen, depth - 1) for key, value in content.items()}
        else:
            plain = [_plain(value, seen, depth - 1) for value in content]
        seen[id(content)] = plain
    return seen[id(content)]


def _shaped(data: bytes, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(dtype, _DType):
        raise UnsafePickleError("it holds an array of an unknown type")
    # A copy, since arrays over bytes cannot be written to.
    return np.frombuffer(data, dtype.numpy).reshape(shape, order=order).copy()


def _as_bytes(data: Any) -> bytes:
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise UnsafePickleError(f"it holds an array of {type(data).__name__}, not of numbers")
    return bytes(data)


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
