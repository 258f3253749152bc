from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from posekit.artifacts.files import Artifact
from posekit.errors import InputError
from posekit.evaluation.baseline import MeanPose
from posekit.evaluation.comparison import Resampling, compare_joints
from posekit.evaluation.keys import Keys
from posekit.evaluation.protocols import protocol_by_name


def test_mean_pose_is_that_of_the_training_samples(poses: Any) -> None:
    poses.joints[2, 5] = np.nan
    with Artifact(poses.write()) as dataset:
        baseline = MeanPose(dataset, protocol_by_name("deform-and-learn"))
        predicted = baseline.predict(Keys.read(dataset, "samples"))
    rooted = (poses.joints - poses.joints[:, :1]).astype(np.float64)
    np.testing.assert_allclose(baseline.pose, np.nanmean(rooted[:8], axis=0), atol=1e-6)
    np.testing.assert_array_equal(predicted.points, np.repeat(baseline.pose[None], 13, axis=0))
    assert np.isnan(predicted.pixels).all() and set(predicted.reason) == {""} and baseline.samples == 8


def test_no_training_sample_no_mean_pose(poses: Any) -> None:
    poses.splits = ("test", "test", "test")
    with Artifact(poses.write()) as dataset, pytest.raises(InputError, match="no training samples"):
        MeanPose(dataset, protocol_by_name("all"))


def test_errors_of_the_mean_pose_by_hand(poses: Any) -> None:
    protocol = protocol_by_name("h36m-17")
    with Artifact(poses.write()) as dataset:
        summary = compare_joints(dataset, MeanPose(dataset, protocol), protocol, Resampling(0))
    rooted = (poses.joints - poses.joints[:, :1]).astype(np.float64)
    expected = np.linalg.norm(rooted[:8].mean(0) - rooted[8:], axis=-1).mean() * 1000
    metrics = {metric.metric: metric.mean for metric in summary.metrics}
    assert metrics["mpjpe"] == pytest.approx(expected, rel=1e-6) and summary.evaluated == 5
    assert "per_pixel" not in metrics
