"""Joints in normalised coordinates of crops."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from posekit.artifacts.files import Artifact
from posekit.errors import InputError
from posekit.skeleton.catalog import H36M17, MPII16
from posekit.training.pose_labels import (
    SpatialJoints,
    crops_of,
    depth_unit,
    focal_lengths,
    moving,
    pixel_labels,
    spatial_labels,
)

ROOT = MPII16.index("pelvis")


@pytest.fixture(scope="module")
def dataset(pose_data: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    path = tmp_path_factory.mktemp("labels") / "a.h5"
    pose_data.write_dataset(path)
    return Artifact(path)


def scaled(found: SpatialJoints, scale: float) -> SpatialJoints:
    return SpatialJoints(found.skeleton, scale * found.joints, found.pixels, found.weights)


def test_labels_in_units_of_the_crop_do_not_change_with_the_scale_of_the_joints(dataset: Artifact) -> None:
    rows = np.arange(dataset.rows("samples"))
    found = SpatialJoints.true(dataset, rows)
    one = spatial_labels(dataset, rows, found, MPII16, 1.25, "crop")
    # Powers of two change no digit; ten is held to the last ones.
    other = spatial_labels(dataset, rows, scaled(found, 8.0), MPII16, 1.25, "crop")
    assert np.array_equal(one.joints, other.joints)
    assert np.array_equal(one.weights, other.weights)
    ten = spatial_labels(dataset, rows, scaled(found, 10.0), MPII16, 1.25, "crop")
    np.testing.assert_allclose(one.joints, ten.joints, rtol=0, atol=1e-15)


@pytest.mark.parametrize("units", ["crop", "box2000"])
def test_depths_times_their_unit_are_metres_from_the_root(dataset: Artifact, pose_data: ModuleType, units: str) -> None:
    rows = np.arange(5)
    found = SpatialJoints.true(dataset, rows)
    labels = spatial_labels(dataset, rows, found, MPII16, 1.25, units)  # type: ignore[arg-type]
    depth = pose_data.true_joints()[rows, 0, 2]
    unit = depth_unit(labels.crops, focal_lengths(dataset, rows), depth, units)  # type: ignore[arg-type]
    wrist = pose_data.true_joints()[rows, H36M17.index("left_wrist"), 2]
    np.testing.assert_allclose(labels.joints[:, MPII16.index("left_wrist"), 2] * unit, wrist - depth, atol=1e-6)
    np.testing.assert_allclose(labels.joints[:, ROOT, 2], 0.0, atol=1e-7)
    assert (labels.weights == 1.0).all()


def test_the_crop_of_two_metres_shows_the_root_in_its_centre(dataset: Artifact, pose_data: ModuleType) -> None:
    rows = np.arange(6)
    labels = spatial_labels(dataset, rows, SpatialJoints.true(dataset, rows), MPII16, 1.25, "box2000")
    np.testing.assert_allclose(labels.joints[:, ROOT, :2], 0.0, atol=1e-5)
    # A point at the root's depth, one metre to the right of it, lies on the edge.
    root = pose_data.true_joints()[rows, 0].copy()
    root[:, 0] += 1.0
    edge = np.einsum("nij,nj->ni", labels.crops[..., :2], pose_data.projected(root)) + labels.crops[..., 2]
    np.testing.assert_allclose(edge, [[1.0, 0.0]] * len(rows), atol=1e-5)


def test_key_points_become_shares_of_the_crop_and_depths_do_not_count(dataset: Artifact, pose_data: ModuleType) -> None:
    rows = np.arange(4)
    labels = pixel_labels(dataset, rows, MPII16, 1.25)
    pixels = pose_data.projected(pose_data.true_joints())[rows]
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    side = 1.25 * (high - low).max(axis=1)
    ankle = pixels[:, H36M17.index("right_ankle")]
    expected = (ankle - (low + high) / 2.0) / side[:, None]
    np.testing.assert_allclose(labels.joints[:, MPII16.index("right_ankle"), :2], expected, atol=1e-5)
    assert (labels.weights[..., 2] == 0.0).all()
    assert (labels.weights[..., :2] == 1.0).all()


def test_the_depth_of_the_root_is_asked_for_only_where_it_is_needed(pose_data: ModuleType, tmp_path: Path) -> None:
    pose_data.write_dataset(tmp_path / "a.h5", truth=False)
    with Artifact(tmp_path / "a.h5") as dataset:
        assert crops_of(dataset, np.arange(2), 1.25, "crop").shape == (2, 2, 3)
        with pytest.raises(InputError, match="depth of the root is not known"):
            crops_of(dataset, np.arange(2), 1.25, "box2000")
        with pytest.raises(InputError, match="no ground truth to learn from"):
            SpatialJoints.true(dataset, np.arange(2))


def test_samples_without_a_root_are_left_out(dataset: Artifact) -> None:
    rows = np.arange(4)
    found = SpatialJoints.true(dataset, rows)
    joints = found.joints.copy()
    joints[1, 0] = np.nan
    labels = spatial_labels(
        dataset, rows, SpatialJoints(found.skeleton, joints, found.pixels, found.weights), MPII16, 1.25, "crop"
    )
    assert labels.rows.tolist() == [0, 2, 3]


def test_frames_in_which_nothing_moves_are_left_out() -> None:
    position = np.array([0.0, 4.0, 8.0, 11.0, 30.0, 31.0])
    points = np.zeros((6, 3, 2))
    points[:, 1, 0] = position
    track, frame = np.zeros(6, int), np.arange(6)
    assert moving(points, track, frame, 10.0).tolist() == [True, False, False, True, True, False]
    shuffled = np.array([3, 0, 5, 1, 4, 2])
    again = moving(points[shuffled], track, frame[shuffled], 10.0)
    assert again.tolist() == [True, True, False, False, True, False]
    two = moving(np.tile(points, (2, 1, 1)), np.repeat([0, 1], 6), np.tile(frame, 2), 10.0)
    assert two.tolist() == [True, False, False, True, True, False] * 2
