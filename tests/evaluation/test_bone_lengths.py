from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from posekit.artifacts.files import Artifact
from posekit.evaluation.bone_lengths import with_canonical_length
from posekit.evaluation.protocols import H36M_BONE_LENGTH, protocol_by_name
from posekit.skeleton.catalog import H36M17

PROTOCOL = protocol_by_name("deform-and-learn")
BONES = np.array(H36M17.bones)


def length(joints: np.ndarray) -> float:
    points = joints.astype(np.float64)
    return float(np.linalg.norm(points[:, BONES[:, 1]] - points[:, BONES[:, 0]], axis=-1).sum(-1).mean())


def test_each_training_subject_counts_once(poses: Any) -> None:
    with Artifact(poses.write()) as dataset:
        found = with_canonical_length(dataset, PROTOCOL)
    expected = (length(poses.joints[:6]) + length(poses.joints[6:8])) / 2
    assert found.canonical_bone_length == pytest.approx(expected, rel=1e-12)
    assert "S1, S5" in found.canonical_from


def test_samples_that_lack_a_joint_do_not_count(poses: Any) -> None:
    poses.joints[0, 16], poses.joints[6:8, 3] = np.nan, np.nan
    with Artifact(poses.write()) as dataset:
        found = with_canonical_length(dataset, PROTOCOL)
    assert found.canonical_bone_length == pytest.approx(length(poses.joints[1:6]), rel=1e-12)
    assert "S5" not in found.canonical_from


@pytest.mark.parametrize("truth", [True, False])
def test_the_constant_stands_in(poses: Any, truth: bool) -> None:
    if truth:
        poses.splits = ("test", "test", "test")
    with Artifact(poses.write(truth=truth)) as dataset:
        assert with_canonical_length(dataset, PROTOCOL).canonical_bone_length == H36M_BONE_LENGTH


def test_protocols_without_rescaling_stay_as_they_are(poses: Any) -> None:
    with Artifact(poses.write()) as dataset:
        assert with_canonical_length(dataset, protocol_by_name("p1")) == protocol_by_name("p1")
