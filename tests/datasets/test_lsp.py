"""LSP's joints in both orders of axes with both meanings of the flag; segmentations of other sizes and orders."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from posekit.datasets.lsp import (
    IGNORE,
    better_order,
    in_upi_order,
    open_release,
    read_joints,
    read_mask,
    read_parts,
    votes_for_order,
)
from posekit.errors import FormatError, MissingFileError
from posekit.skeleton.catalog import LSP14

COUNT = 5


def saved(path: Path, joints: np.ndarray, key: str = "joints") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {key: joints})
    return path


def image(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
    return path


def test_both_orders_of_axes_and_both_flags(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    places, flag = random.uniform(1, 99, (COUNT, 14, 2)), random.uniform(size=(COUNT, 14)) < 0.3
    whole = np.concatenate([places, flag[..., None]], axis=-1)
    lsp = saved(tmp_path / "lsp.mat", whole.transpose(2, 1, 0))
    assert scipy.io.loadmat(lsp)["joints"].shape == (3, 14, COUNT)
    joints, hidden = read_joints(lsp, flag_is_hidden=True)
    np.testing.assert_array_equal(joints[..., :2], places)
    assert (joints[..., 2] == 1).all()
    np.testing.assert_array_equal(hidden, flag)

    extended = saved(tmp_path / "lspet.mat", whole.transpose(1, 2, 0))
    assert scipy.io.loadmat(extended)["joints"].shape == (14, 3, COUNT)
    joints, hidden = read_joints(extended, flag_is_hidden=False)
    np.testing.assert_array_equal(joints[..., 2], flag)
    np.testing.assert_array_equal(joints[flag][:, :2], places[flag])
    assert np.isnan(joints[~flag][:, :2]).all()
    assert not hidden.any()


def test_what_are_no_joints_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="wrong shape"):
        read_joints(saved(tmp_path / "a.mat", np.zeros((3, 13, 4))), flag_is_hidden=True)
    with pytest.raises(FormatError, match="no readable array"):
        read_joints(saved(tmp_path / "b.mat", np.zeros((3, 14, 4)), key="other"), flag_is_hidden=True)
    (tmp_path / "c.mat").write_bytes(b"no MATLAB file at all")
    with pytest.raises(FormatError, match="no readable array"):
        read_joints(tmp_path / "c.mat", flag_is_hidden=True)
    with pytest.raises(MissingFileError):
        read_joints(tmp_path / "d.mat", flag_is_hidden=True)


def test_segmentations_that_are_smaller_or_larger_than_their_picture(tmp_path: Path) -> None:
    parts = np.zeros((20, 30), np.uint8)
    parts[5:15, 10:20] = 6
    for rows, columns in ((19, 30), (20, 29), (18, 28)):
        read = read_parts(image(tmp_path / "a.png", parts[:rows, :columns]), (20, 30))
        np.testing.assert_array_equal(read[:rows, :columns], parts[:rows, :columns])
        assert (read[rows:] == IGNORE).all()
        assert (read[:, columns:] == IGNORE).all()
        assert not read_mask(tmp_path / "a.png", (20, 30))[rows:].any()
    larger = np.pad(parts, ((0, 1), (0, 2)))
    np.testing.assert_array_equal(read_parts(image(tmp_path / "b.png", larger), (20, 30)), parts)
    for scale in (2, 3):
        enlarged = np.repeat(np.repeat(parts, scale, 0), scale, 1)
        np.testing.assert_array_equal(read_parts(image(tmp_path / "c.png", enlarged), (20, 30)), parts)
        np.testing.assert_array_equal(read_mask(tmp_path / "c.png", (20, 30)), parts > 0)
    with pytest.raises(FormatError, match="not the segmentation of its picture"):
        read_parts(image(tmp_path / "d.png", np.zeros((40, 30), np.uint8)), (20, 30))


def test_numbers_that_no_part_has_are_refused(tmp_path: Path) -> None:
    parts = np.full((20, 30), IGNORE, np.uint8)
    parts[0] = 6
    np.testing.assert_array_equal(read_parts(image(tmp_path / "a.png", parts), (20, 30)), parts)
    parts[0, 0] = 7
    with pytest.raises(FormatError, match="got 7"):
        read_parts(image(tmp_path / "a.png", parts), (20, 30))


def test_the_joints_tell_the_order_of_the_parts() -> None:
    joints = np.zeros((14, 3))
    upi = np.zeros((40, 40), np.uint8)
    for column, (name, part) in enumerate({"right_wrist": 2, "left_wrist": 1, "left_knee": 4, "right_knee": 5}.items()):
        joints[LSP14.index(name)] = [10 * column + 3, 20, 1]
        upi[15:25, 10 * column : 10 * column + 8] = part
    upi[0, :2] = [3, 6]
    rendered = upi.copy()
    # head, torso, right arm, left arm, right leg, left leg
    for number, part in ((1, 3), (2, 6), (3, 2), (4, 1), (5, 5), (6, 4)):
        rendered[upi == part] = number
    rendered[39, 39] = upi[39, 39] = IGNORE
    # Right legs have the same number in both.
    assert votes_for_order(upi, joints) == {"upi-s1h": 4, "rendered": 1}
    assert votes_for_order(rendered, joints) == {"upi-s1h": 1, "rendered": 4}
    assert better_order(votes_for_order(rendered, joints)) == "rendered"
    np.testing.assert_array_equal(in_upi_order(rendered, "rendered"), upi)
    np.testing.assert_array_equal(in_upi_order(upi, "upi-s1h"), upi)
    joints[:, 2] = 0
    assert votes_for_order(upi, joints) == {"upi-s1h": 0, "rendered": 0}


def test_folders_files_and_halves(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="synthesize lsp"):
        open_release(tmp_path / "nowhere", ["lsp"])
    saved(tmp_path / "lsp_dataset/joints.mat", np.ones((3, 14, 4)))
    saved(tmp_path / "hr-lspet/joints.mat", np.ones((14, 3, 3)))
    image(tmp_path / "hr-lspet/im00002.png", np.zeros((4, 4), np.uint8))
    image(tmp_path / "data/lsp/im0003_part_segmentation.png", np.zeros((4, 4), np.uint8))
    lsp, extended = open_release(tmp_path, ["lsp", "lspet"]).sets
    assert [(name, split, list(numbers)) for name, split, numbers in lsp.clips()] == [
        ("lsp-train", "train", [1, 2]),
        ("lsp-test", "test", [3, 4]),
    ]
    assert [(name, list(numbers)) for name, _, numbers in extended.clips()] == [("lspet", [1, 2, 3])]
    assert lsp.image(3).name == "im0003.jpg"
    assert extended.image(2).is_file()
    assert lsp.mask(3) is None
    assert lsp.parts(3) is not None
