"""Reads pickles of arrays without running any code from them.

Body models, 3DPW sequences and detectron2 checkpoints are published as pickles. A pickle is a program that may call
whatever it can name. Here it can name nothing real: arrays, data types, sparse matrices and chumpy objects become inert
stand-ins that only keep what the file says, and once the file is read the real objects are built from them with every
size and index checked. (Even numpy's own constructors are not safe to hand out: a crafted state turns raw bytes into
pointers.)
"""

from __future__ import annotations

import codecs
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import scipy.sparse as sp

from posekit.errors import FormatError, MissingFileError, UnsafeFileError


def load_pickle(path: Path) -> object:
    """The content of a pickle of plain containers, numpy arrays, scipy sparse matrices and chumpy arrays.

    Python 2 text and byte strings are both read as latin-1 text. Raises MissingFileError, UnsafeFileError where the file
    names anything else, and FormatError where it is damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _resolved(_ArrayUnpickler(file, path).load(), set())
    except FileNotFoundError:
        raise MissingFileError("file not found", got=path) from None
    except UnsafeFileError:
        raise
    except FormatError as error:
        raise FormatError(f"{path}: {error.what}", got=error.got, accepted=error.accepted, hint=error.hint) from error
    except (
        pickle.UnpicklingError,
        struct.error,
        ArithmeticError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        MemoryError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise FormatError(
            f"{path} is not a readable pickle ({type(error).__name__}: {error})",
            hint="the file may be cut off or of another format; download or copy it again",
        ) from error


class ChumpyArray:
    """Stands in for every class of chumpy: keeps the pickled state and runs nothing."""

    def __init__(self, *_: object) -> None:
        self.state: dict[str, object] = {}

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.state = {_text(key): value for key, value in state.items()}

    @property
    def x(self) -> np.ndarray:
        """The array that a plain chumpy object holds; FormatError for one that would have to be computed."""
        value = self.state.get("x", self.state.get("r"))
        if not isinstance(value, np.ndarray):
            raise FormatError(
                "a chumpy object holds an expression, not an array",
                got=f"state {sorted(self.state)}",
                hint="save the file again with plain numpy arrays",
            )
        return value


class _Type:
    """What a pickle gets where it names a class that it may only pass on, never call."""


_NDARRAY = _Type()
_OBJECT = _Type()


class _DataType:
    """Stands in for a `numpy.dtype`."""

    def __init__(self, spec: object, *_: object) -> None:
        if not isinstance(spec, str | bytes):
            raise FormatError("a pickled data type is of an unknown kind", got=type(spec).__name__)
        self.spec = _text(spec)
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 5:
            raise FormatError("a pickled data type has an unknown state", got=state)
        self.state = state

    def build(self) -> np.dtype:
        """The real data type; object types only as such, never as a part of another."""
        if not self.state:
            return np.dtype(self.spec)
        _, order, part, names, fields = self.state[:5]
        if part is not None:
            inner, shape = part
            return np.dtype((_plain(inner), shape))
        if names is None:
            plain = np.dtype(self.spec)
            return plain.newbyteorder(">") if _text(order) == ">" else plain
        if not isinstance(names, tuple) or not isinstance(fields, dict):
            raise FormatError("a pickled data type has unreadable fields", got=names)
        by_name = {_text(name): entry for name, entry in fields.items()}
        members = [by_name[_text(name)] for name in names]
        return np.dtype(
            {
                "names": [_text(name) for name in names],
                "formats": [_plain(member[0]) for member in members],
                "offsets": [member[1] for member in members],
                "itemsize": self.state[5],
            }
        )


def _plain(dtype: object) -> np.dtype:
    """A real data type that holds no object references."""
    built = dtype.build() if isinstance(dtype, _DataType) else None
    if built is None or built.hasobject:
        raise FormatError("a pickled array is of an unknown kind", got=built)
    return built


class _Array:
    """Stands in for a `numpy.ndarray`."""

    def __init__(self) -> None:
        self.state: tuple[Any, ...] = ()
        self.built: np.ndarray | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise FormatError("a pickled array has an unknown state")
        self.state = state[-4:]

    def build(self, seen: set[int]) -> np.ndarray:
        """The real array."""
        if self.built is None:
            shape, dtype, column_major, raw = self.state
            if isinstance(raw, list):
                if not isinstance(dtype, _DataType) or dtype.build() != np.dtype(object):
                    raise FormatError("a pickled array of objects is of an unknown kind")
                flat = np.empty(len(raw), dtype=object)
                self.built = flat.reshape(shape)
                for i, item in enumerate(raw):
                    flat[i] = _resolved(item, seen)
            else:
                self.built = _from_buffer(raw, dtype, shape, "F" if column_major else "C")
        return self.built


class _Sparse:
    """Stands in for a scipy sparse matrix; `build` checks every index."""

    kind = ""

    def __init__(self, *_: object) -> None:
        self.state: dict[str, object] = {}

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise FormatError("a pickled sparse matrix has an unknown state", got=type(state).__name__)
        self.state = {_text(key): value for key, value in state.items()}

    def build(self, seen: set[int]) -> sp.spmatrix:
        """The real matrix."""
        state: dict[str, Any] = {key: _resolved(value, seen) for key, value in self.state.items()}
        shape = state.get("_shape", state.get("shape"))
        if self.kind == "coo":
            row, column = state["coords"] if "coords" in state else (state["row"], state["col"])
            return sp.coo_matrix((state["data"], (row, column)), shape=shape)
        matrix = {"csc": sp.csc_matrix, "csr": sp.csr_matrix}[self.kind](
            (state["data"], state["indices"], state["indptr"]), shape=shape
        )
        matrix.check_format(full_check=True)
        return matrix


class _Csc(_Sparse):
    kind = "csc"


class _Csr(_Sparse):
    kind = "csr"


class _Coo(_Sparse):
    kind = "coo"


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _new_array(subtype: object, *_: object) -> _Array:
    """For `numpy.core.multiarray._reconstruct`: an empty array whose state follows."""
    if subtype is not _NDARRAY:
        raise FormatError("a pickled array is of an unknown kind")
    return _Array()


def _new_object(kind: object, *_: object) -> object:
    """For `copyreg._reconstructor`: an object of one of the stand-in classes, whose state follows."""
    if not isinstance(kind, type) or not issubclass(kind, ChumpyArray | _Sparse):
        raise FormatError("a pickled object is of an unknown kind")
    return kind()


def _from_buffer(raw: object, dtype: object, shape: Any, order: Literal["C", "F"] = "C") -> np.ndarray:
    """For `numpy.core.numeric._frombuffer`: how numpy writes contiguous arrays in protocol 5."""
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(data, bytes | bytearray):
        raise FormatError("a pickled array holds no bytes", got=type(raw).__name__)
    flat: np.ndarray = np.frombuffer(bytearray(data), dtype=_plain(dtype))
    return flat.reshape(shape, order=order)


def _scalar(dtype: object, raw: object = b"") -> object:
    """For `numpy.core.multiarray.scalar`."""
    return _from_buffer(raw, dtype, (1,))[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """For `_codecs.encode`: how Python 3 writes bytes in the old protocols; no other codec."""
    if encoding not in ("latin1", "latin-1"):
        raise FormatError("a pickle asks for an unexpected text codec", got=encoding, accepted="latin1")
    return codecs.latin_1_encode(text)[0]


def _no_bytes() -> bytes:
    """For `bytes()`: how Python 3 writes an empty byte string in the old protocols."""
    return b""


_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy", "dtype"): _DataType,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("copyreg", "_reconstructor"): _new_object,
    ("builtins", "object"): _OBJECT,
    ("builtins", "set"): set,
    ("builtins", "bytes"): _no_bytes,
    **{
        (module, f"{kind.kind}_matrix"): kind
        for kind in (_Csc, _Csr, _Coo)
        for module in (f"scipy.sparse.{kind.kind}", f"scipy.sparse._{kind.kind}")
    },
}
_RENAMED = {
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
    "copy_reg": "copyreg",
    "__builtin__": "builtins",
}


class _ArrayUnpickler(pickle.Unpickler):
    """Finds only what is allowed."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self.path = path

    def find_class(self, module: str, name: str) -> object:
        if module == "chumpy" or module.startswith("chumpy."):
            return ChumpyArray
        try:
            return _ALLOWED[_RENAMED.get(module, module), name]
        except KeyError:
            raise UnsafeFileError(
                f"{self.path} asks for {module}.{name}, which could run code; the file was not opened",
                accepted="numpy arrays, scipy sparse matrices and chumpy arrays in plain containers",
                hint="if you trust it, load it with its own software and save plain arrays (.npz) from there",
            ) from None

    def persistent_load(self, pid: object) -> object:
        raise UnsafeFileError(f"{self.path} refers to objects outside the file; it was not opened", got=pid)


def _resolved(value: object, seen: set[int]) -> object:
    """`value` with real objects in the place of the stand-ins; containers are changed in place."""
    if isinstance(value, _Array | _Sparse):
        return value.build(seen)
    if isinstance(value, tuple):
        return tuple(_resolved(item, seen) for item in value)
    if id(value) in seen:
        return value
    if isinstance(value, list):
        seen.add(id(value))
        value[:] = [_resolved(item, seen) for item in value]
    elif isinstance(value, dict):
        seen.add(id(value))
        for key in list(value):
            value[key] = _resolved(value[key], seen)
    elif isinstance(value, ChumpyArray):
        seen.add(id(value))
        value.state = dict(_resolved(value.state, seen))  # type: ignore[call-overload]  # a dict stays a dict
    elif isinstance(value, _DataType):
        return value.build()
    return value
