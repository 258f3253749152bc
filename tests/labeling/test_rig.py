"""A rig from the people it sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from posekit.errors import DataError
from posekit.geometry.relative_pose import RelativePoseSettings
from posekit.geometry.rotations import geodesic_angle, matrix_from_axis_angle
from posekit.geometry.transforms import fit_similarity
from posekit.geometry.triangulation import triangulate
from posekit.labeling.rig import RigSettings, estimate_pairs, estimate_rig, pool_points


def triangulated(recording, cameras):
    return triangulate(cameras, recording.keypoints.transpose(1, 2), recording.confidence.transpose(1, 2))


def pa_mpjpe(found, truth):
    """Mean over frames of the joint error after a similarity per frame, with dropped joints left out."""
    weights = found.ok.double()
    fit = fit_similarity(found.points, truth, weights)
    distance = torch.linalg.vector_norm(fit.apply(torch.nan_to_num(found.points)) - truth, dim=-1)
    return float((distance * weights).sum() / weights.sum())


def forget_poses(cameras):
    """Nonsense in place of the poses, so that using them would be seen."""
    turn = matrix_from_axis_angle(torch.tensor([[0.3, 1.0, 2.0]] * len(cameras), dtype=torch.float64))
    return replace(cameras, rotation=turn, translation=torch.full_like(cameras.translation, 7.0))


def test_noise_free_rig_is_exact(clean):
    rig = estimate_rig(forget_poses(clean.cameras), clean.keypoints, clean.confidence, clean.names)
    found = triangulated(clean, rig.cameras)
    assert found.ok.all()
    fit = fit_similarity(found.points.reshape(-1, 3), clean.joints.reshape(-1, 3))
    assert (
        torch.linalg.vector_norm(fit.apply(found.points.reshape(-1, 3)) - clean.joints.reshape(-1, 3), dim=-1).max()
        < 1e-4
    )
    turned = geodesic_angle(rig.cameras.rotation @ fit.rotation.T, clean.cameras.rotation)
    assert torch.rad2deg(turned).max() < 0.01
    assert torch.linalg.vector_norm(fit.apply(rig.cameras.centers()) - clean.cameras.centers(), dim=-1).max() < 1e-3


def test_known_cameras_at_two_pixels_of_noise(noisy):
    found = triangulated(noisy, noisy.cameras)
    relative = found.points - found.points[:, :1] - (noisy.joints - noisy.joints[:, :1])
    error = torch.linalg.vector_norm(relative, dim=-1)
    assert found.ok.double().mean() > 0.995
    assert float(error[~error.isnan()].mean()) < 0.020


@pytest.mark.parametrize("solver", ["f8", "e5"])
def test_intrinsics_alone_come_close_to_known_cameras(noisy, solver):
    settings = RigSettings(pose=RelativePoseSettings(solver=solver))
    rig = estimate_rig(forget_poses(noisy.cameras), noisy.keypoints, noisy.confidence, noisy.names, settings)
    found = triangulated(noisy, rig.cameras)
    assert found.ok.double().mean() > 0.99
    error = pa_mpjpe(found, noisy.joints)
    assert error < 0.015
    assert error < 1.3 * pa_mpjpe(triangulated(noisy, noisy.cameras), noisy.joints)
    assert rig.rms_px < 3.0
    assert torch.allclose(rig.cameras.rotation[0], torch.eye(3, dtype=torch.float64))


def test_two_cameras_are_enough(noisy):
    both = [0, 1]
    rig = estimate_rig(noisy.cameras[both], noisy.keypoints[:, both], noisy.confidence[:, both], noisy.names[:2])
    assert len(rig.pairs) == 1 and not rig.pairs[0].weakness


def test_result_depends_on_the_seed_alone(noisy):
    first, second = (
        estimate_rig(noisy.cameras, noisy.keypoints[:60], noisy.confidence[:60], noisy.names) for _ in range(2)
    )
    assert torch.equal(first.cameras.translation, second.cameras.translation)


def test_a_camera_that_saw_nothing_is_named(noisy):
    confidence = noisy.confidence.clone()
    confidence[:, 2] = 0.0
    with pytest.raises(DataError, match=r"joins 58860488"):
        estimate_rig(noisy.cameras, noisy.keypoints, confidence, noisy.names)


def test_a_person_who_stands_still_in_one_frame_is_refused(noisy):
    with pytest.raises(DataError, match=r"no reliable geometry.*number of inliers"):
        estimate_rig(noisy.cameras, noisy.keypoints[:1], noisy.confidence[:1], noisy.names)


def test_unsynchronised_views_are_refused(noisy):
    shuffled = noisy.keypoints.clone()
    shuffled[:, 1:] = noisy.keypoints[torch.randperm(200, generator=torch.Generator().manual_seed(0)), 1:]
    with pytest.raises(DataError, match=r"no reliable geometry joins .*54138969"):
        estimate_rig(noisy.cameras, shuffled, noisy.confidence, noisy.names)


def test_only_the_pairs_asked_for_are_tried(noisy):
    settings = RigSettings(pairs=((0, 1), (1, 3)), frames=50)
    pooled = pool_points(noisy.cameras, noisy.keypoints, noisy.confidence, settings)
    assert len(pooled.pixels) == 50 * 17
    pairs = estimate_pairs(noisy.cameras, pooled, settings, noisy.names)
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1), (1, 3)]


def test_pooling_leaves_out_unsure_and_missing_points(noisy):
    confidence, keypoints = noisy.confidence.clone(), noisy.keypoints.clone()
    confidence[:, 0, 3] = 0.2
    keypoints[:, 1, 4] = torch.nan
    pooled = pool_points(noisy.cameras, keypoints, confidence, RigSettings())
    seen = pooled.weights.reshape(200, 17, 4) > 0
    assert not seen[:, 3, 0].any() and not seen[:, 4, 1].any()
    assert seen.sum() == 200 * (17 * 4 - 2)
