from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from posekit.camera_stack import stack_cameras
from posekit.datasets.h36m_metadata import CAMERA_IDS, canonical_action, find_metadata, read_metadata
from posekit.errors import FormatError, InputError, MissingFileError


@pytest.mark.parametrize("subject", ["S1", "S7", "S11"])
@pytest.mark.parametrize("camera", range(4))
def test_cameras_see_what_the_formulas_of_the_release_say(
    tmp_path: Path, h36m_raw: ModuleType, subject: str, camera: int
) -> None:
    raw = h36m_raw.RawH36M(tmp_path)
    found = read_metadata(tmp_path / "metadata.xml").camera(subject, CAMERA_IDS[camera], 1000, 1002)
    world = raw.world()[0]
    R, centre = raw.pose(subject, camera)
    expected = raw.project((world - centre) @ R.T, camera)
    cameras = stack_cameras([found])
    projected = cameras.project(torch.as_tensor(world / 1000.0))[0].numpy()
    np.testing.assert_allclose(projected, expected, atol=1e-8)
    np.testing.assert_allclose(cameras.centers()[0].numpy(), centre / 1000.0, atol=1e-12)
    assert (found.session, found.lens, found.width, found.height) == (subject, "human36m", 1000, 1002)


def test_names_actions_and_trials(tmp_path: Path, h36m_raw: ModuleType) -> None:
    h36m_raw.RawH36M(tmp_path)
    takes = read_metadata(tmp_path / "metadata.xml").takes
    assert len(takes["S1"]) == 30
    assert not any(base.startswith("_") for base in takes["S1"])
    assert (takes["S1"]["TakingPhoto 1"].action, takes["S1"]["TakingPhoto 1"].trial) == ("Photo", 1)
    assert (takes["S9"]["SittingDown"].trial, takes["S9"]["SittingDown 1"].trial) == (1, 2)


@pytest.mark.parametrize(
    ("base", "action"),
    [
        ("Directions", "Directions"),
        ("SittingDown 3", "SittingDown"),
        ("TakingPhoto", "Photo"),
        ("WalkingDog 1", "WalkDog"),
        ("Walking 2", "Walking"),
    ],
)
def test_canonical_action(base: str, action: str) -> None:
    assert canonical_action(base) == action


def test_metadata_is_found_one_folder_down(tmp_path: Path, h36m_raw: ModuleType) -> None:
    h36m_raw.RawH36M(tmp_path / "raw" / "code")
    assert find_metadata(tmp_path / "raw") == tmp_path / "raw" / "code" / "metadata.xml"
    with pytest.raises(MissingFileError, match=r"code-v1\.2\.zip"):
        find_metadata(tmp_path)
    with pytest.raises(MissingFileError, match=r"metadata\.xml"):
        read_metadata(tmp_path / "metadata.xml")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ("1 2 3", "3 numbers, 3 of them finite"),
        (" ".join(["nan"] * 300), "300 numbers, 0 of them finite"),
        ("1 2 x", "not a list of numbers"),
    ],
)
def test_camera_numbers_that_are_none(tmp_path: Path, h36m_raw: ModuleType, numbers: str, message: str) -> None:
    h36m_raw.RawH36M(tmp_path).write_metadata(numbers)
    with pytest.raises(FormatError, match=message):
        read_metadata(tmp_path / "metadata.xml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not XML"),
        ("<a><mapping>", "not XML"),
        ("<a/>", "no table `mapping`"),
        ("<a><mapping><tr><td/><td/><td>S1</td></tr></mapping></a>", "names no files"),
        ("<a><mapping><r><c/><c/><c>S1</c></r><r><c>2</c><c>1</c><c>Eating</c></r></mapping></a>", "no camera numbers"),
    ],
)
def test_files_that_are_no_metadata(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "metadata.xml").write_text(text)
    with pytest.raises(FormatError, match=message):
        read_metadata(tmp_path / "metadata.xml")


def test_unknown_camera(tmp_path: Path, h36m_raw: ModuleType) -> None:
    h36m_raw.RawH36M(tmp_path)
    with pytest.raises(InputError, match="54138969"):
        read_metadata(tmp_path / "metadata.xml").camera("S1", "5", 10, 10)
