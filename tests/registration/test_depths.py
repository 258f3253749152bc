"""Depths lifted from key points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from posekit.registration.depths import DepthLifter, LiftedDepths, lifter_skeleton
from posekit.skeleton.catalog import COCO17, COMMON14, H36M17
from posekit.skeleton.skeleton import Skeleton


class HeightLifter:
    """Takes a joint's height over the pelvis for its depth; poses with gaps are not possible."""

    digest = "made up"
    joint_names = COMMON14.joints

    def depths(self, keypoints: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        assert keypoints.isfinite().all()
        pelvis = COMMON14.index("pelvis")
        return keypoints[..., 1] - keypoints[:, [pelvis], 1], valid.all(1)


def labels(skeleton: Skeleton, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    keypoints, confidence = random.normal(size=(3, len(names), 2)), random.uniform(0.2, 1.0, (3, len(names)))
    lost = names.index("left_knee")
    keypoints[1, lost], confidence[1, lost] = np.nan, 0.0
    return keypoints, confidence, *LiftedDepths(HeightLifter(), skeleton, names).labels(keypoints, confidence)


def test_depths_lie_on_the_lifters_joints_with_the_key_points_confidence() -> None:
    names = H36M17.joints
    keypoints, confidence, joints, weights = labels(H36M17, names)
    lifted = list(H36M17.indices(*COMMON14.joints))
    rest = [row for row in range(17) if row not in lifted]
    assert (weights[..., :2] == 0).all() and (weights[:, rest] == 0).all()
    expected = keypoints[..., 1] - keypoints[:, [names.index("pelvis")], 1]
    np.testing.assert_allclose(joints[[0, 2]][:, lifted, 2], expected[[0, 2]][:, lifted], atol=1e-6)
    np.testing.assert_array_equal(weights[[0, 2]][:, lifted, 2], confidence[[0, 2]][:, lifted])


def test_a_body_that_lacks_a_joint_has_no_depth() -> None:
    assert (labels(H36M17, H36M17.joints)[3][1] == 0).all()


def test_joints_that_nobody_annotates_are_made_from_others() -> None:
    names = (*COCO17.joints, "pelvis", "thorax")
    keypoints, confidence, joints, weights = labels(COCO17, names)
    hips = list(COCO17.indices("left_hip", "right_hip"))
    pelvis, thorax, wrist = names.index("pelvis"), names.index("thorax"), names.index("left_wrist")
    assert weights[0, pelvis, 2] == confidence[0, hips].min() and joints[0, pelvis, 2] == 0
    assert weights[0, thorax, 2] > 0
    assert joints[0, wrist, 2] == pytest.approx(keypoints[0, wrist, 1] - keypoints[0, hips, 1].mean(), abs=1e-6)
    assert (weights[:, names.index("nose")] == 0).all()


def test_joint_orders_without_a_name() -> None:
    lifter = HeightLifter()
    assert isinstance(lifter, DepthLifter) and lifter_skeleton(lifter) is COMMON14
    lifter.joint_names = ("pelvis", "left_knee", "right_knee")
    assert lifter_skeleton(lifter).joints == lifter.joint_names


def test_gradients_and_threads_are_left_as_they_were() -> None:
    before = torch.get_num_threads()
    labels(H36M17, H36M17.joints)
    assert torch.get_num_threads() == before and torch.is_grad_enabled()
