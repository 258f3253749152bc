from __future__ import annotations

from pathlib import Path

import pytest

from posekit.atomic import replacing, writing
from posekit.errors import OutputError


def test_the_file_is_there_only_after_the_block(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists() and temporary.suffix == ".json"
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_file_system_refuses_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"), replacing(tmp_path / "file" / "a.txt") as temporary:
        temporary.write_text("x")
    with pytest.raises(OutputError, match="No space"), writing(tmp_path):
        raise OSError(28, "No space left on device")
