from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit.body.model import BodyModel
from posekit.body.smpl_file import load_body
from posekit.skeleton.catalog import SMPL24
from posekit.synthetic.anatomy import LIMITS, mirrored_angles, pose_from_angles, within_limits


def joints(**angles: float) -> dict[str, np.ndarray]:
    """Posed rig joints of the mean body by name."""
    pose = pose_from_angles({name: np.array([value]) for name, value in angles.items()})
    model = BodyModel(load_body(), dtype=torch.float64)
    posed = model.posed_joints(torch.zeros(1, 10, dtype=torch.float64), torch.from_numpy(pose))
    return dict(zip(SMPL24.joints, posed[0].numpy(), strict=True))


@pytest.mark.parametrize(("side", "sign"), [("left", 1.0), ("right", -1.0)])
class TestDirections:
    def test_arms_hang_at_attention(self, side: str, sign: float) -> None:
        at = joints(pelvis_turn=0.0)
        arm = at[f"{side}_wrist"] - at[f"{side}_shoulder"]
        assert arm[1] / np.linalg.norm(arm) < -0.99

    def test_raised_arms_point_forward(self, side: str, sign: float) -> None:
        at = joints(**{f"{side}_shoulder_raise": 90.0})
        arm = at[f"{side}_wrist"] - at[f"{side}_shoulder"]
        assert arm[2] / np.linalg.norm(arm) > 0.98

    def test_spread_arms_point_sideways(self, side: str, sign: float) -> None:
        at = joints(**{f"{side}_shoulder_spread": 90.0})
        arm = at[f"{side}_wrist"] - at[f"{side}_shoulder"]
        assert sign * arm[0] / np.linalg.norm(arm) > 0.98

    def test_elbows_bend_forward_and_twist_inward(self, side: str, sign: float) -> None:
        at = joints(**{f"{side}_elbow": 90.0})
        assert (at[f"{side}_wrist"] - at[f"{side}_elbow"])[2] > 0.2
        twisted = joints(**{f"{side}_elbow": 90.0, f"{side}_shoulder_twist": 90.0})
        assert sign * (twisted[f"{side}_wrist"] - twisted[f"{side}_elbow"])[0] < -0.2

    def test_thighs_rise_forward_and_spread_outward(self, side: str, sign: float) -> None:
        rest = joints(pelvis_turn=0.0)[f"{side}_knee"]
        assert joints(**{f"{side}_hip_raise": 80.0})[f"{side}_knee"][2] > 0.3
        assert sign * (joints(**{f"{side}_hip_spread": 30.0})[f"{side}_knee"] - rest)[0] > 0.1

    def test_knees_bend_backward(self, side: str, sign: float) -> None:
        assert joints(**{f"{side}_knee": 90.0})[f"{side}_ankle"][2] < -0.3

    def test_toes_rise(self, side: str, sign: float) -> None:
        rest = joints(pelvis_turn=0.0)[f"{side}_foot"][1]
        assert joints(**{f"{side}_ankle": 20.0})[f"{side}_foot"][1] > rest + 0.03


def test_trunk_bends_forward_and_turns_left() -> None:
    at = joints(spine_bend=45.0)
    assert at["smpl_head"][2] > 0.2
    turned = joints(spine_turn=40.0)
    assert turned["left_shoulder"][2] < turned["right_shoulder"][2]


def test_mirrored_angles_make_the_mirror_image() -> None:
    rng = np.random.default_rng(0)
    angles = {name: rng.uniform(max(low, -60), min(high, 60)) for name, (low, high) in LIMITS.items()}
    there = joints(**angles)
    flipped = {
        name: float(value[0]) for name, value in mirrored_angles({k: np.array([v]) for k, v in angles.items()}).items()
    }
    back = joints(**flipped)
    for name in SMPL24.joints:
        other = SMPL24.joints[SMPL24.flip_permutation[SMPL24.index(name)]]
        np.testing.assert_allclose(back[other] * [-1, 1, 1], there[name], atol=2e-4)


def test_limits_clip() -> None:
    clipped = within_limits({"left_knee": np.array([-20.0, 60.0, 200.0])})
    np.testing.assert_array_equal(clipped["left_knee"], [0.0, 60.0, 145.0])
