"""Sizes and plausibility of people."""

from __future__ import annotations

import numpy as np
import pytest

from posekit.errors import DataError
from posekit.labeling.anthropometry import limb_pairs, metric_scale, plausible_frames, root_joints
from posekit.skeleton.catalog import BODY25, BODY25B, CATALOG, COCO17, H36M17, MPII16


@pytest.fixture
def joints(clean):
    return clean.joints.numpy()


@pytest.mark.parametrize("factor", [0.2, 1.0, 1000.0])
def test_scale_undoes_any_scaling(joints, factor):
    assert np.isclose(metric_scale(joints * factor, H36M17), 1 / factor)


def test_scale_ignores_missing_joints_and_wild_frames(joints):
    spoiled = joints.copy()
    spoiled[:10, H36M17.index("left_knee")] = np.nan
    spoiled[10:20] *= 50
    assert np.isclose(metric_scale(spoiled, H36M17), 1.0)


def test_scale_is_proportional_to_the_stature(joints):
    assert np.isclose(metric_scale(joints, H36M17, stature=1.9) / metric_scale(joints, H36M17, stature=1.6), 1.9 / 1.6)
    assert np.isclose(metric_scale(joints, H36M17, stature=1.735), 1.0, atol=0.01)


def test_scale_needs_a_limb():
    with pytest.raises(DataError, match="no limb was seen whole"):
        metric_scale(np.full((5, 17, 3), np.nan), H36M17)


def test_every_skeleton_has_a_root_and_limbs():
    for skeleton in CATALOG.values():
        assert 1 <= len(root_joints(skeleton)) <= 2
        assert len(limb_pairs(skeleton)) >= 4
    assert root_joints(MPII16) == (6,)
    assert root_joints(BODY25) == (8,)
    assert root_joints(COCO17) == root_joints(BODY25B) == (11, 12)


def test_frames_of_a_person_are_plausible_and_spoiled_ones_are_not(joints):
    spoiled, expected = joints.copy(), np.ones(joints.shape[:2], dtype=bool)
    spoiled[0, H36M17.index("pelvis")] = np.nan
    spoiled[1, [3, 6, 10, 13]] = np.nan
    spoiled[2, [3, 6, 10, 13, 16]] = np.nan
    knee, ankle = H36M17.indices("left_knee", "left_ankle")
    spoiled[3, ankle] = spoiled[3, knee] + 2 * (spoiled[3, ankle] - spoiled[3, knee])
    plausible = plausible_frames(spoiled, expected, H36M17)
    assert plausible.tolist() == [False, True, False, False] + [True] * (len(joints) - 4)
    expected[2, [3, 6, 10, 13, 16]] = False
    assert plausible_frames(spoiled, expected, H36M17)[2]
