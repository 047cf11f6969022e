"""Detectron2-style ``.pkl`` files, numpy arrays by name, read without running what they may hold.

A pickle is a program that names callables. Here it finds stand-ins for the few that arrays are made of, which only
ever make arrays, and nothing else.
"""

import os
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_PLAIN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "complex"): complex,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "set"): set,
}
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


class UnsafePickleError(ValueError):
    """The file names something that is not run."""


def load_numpy_pickle(path: str | Path) -> Any:
    """Content of a pickle of containers, text, numbers and numpy arrays; Python 2's strings as latin1.

    Raises:
        UnsafePickleError: if it holds anything else.
        ValueError: if it is no pickle, or a damaged one.
    """
    with open(path, "rb") as file:
        try:
            _check_memo(file)
            return _plain(_NumpyUnpickler(file, encoding="latin1").load())
        except UnsafePickleError:
            raise
        except MemoryError as error:
            raise ValueError("it asks for more memory than there is") from error
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        except Exception as error:
            # Damaged bytes can raise almost anything, such as UnicodeDecodeError or AttributeError.
            raise ValueError("it is cut off or no pickle of numpy arrays") from error


def _check_memo(file: BinaryIO) -> None:
    """The unpickler makes room for as many objects as the largest number it is to remember one under."""
    size = os.fstat(file.fileno()).st_size
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > size:
            raise ValueError("it numbers more objects than it can hold")
    file.seek(0)


class _NumpyUnpickler(pickle.Unpickler):
    """Stand-ins are bound methods, whose attributes a file cannot set."""

    def find_class(self, module: str, name: str) -> Any:
        module = _MODULES.get(module, module)
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
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
            ("numpy", "dtype"): self._dtype,
            ("numpy._core.multiarray", "_reconstruct"): self._reconstruct,
            ("numpy._core.multiarray", "scalar"): self._scalar,
            ("numpy._core.numeric", "_frombuffer"): self._frombuffer,
            ("_codecs", "encode"): self._encode,
            ("builtins", "bytes"): self._bytes,
            ("builtins", "bytearray"): self._bytes,
        }

    def _dtype(self, code: str, align: bool = False, copy: bool = True) -> "_DType":
        return _DType(code)

    def _reconstruct(self, kind: Any, shape: Any, code: Any) -> "_Array":
        if kind != _NDARRAY:
            raise UnsafePickleError("it holds arrays of a class of their own")
        return _Array()

    def _scalar(self, dtype: "_DType", data: Any) -> Any:
        return np.frombuffer(_as_bytes(data), _checked(dtype), count=1)[0]

    def _frombuffer(
        self, data: Any, dtype: "_DType", shape: Any, order: str, axes: Any = None
    ) -> "_Array":
        array = _Array()
        array.value = _shaped(data, dtype, shape, "F" if order == "F" else "C")
        if order == "K" and axes is not None:
            array.value = array.value.transpose(axes)
        return array

    def _encode(self, text: str, encoding: str) -> bytes:
        # How protocols up to 2 write bytes.
        if encoding != "latin1":
            raise UnsafePickleError(f"it encodes text as {str(encoding)[:20]!r}")
        return text.encode("latin1")

    def _bytes(self, data: bytes = b"") -> bytes:
        return _as_bytes(data)


class _DType:
    """A type of the numbers of an array, in the steps in which it is pickled."""

    def __init__(self, code: str):
        self.code = _text(code)
        self.order = "|"

    def __setstate__(self, state: tuple) -> None:
        self.order = _text(state[1])


class _Array:
    """An array, which is pickled empty and then gets its state."""

    def __init__(self):
        self.value = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state
        self.value = _shaped(data, dtype, shape, "F" if is_fortran else "C")


def _plain(content: Any, depth: int = 4) -> Any:
    """Arrays in place of their stand-ins, where a checkpoint has arrays; what lies deeper is never looked at."""
    if isinstance(content, _Array):
        return content.value
    if depth and isinstance(content, dict):
        return {key: _plain(value, depth - 1) for key, value in content.items()}
    if depth and isinstance(content, list | tuple):
        return [_plain(value, depth - 1) for value in content]
    return content


def _shaped(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    # A copy, since arrays over bytes cannot be written to.
    return np.frombuffer(_as_bytes(data), _checked(dtype)).reshape(shape, order=order).copy()


def _checked(dtype: Any) -> np.dtype:
    if not isinstance(dtype, _DType):
        raise UnsafePickleError("it holds an array of an unknown type")
    found = np.dtype(dtype.code)
    if found.kind not in _KINDS or found.names or found.subdtype:
        raise UnsafePickleError(f"it holds an array of {dtype.code[:20]!r}, not of numbers")
    return found.newbyteorder(dtype.order) if dtype.order in "<>" else found


def _as_bytes(data: Any) -> bytes:
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise UnsafePickleError(f"it holds an array of {type(data).__name__}, not of numbers")
    return bytes(data)


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
