"""Pickles as Python 2 and the numpy of its time wrote them: protocol 2, byte strings, old names of modules."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

_INT = struct.Struct("<i")


def python2_pickle(value: object) -> bytes:
    """The pickle of plain containers, text, numbers and arrays of numbers; text becomes Python 2's byte strings.

    Raises TypeError for anything else (a defect of the caller).
    """
    return b"\x80\x02" + _written(value) + b"."


def _written(value: object) -> bytes:
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return b"J" + _INT.pack(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str | bytes):
        raw = value.encode("latin1") if isinstance(value, str) else value
        return (b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + _INT.pack(len(raw))) + raw
    if isinstance(value, list):
        return b"](" + b"".join(map(_written, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_written, value)) + b"t"
    if isinstance(value, Mapping):
        return b"}(" + b"".join(_written(key) + _written(item) for key, item in value.items()) + b"u"
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return _array(value)
    raise TypeError(f"cannot write {type(value).__name__} as Python 2 did")


def _array(values: np.ndarray) -> bytes:
    order = "|" if values.dtype.itemsize == 1 else "<"
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    dtype = (
        b"cnumpy\ndtype\n"
        + _written((values.dtype.str[1:], 0, 1))
        + b"R"
        + _written((3, order, None, None, None, -1, -1, 0))
        + b"b"
    )
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + _written((0,)) + _written("b") + b"tR"
    state = b"(" + _written(1) + _written(values.shape) + dtype + _written(False) + _written(little.tobytes()) + b"t"
    return empty + state + b"b"
