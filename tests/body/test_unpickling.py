"""The pickle reader: what it reads, what it refuses, and that nothing else escapes it."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from posekit.body.unpickling import ChumpyArray, load_pickle
from posekit.errors import FormatError, MissingFileError, PosekitError, UnsafeFileError


def _load(folder: Path, content: bytes) -> object:
    path = folder / "file.pkl"
    path.write_bytes(content)
    return load_pickle(path)


@pytest.fixture
def chumpy_class() -> Iterator[type]:
    """A class that pickles under the name of chumpy's, which is not installed."""

    class Ch:
        pass

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    sys.modules["chumpy"], sys.modules["chumpy.ch"] = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    sys.modules["chumpy.ch"].Ch = Ch  # type: ignore[attr-defined]  # that is the point
    yield Ch
    del sys.modules["chumpy"], sys.modules["chumpy.ch"]


def _as_python2(values: dict[str, object]) -> bytes:
    """A dictionary as Python 2 and its numpy wrote it: byte-string keys, old module names, protocol 2."""
    parts = [b"\x80\x02}("]
    for key, value in values.items():
        body = pickle.dumps(value, protocol=2)[2:-1].replace(b"numpy._core", b"numpy.core")
        parts += [b"U", bytes([len(key)]), key.encode(), body]
    return b"".join([*parts, b"u."])


ARRAYS = [
    np.arange(12.0).reshape(3, 4),
    np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
    np.arange(3, dtype=">u2"),
    np.zeros((0, 3), np.float32),
    np.array(3.5),
    np.array(["left", "right"]),
    np.array([b"ab", b"c"]),
    np.array([True, False]),
    np.array([1 + 2j]),
    np.array([("nose", 3)], dtype=[("name", "U10"), ("index", "i4")]),
    np.array([("a", (1.0, 2.0))], dtype=[("name", "S4"), ("pair", "f4", (2,))]),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays_come_back_as_they_were(tmp_path: Path, array: np.ndarray, protocol: int) -> None:
    read = _load(tmp_path, pickle.dumps(array, protocol=protocol))
    assert type(read) is np.ndarray
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("protocol", range(6))
def test_containers_scalars_and_shared_values(tmp_path: Path, protocol: int) -> None:
    shared = np.arange(3)
    objects = np.empty((2, 2), dtype=object)
    objects[:] = [[shared, "text"], [None, [shared]]]
    value = {
        "list": [shared, (shared, {1, 2})],
        "ordered": OrderedDict(a=shared),
        "numbers": (np.float64(2.5), np.int32(-4), 7, 1.5, True, b"bytes"),
        "objects": np.asfortranarray(objects),
    }
    read = _load(tmp_path, pickle.dumps(value, protocol=protocol))
    assert isinstance(read, dict)
    assert read["numbers"] == value["numbers"]
    assert isinstance(read["ordered"], OrderedDict)
    assert read["list"][0] is read["ordered"]["a"] is read["objects"][0, 0] is read["objects"][1, 1][0]
    np.testing.assert_array_equal(read["list"][1][0], shared)
    assert read["objects"][0, 1] == "text"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", [sp.csc_matrix, sp.csr_matrix, sp.coo_matrix])
def test_sparse_matrices(tmp_path: Path, kind: type, protocol: int) -> None:
    dense = np.array([[0, 2.0, 0], [1, 0, 3]])
    content = pickle.dumps({"J_regressor": kind(dense)}, protocol=protocol)
    read = _load(tmp_path, content)
    assert isinstance(read, dict)
    assert isinstance(read["J_regressor"], kind)
    np.testing.assert_array_equal(read["J_regressor"].toarray(), dense)
    if protocol < 4:  # names are lines of text there, so that the file of an older scipy is easily made
        old = content.replace(b"scipy.sparse._", b"scipy.sparse.").replace(b"numpy._core", b"numpy.core")
        np.testing.assert_array_equal(_load(tmp_path, old)["J_regressor"].toarray(), dense)  # type: ignore[index]  # dict


def test_a_file_of_python_2_with_chumpy_arrays(tmp_path: Path, chumpy_class: type) -> None:
    inner = chumpy_class()
    inner.x, inner._dirty_vars = np.arange(4.0), set()
    read = _load(tmp_path, _as_python2({"shapedirs": inner, "f": np.arange(3, dtype=np.uint32)}))
    assert isinstance(read, dict)
    assert isinstance(read["shapedirs"], ChumpyArray)
    np.testing.assert_array_equal(read["shapedirs"].x, np.arange(4.0))
    np.testing.assert_array_equal(read["f"], np.arange(3))


def test_a_chumpy_expression_has_no_array(tmp_path: Path, chumpy_class: type) -> None:
    expression = chumpy_class()
    expression.a, expression.b = np.arange(2), np.arange(2)
    read = _load(tmp_path, pickle.dumps(expression, protocol=2))
    assert isinstance(read, ChumpyArray)
    with pytest.raises(FormatError, match="expression"):
        _ = read.x


class _Call:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call  # type: ignore[return-value]  # pickles what it is told to


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.system, eval, getattr, np.load, np.zeros, types.SimpleNamespace])
def test_what_could_run_code_is_refused_by_name(tmp_path: Path, function: object, protocol: int) -> None:
    target = tmp_path / "ran"
    content = pickle.dumps({"weights": _Call(function, f"touch {target}")}, protocol=protocol)
    with pytest.raises(UnsafeFileError, match=getattr(function, "__name__", "")):
        _load(tmp_path, content)
    assert not target.exists()


