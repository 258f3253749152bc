"""Pickles in the form of Python 2: read by Python's own unpickler and by ours, and refused where there is no such form."""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest

from posekit.body.unpickling import load_pickle
from posekit.synthetic.python2_pickle import python2_pickle

VALUE = {
    "poses": [np.arange(6.0).reshape(2, 3), np.zeros((0, 72))],
    "genders": ["m", "f"],
    "long": "x" * 300,
    "numbers": (-3, 2.5, True, None),
    "single": np.ones((1, 2), np.float32),
    "bytes": np.arange(3, dtype=np.uint8),
    "one": np.array(2.0),
    "turned": np.arange(6.0).reshape(2, 3).T,
}


def check(read: object) -> None:
    assert isinstance(read, dict)
    assert list(read) == list(VALUE)
    assert read["genders"] == ["m", "f"]
    assert read["long"] == VALUE["long"]
    assert read["numbers"] == VALUE["numbers"]
    for name in ("single", "bytes", "one", "turned"):
        assert read[name].dtype == VALUE[name].dtype  # type: ignore[attr-defined]  # arrays
        np.testing.assert_array_equal(read[name], VALUE[name])
    np.testing.assert_array_equal(read["poses"][0], VALUE["poses"][0])  # type: ignore[index]  # a list
    assert read["poses"][1].shape == (0, 72)


def test_pythons_own_unpickler_reads_it() -> None:
    check(pickle.loads(python2_pickle(VALUE), encoding="latin1"))


def test_our_unpickler_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(python2_pickle(VALUE))
    check(load_pickle(path))


def test_keys_are_byte_strings_and_modules_have_their_old_names() -> None:
    content = python2_pickle(VALUE)
    assert b"poses" in pickle.loads(content, encoding="bytes")
    operations = list(pickletools.genops(content))
    assert operations[0][1] == 2
    named = {argument for operation, argument, _ in operations if operation.name == "GLOBAL"}
    assert named == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}


def test_other_things_are_refused() -> None:
    with pytest.raises(TypeError, match="set"):
        python2_pickle({"a": {1, 2}})
    with pytest.raises(TypeError, match="ndarray"):
        python2_pickle(np.array([object()]))
