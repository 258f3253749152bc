"""Refinement of predicted bodies."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.registration.initial import resting
from posekit.registration.landmarks import LandmarkBlends, landmark_blends
from posekit.registration.matched import MatchedBody
from posekit.registration.parameters import BodyParameters
from posekit.registration.refinement import DIVERGED, REFINED, TOO_FEW, WORSE, Judged, Refiner
from posekit.registration.solver import SolverSettings
from posekit.registration.targets import PX_PER_UNIT, WEAK_PROJECTION, Targets
from posekit.registration.verdicts import VerdictRules
from posekit.skeleton.catalog import H36M17

COUNT, POINTS = 40, 30
SETTINGS = SolverSettings(iterations=40, stiff="none")


@pytest.fixture(scope="module")
def body() -> SegmentScaledBody:
    return SegmentScaledBody(load_body())


@pytest.fixture(scope="module")
def landmarks(body: SegmentScaledBody) -> LandmarkBlends:
    return landmark_blends(body, H36M17)


@pytest.fixture(scope="module")
def truth(body: SegmentScaledBody) -> BodyParameters:
    generator = torch.Generator().manual_seed(0)
    pose = 0.2 * torch.randn(COUNT, body.joint_count, 3, generator=generator)
    pose[:, 0] = 0.0
    return replace(resting(body, COUNT), pose=pose, scale=torch.full((COUNT,), 0.9))


@pytest.fixture(scope="module")
def targets(body: SegmentScaledBody, landmarks: LandmarkBlends, truth: BodyParameters) -> Targets:
    generator = torch.Generator().manual_seed(1)
    vertices = torch.randint(0, len(body.template), (COUNT, POINTS), generator=generator)
    posed = MatchedBody(body, landmarks, vertices, truth.betas).pose(truth)
    joints = len(landmarks.names)
    return Targets(
        projections=torch.tensor(WEAK_PROJECTION).repeat(COUNT, 1, 1, 1),
        keypoints=truth.placed(posed.landmarks)[:, None, :, :2],
        keypoint_weights=torch.ones(COUNT, 1, joints),
        joints=torch.zeros(COUNT, joints, 3),
        joint_weights=torch.zeros(COUNT, joints, 3),
        points=truth.placed(posed.points)[:, None, :, :2],
        point_weights=torch.ones(COUNT, 1, POINTS),
        vertices=vertices[:, None],
        linked=torch.zeros(COUNT, dtype=torch.bool),
        weak=True,
    ).cleaned()


def refiner(body: SegmentScaledBody, landmarks: LandmarkBlends, settings: SolverSettings = SETTINGS) -> Refiner:
    return Refiner(body, landmarks, settings, VerdictRules(), min_score=0.5)


def test_the_truth_has_no_residual_and_a_shift_has_its_length(
    body: SegmentScaledBody, landmarks: LandmarkBlends, truth: BodyParameters, targets: Targets
) -> None:
    judge = refiner(body, landmarks).judge
    assert float(judge(targets, truth).residual_px.max()) < 1e-2
    moved = replace(truth, translation=truth.translation + torch.tensor([0.1, 0.0, 0.0]))
    found = judge(targets, moved)
    torch.testing.assert_close(found.residual_px, torch.full((COUNT,), 0.1 * PX_PER_UNIT), rtol=1e-3, atol=0)
    torch.testing.assert_close(found.dense_px, found.residual_px, rtol=1e-3, atol=0)


def test_residuals_without_labels_are_nan(
    body: SegmentScaledBody, landmarks: LandmarkBlends, truth: BodyParameters, targets: Targets
) -> None:
    points, keypoints = targets.point_weights.clone(), targets.keypoint_weights.clone()
    points[:2], keypoints[1:3] = 0.0, 0.0
    found = refiner(body, landmarks).judge(replace(targets, point_weights=points, keypoint_weights=keypoints), truth)
    assert found.residual_px.isnan().tolist()[:4] == [False, True, False, False]
    assert found.dense_px.isnan().tolist()[:4] == [True, True, False, False]


def test_each_outcome(body: SegmentScaledBody, landmarks: LandmarkBlends, targets: Targets) -> None:
    points, weights = targets.points.clone(), targets.point_weights.clone()
    keypoint_weights = targets.keypoint_weights.clone()
    points[0, ..., 0] += 0.5  # correspondences that contradict the key points
    weights[1], keypoint_weights[1] = 0.4, 0.0  # weak correspondences and nothing else
    labels = replace(targets, points=points, point_weights=weights, keypoint_weights=keypoint_weights)
    settings = replace(SETTINGS, weights=replace(SETTINGS.weights, keypoints=0.0))
    found = refiner(body, landmarks, settings)
    start = resting(body, COUNT)
    start.pose[2] = torch.nan
    before = found.judge(labels, start)
    after, outcomes = found.refine(labels, before)
    assert outcomes[:3] == [WORSE, TOO_FEW, DIVERGED]
    # What is wrong with one body does not reach its neighbours.
    assert outcomes[3:] == [REFINED] * (COUNT - 3)
    kept = torch.tensor([outcome != REFINED for outcome in outcomes])
    torch.testing.assert_close(
        after.parameters.flat()[kept], before.parameters.flat()[kept], rtol=0, atol=0, equal_nan=True
    )
    assert (after.dense_px < before.dense_px)[~kept].all()
    keypoints = 1
    assert (after.losses[~kept, keypoints] <= before.losses[~kept, keypoints]).all()


def test_more_than_one_piece_gives_what_single_bodies_give(
    body: SegmentScaledBody, landmarks: LandmarkBlends, truth: BodyParameters, targets: Targets
) -> None:
    found = refiner(body, landmarks, replace(SETTINGS, iterations=5))
    before = found.judge(targets, resting(body, COUNT))
    whole, _ = found.refine(targets, before)
    for row in (0, COUNT - 1):
        rows = torch.tensor([row])
        alone = Judged(
            before.parameters.select(rows), before.losses[rows], before.residual_px[rows], before.dense_px[rows]
        )
        refined, _ = found.refine(targets.select(rows), alone)
        torch.testing.assert_close(refined.parameters.flat(), whole.parameters.flat()[rows], atol=1e-4, rtol=1e-4)
