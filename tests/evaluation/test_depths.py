"""Measures of lifted depths, on people whose lifter knows the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.errors import DataError
from posekit.evaluation.comparison import Resampling
from posekit.evaluation.depths import compare_depths, flipped, lift_dataset
from posekit.evaluation.report import Summary
from posekit.labeling.depth_networks import DepthGenerator
from posekit.labeling.lifting import Lifter
from posekit.records import Camera, Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import COMMON14

COUNT, FOCAL, AWAY = 6, 600.0, 4.0
PELVIS = COMMON14.index("pelvis")
QUIET = Resampling(0, 0)


class Knowing(Lifter):
    """Gives the true depths times a factor for each pose; pixels are metres times focal length over distance."""

    def __init__(self, depths: np.ndarray, factors: list[float]) -> None:
        super().__init__(COMMON14, DepthGenerator(14, 4))
        self._known = torch.from_numpy(depths * np.array(factors)[:, None]) * FOCAL / AWAY

    def depths(self, keypoints: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        return self._known[: len(keypoints)], valid.all(1)


@pytest.fixture
def joints() -> np.ndarray:
    """Flat enough that weak perspective is exact: the key points below are made that way."""
    return np.random.default_rng(0).normal(scale=0.3, size=(COUNT, 14, 3)).round(3)


def write(path: Path, joints: np.ndarray, *, confidence: float = 1.0, split: str = "test") -> Path:
    seen = np.concatenate([joints[..., :2] * FOCAL / AWAY + 300.0, np.full((COUNT, 14, 1), confidence)], axis=-1)
    shifted = joints - joints[:, [PELVIS]] * [0.0, 0.0, 1.0] + [0.0, 0.0, AWAY]
    samples = {
        "sequence": np.zeros(COUNT),
        "frame": np.arange(COUNT),
        "person": np.zeros(COUNT),
        "camera": np.zeros(COUNT),
        "bbox": np.zeros((COUNT, 4)),
        "keypoints2d": seen,
        "joints3d": shifted,
    }
    K = np.diag([FOCAL, FOCAL, 1.0])
    with ArtifactWriter(path, Header("dataset", "test", skeleton=COMMON14)) as writer:
        writer.append("cameras", camera_columns([Camera("c", 600, 600, K)]))
        writer.append("sequences", clip_columns([Clip("S9 Sitting", 50.0, "S9", "Sitting", 1, split)]))
        writer.append("samples", samples)
    return path


def compared(path: Path, lifter: Lifter, split: str = "test") -> Summary:
    with Artifact(path) as dataset:
        return compare_depths(dataset, lifter, split, QUIET)


def means(summary: Summary) -> dict[str, float]:
    return {metric.metric: metric.mean for metric in summary.metrics}


def relative(joints: np.ndarray) -> np.ndarray:
    return np.asarray((joints - joints[:, [PELVIS]])[..., 2])


def test_true_depths_have_no_error(tmp_path: Path, joints: np.ndarray) -> None:
    summary = compared(write(tmp_path / "d.h5", joints), Knowing(relative(joints), [1.0] * COUNT))
    for name, mean in means(summary).items():
        assert mean == pytest.approx(0.0, abs=1e-3), name
    assert summary.facts["depth_correlation"] == pytest.approx(1.0)
    assert summary.facts["depth_of_nothing_mm"] == pytest.approx(
        1000.0 * np.abs(np.delete(relative(joints), PELVIS, 1)).mean(), rel=1e-5
    )


def test_errors_are_millimetres_at_the_distance_of_the_pelvis(tmp_path: Path, joints: np.ndarray) -> None:
    summary = compared(write(tmp_path / "d.h5", joints), Knowing(relative(joints), [0.5] * COUNT))
    expected = 500.0 * np.abs(np.delete(relative(joints), PELVIS, 1)).mean()
    assert means(summary)["depth"] == pytest.approx(expected, rel=1e-4)
    assert means(summary)["mpjpe"] == pytest.approx(expected * 13 / 14, rel=1e-4)
    assert means(summary)["flipped"] == 0.0


def test_mirrored_poses_are_counted_as_flipped_and_turned_about(tmp_path: Path) -> None:
    joints = np.zeros((COUNT, 14, 3))
    joints[:, COMMON14.index("left_hip")] = [0.1, 0.0, 0.1]
    joints[:, COMMON14.index("right_hip")] = [-0.1, 0.0, -0.1]
    joints[:, COMMON14.index("thorax")] = [0.0, -0.5, 0.0]
    found = means(
        compared(write(tmp_path / "d.h5", joints), Knowing(relative(joints), [1.0, -1.0, 1.0, 1.0, -1.0, 1.0]))
    )
    assert found["flipped"] == pytest.approx(100.0 * 2 / 6)
    # A pelvis at 45 degrees that is mirrored in depth is turned by a right angle, no more.
    assert found["turned_about"] == 0.0
    joints[..., 2] *= 3.0
    found = means(
        compared(write(tmp_path / "e.h5", joints), Knowing(relative(joints), [1.0, -1.0, 1.0, 1.0, -1.0, 1.0]))
    )
    assert found["turned_about"] == pytest.approx(100.0 * 2 / 6)


def test_flips_are_told_pose_by_pose() -> None:
    true = np.array([[1.0, -2.0], [1.0, -2.0], [0.0, 3.0]])
    assert flipped(np.array([[1.0, 1.0], [-1.0, 1.9], [0.1, 1.0]]), true).tolist() == [True, True, False]


def test_what_is_left_out_is_counted(tmp_path: Path, joints: np.ndarray) -> None:
    joints[2, 4, 0] = np.nan
    summary = compared(write(tmp_path / "d.h5", joints), Knowing(relative(joints)[[0, 1, 3, 4, 5]], [1.0] * 5))
    assert (summary.evaluated, dict(summary.skipped)) == (5, {"without every joint": 1})
    with pytest.raises(DataError, match="no depth"):
        compared(write(tmp_path / "e.h5", joints, confidence=0.0), Knowing(relative(joints), [1.0] * COUNT))
    with pytest.raises(DataError, match="no depth"):
        compared(tmp_path / "d.h5", Knowing(relative(joints), [1.0] * COUNT), "train")


def test_data_without_parts_belong_to_every_part(tmp_path: Path, joints: np.ndarray) -> None:
    path = write(tmp_path / "d.h5", joints, split="")
    with Artifact(path) as dataset:
        poses = lift_dataset(dataset, Knowing(relative(joints), [1.0] * COUNT), "train")
    assert poses.rows.tolist() == list(range(COUNT))
