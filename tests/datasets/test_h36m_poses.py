from __future__ import annotations

from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest

from posekit.datasets.h36m_metadata import read_metadata
from posekit.datasets.h36m_poses import projection_error, read_mask_boxes, read_pose_cdf, read_poses
from posekit.errors import FormatError, MissingFileError
from posekit.skeleton.catalog import H36M17

# Standard 17 joints among the raw 32.
RAW17 = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]


def test_poses_come_back(tmp_path: Path, h36m_raw: ModuleType) -> None:
    raw = h36m_raw.RawH36M(tmp_path)
    world = raw.add("S1", "Directions 1", video=False)
    metadata = read_metadata(tmp_path / "metadata.xml")
    for camera, name in enumerate(h36m_raw.CAMERAS):
        folder = tmp_path / "S1" / "MyPoseFeatures"
        file = f"Directions 1.{name}.cdf"
        poses = read_poses(folder / "D2_Positions" / file, folder / "D3_Positions_mono" / file)
        R, centre = raw.pose("S1", camera)
        mono = (world - centre) @ R.T
        np.testing.assert_allclose(poses.joints3d, mono[:, RAW17] / 1000, atol=1e-6)
        flat = raw.project(mono, camera)
        np.testing.assert_allclose(poses.keypoints2d[..., :2], flat[:, RAW17], atol=1e-4)
        assert (poses.keypoints2d[..., 2] == 1).all()
        np.testing.assert_allclose(poses.bbox[:, 2:], flat.max(axis=1), atol=1e-4)
        assert projection_error(poses, metadata.camera("S1", name, 100, 100)) < 1e-4
        assert projection_error(poses, metadata.camera("S5", name, 100, 100)) < 1e-4  # the lens is shared
    other = metadata.camera("S1", h36m_raw.CAMERAS[0], 100, 100)
    assert projection_error(poses, other) > 1e-3


def test_both_shapes_are_read(tmp_path: Path, h36m_raw: ModuleType) -> None:
    values = np.arange(5 * 96, dtype=np.float32).reshape(5, 96)
    h36m_raw.write_cdf(tmp_path / "a.cdf", values[None])
    h36m_raw.write_cdf(tmp_path / "b.cdf", values)
    first, second = read_pose_cdf(tmp_path / "a.cdf", 3), read_pose_cdf(tmp_path / "b.cdf", 3)
    assert first.shape == (5, 32, 3)
    np.testing.assert_array_equal(first, values.reshape(5, 32, 3))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("shape", [(1, 5, 64), (2, 5, 96), (1, 5, 95)])
def test_wrong_shapes_are_named(tmp_path: Path, h36m_raw: ModuleType, shape: tuple[int, ...]) -> None:
    h36m_raw.write_cdf(tmp_path / "wrong.cdf", np.zeros(shape))
    with pytest.raises(FormatError, match=r"wrong\.cdf.*\(1, frames, 96\) or \(frames, 96\)") as error:
        read_pose_cdf(tmp_path / "wrong.cdf", 3)
    assert str(shape) in str(error.value)


def test_files_that_are_no_poses(tmp_path: Path, h36m_raw: ModuleType) -> None:
    path = tmp_path / "x.cdf"
    with pytest.raises(MissingFileError, match=r"x\.cdf"):
        read_pose_cdf(path, 3)
    for content in (b"", b"garbage" * 500):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"x\.cdf"):
            read_pose_cdf(path, 3)
    h36m_raw.write_cdf(path, np.zeros((1, 5, 96)), name="Other")
    with pytest.raises(FormatError, match="`Pose`"):
        read_pose_cdf(path, 3)
    h36m_raw.write_cdf(path, np.random.default_rng(0).normal(size=(1, 200, 96)))
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(FormatError, match=r"x\.cdf"):
            read_pose_cdf(path, 3)


def test_joints_that_are_not_finite_lose_their_confidence(tmp_path: Path, h36m_raw: ModuleType) -> None:
    flat, deep = np.ones((1, 4, 64)), np.ones((1, 4, 96))
    flat[0, 1, 2 * RAW17[5]] = np.nan
    deep[0, 2, 3 * RAW17[6] + 2] = np.inf
    flat[0, 3] = np.nan
    h36m_raw.write_cdf(tmp_path / "2.cdf", flat)
    h36m_raw.write_cdf(tmp_path / "3.cdf", deep)
    poses = read_poses(tmp_path / "2.cdf", tmp_path / "3.cdf")
    assert np.isnan(poses.keypoints2d[1, 5, :2]).all()
    assert poses.keypoints2d[1, 5, 2] == 0
    assert poses.keypoints2d[1, :, 2].sum() == len(H36M17) - 1
    assert np.isnan(poses.joints3d[2, 6]).all()
    assert np.isfinite(poses.joints3d[2, :6]).all()
    assert np.isfinite(poses.bbox[:3]).all()
    assert np.isnan(poses.bbox[3]).all()
    assert poses.nan_joints == 2 + len(H36M17)


def test_files_of_different_length_give_the_common_rows(tmp_path: Path, h36m_raw: ModuleType) -> None:
    h36m_raw.write_cdf(tmp_path / "2.cdf", np.zeros((1, 4, 64)))
    h36m_raw.write_cdf(tmp_path / "3.cdf", np.ones((1, 6, 96)))
    assert len(read_poses(tmp_path / "2.cdf", tmp_path / "3.cdf")) == 4


def test_boxes_from_masks(tmp_path: Path) -> None:
    path = tmp_path / "boxes.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("#refs#")
        references = file.create_dataset("Masks", (3, 1), dtype=h5py.ref_dtype)
        for row in range(3):
            mask = np.zeros((40, 30), dtype=np.uint8)  # height, width
            if row != 1:
                mask[5 : 20 + row, 7:25] = 1
            references[row, 0] = group.create_dataset(str(row), data=mask.T).ref
    boxes = read_mask_boxes(path, 5)
    np.testing.assert_array_equal(boxes[0], [6.5, 4.5, 24.5, 19.5])
    np.testing.assert_array_equal(boxes[2], [6.5, 4.5, 24.5, 21.5])
    assert np.isnan(boxes[[1, 3, 4]]).all()
    assert len(read_mask_boxes(path, 2)) == 2
    path.write_bytes(b"no")
    with pytest.raises(FormatError, match=r"boxes\.mat"):
        read_mask_boxes(path, 2)