def test_a_dotted_name_does_not_reach_through_an_allowed_one(tmp_path: Path) -> None:
    content = b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__new__\x93."
    with pytest.raises(UnsafeFileError, match=r"numpy\.ndarray\.__new__"):
        _load(tmp_path, content)


def test_references_out_of_the_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFileError, match="outside the file"):
        _load(tmp_path, b"Pelsewhere\n.")


def test_bytes_never_become_object_references(tmp_path: Path) -> None:
    forged = [
        # an object array whose content is given as raw bytes
        b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\ntcnumpy\ndtype\n(S'O8'\nI00\n"
        b"I01\ntRI00\nS'AAAAAAAA'\ntb.",
        # the same with a data type whose flags deny that it holds references
        b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\ntcnumpy\ndtype\n(S'O8'\nI00\n"
        b"I01\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'AAAAAAAA'\ntb.",
        b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\nI00\nI01\ntRS'AAAAAAAA'\ntR.",
    ]
    for content in forged:
        with pytest.raises(FormatError, match="unknown kind"):
            _load(tmp_path, content)


def test_a_sparse_matrix_with_indices_outside_is_refused(tmp_path: Path) -> None:
    matrix = sp.csc_matrix(np.eye(3))
    matrix.indices[1] = 10_000_000
    with pytest.raises(FormatError, match="not a readable pickle"):
        _load(tmp_path, pickle.dumps(matrix))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle at all",
        b"\x80\x02N",
        b"cnumpy\nndarray\n(I3\ntR.",
        b"cbuiltins\nobject\n)R.",
        b"ccopyreg\n_reconstructor\n(cbuiltins\nset\ncbuiltins\nobject\nNtR.",
        b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.",
        b"cnumpy._core.multiarray\n_reconstruct\n(cbuiltins\nset\n(I0\ntS'b'\ntR.",
        b"cnumpy\ndtype\n(cnumpy\nndarray\ntR.",
        b"cnumpy\ndtype\n(S'f8'\ntR(I3\ntb.",
        b"cscipy.sparse._csc\ncsc_matrix\n)R(I3\ntb.",
        b"cscipy.sparse._csc\ncsc_matrix\n)R}b.",
    ],
)
def test_damaged_files_are_named_as_such(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FormatError, match=r"file\.pkl"):
        _load(tmp_path, content)


def test_no_damage_raises_anything_else(tmp_path: Path) -> None:
    whole = pickle.dumps({"w": sp.csc_matrix(np.eye(3)), "v": [np.arange(9.0), np.array(["a"])]}, protocol=2)
    random = np.random.default_rng(0)
    for cut in range(0, len(whole), 7):
        with pytest.raises(FormatError):
            _load(tmp_path, whole[:cut])
    for _ in range(400):
        changed = bytearray(whole)
        for place in random.integers(0, len(whole), size=2):
            changed[place] = random.integers(256)
        with contextlib.suppress(PosekitError):
            _load(tmp_path, bytes(changed))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere\.pkl"):
        load_pickle(tmp_path / "nowhere.pkl")
