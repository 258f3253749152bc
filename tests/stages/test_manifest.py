from __future__ import annotations

from pathlib import Path

import pytest

from posekit.artifacts.provenance import Header
from posekit.stages.manifest import files_of, write_manifest

HEADER = Header("export", "test", {"a": 1}, {"x": "1"})


def made(folder: Path) -> Path:
    (folder / "sub").mkdir()
    (folder / "sub" / "a.txt").write_text("one")
    write_manifest(folder / "m.json", HEADER, [folder / "sub" / "a.txt"])
    return folder / "m.json"


def test_the_same_work_is_found_again(tmp_path: Path) -> None:
    assert files_of(made(tmp_path), HEADER) == [tmp_path / "sub" / "a.txt"]
    assert files_of(tmp_path / "m.json", Header("export", "test", {"a": 2}, {"x": "1"})) is None


@pytest.mark.parametrize("damage", ["changed", "removed", "manifest", "none"])
def test_anything_else_is_made_again(tmp_path: Path, damage: str) -> None:
    manifest = made(tmp_path)
    if damage == "changed":
        (tmp_path / "sub" / "a.txt").write_text("two")
    elif damage == "removed":
        (tmp_path / "sub" / "a.txt").unlink()
    elif damage == "manifest":
        manifest.write_text('["half')
    else:
        manifest.unlink()
    assert files_of(manifest, HEADER) is None
