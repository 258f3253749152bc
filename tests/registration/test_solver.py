"""The solver: accuracy against exact truth, invariances, and what it does with poor labels."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from posekit.body.landmarks import regressor
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.geometry.transforms import fit_similarity
from posekit.registration.initial import resting, start_from_labels
from posekit.registration.landmarks import LandmarkBlends, landmark_blends
from posekit.registration.losses import Weights, hinges_of
from posekit.registration.parameters import BodyParameters
from posekit.registration.solver import Solution, Solver, SolverSettings
from posekit.registration.targets import WEAK_PROJECTION, Targets
from posekit.registration.verdicts import OK, RESIDUAL, TOO_FEW, VerdictRules, verdicts
from posekit.skeleton.catalog import H36M17

NEAR = SolverSettings(
    weights=Weights(shape=1e-3, size=0.1), iterations=120, stiff="none", robust_px=20.0, fit_betas=True
)


@pytest.fixture(scope="module")
def landmarks(body: SegmentScaledBody) -> LandmarkBlends:
    return landmark_blends(body, H36M17)


@pytest.fixture(scope="module")
def solver(body: SegmentScaledBody, landmarks: LandmarkBlends) -> Solver:
    return Solver(body, landmarks, hinges_of(body))


def started(solver: Solver, targets: Targets) -> BodyParameters:
    return start_from_labels(solver.body, solver.landmarks, solver.hinges, targets)


def mesh_of(solver: Solver, fitted: BodyParameters) -> tuple[Tensor, Tensor]:
    """Vertices and the 17 joints of Human3.6M, placed."""
    posed = solver.body.posed_vertices(matrix_from_axis_angle(fitted.pose), fitted.segment_scales, fitted.betas)
    vertices = fitted.placed(posed.points)
    return vertices, torch.from_numpy(regressor(solver.body.body, H36M17)).float() @ vertices


def distances(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).norm(dim=-1).mean(1)


def views(targets: Targets, count: int) -> Targets:
    per_view = ("projections", "keypoints", "keypoint_weights", "points", "point_weights", "vertices")
    return replace(targets, **{name: getattr(targets, name)[:, :count] for name in per_view})


def orthographic(scene: Any, *, noise: float, seed: int = 0) -> tuple[Targets, Tensor]:
    """The first view's labels under exact weak perspective with exact depths, and the joints in the camera's axes."""
    noise_source = torch.Generator().manual_seed(seed)
    camera = scene.cameras[0]
    vertices, joints = (camera.camera_from_world(points) for points in (scene.vertices, scene.joints))
    root = joints[:, :1]
    vertices, joints = vertices - root, joints - root
    low, high = vertices[..., :2].amin(1, keepdim=True), vertices[..., :2].amax(1, keepdim=True)
    scale = 1.0 / (0.6 * (high - low).amax(-1, keepdim=True))
    ids = scene.targets.vertices[:, :1]
    points = torch.gather(vertices, 1, ids[:, 0, :, None].expand(-1, -1, 3))

    def seen(values: Tensor) -> Tensor:
        flat = scale * (values[..., :2] - (low + high) / 2)
        return (flat + noise * torch.randn(flat.shape, generator=noise_source))[:, None]

    depth = torch.nn.functional.pad(scale * joints[..., 2:], (2, 0))
    count = len(joints)
    targets = Targets(
        projections=torch.tensor(WEAK_PROJECTION).expand(count, 1, 3, 4),
        keypoints=seen(joints),
        keypoint_weights=torch.ones(count, 1, 17),
        joints=depth,
        joint_weights=torch.tensor([0.0, 0.0, 1.0]).expand(count, 17, 3),
        points=seen(points),
        point_weights=torch.ones(ids.shape),
        vertices=ids,
        linked=torch.zeros(count, dtype=torch.bool),
        weak=True,
    )
    return targets.cleaned(), joints


def test_four_views_with_correspondences(scene_maker: Any, solver: Solver) -> None:
    scene = scene_maker(8, points=30, seed=1)
    targets = scene.targets.cleaned()
    solution = solver.fit(targets, started(solver, targets), NEAR)
    vertices, joints = mesh_of(solver, solution.parameters)
    roots = joints[:, :1] - scene.joints[:, :1]
    assert distances(joints - roots, scene.joints).mean() < 0.010
    aligned = fit_similarity(vertices, scene.vertices).apply(vertices)
    assert distances(aligned, scene.vertices).mean() < 0.013
    assert verdicts(solution, targets, VerdictRules()) == [OK] * 8
    assert solution.residual_px.mean() < 1.5


def test_key_points_alone_in_four_views(scene_maker: Any, solver: Solver) -> None:
    scene = scene_maker(8, points=1, seed=2)
    targets = replace(
        scene.targets,
        point_weights=torch.zeros_like(scene.targets.point_weights),
        joint_weights=torch.zeros_like(scene.targets.joint_weights),
    ).cleaned()
    solution = solver.fit(targets, started(solver, targets), NEAR)
    _, joints = mesh_of(solver, solution.parameters)
    assert distances(joints, scene.joints).mean() < 0.015


def test_single_view_with_exact_depths(scene_maker: Any, solver: Solver) -> None:
    scene = scene_maker(8, points=120, seed=3)
    targets, truth = orthographic(scene, noise=0.01)
    settings = SolverSettings(stiff="anneal")
    solution = solver.fit(targets, started(solver, targets), settings)
    _, joints = mesh_of(solver, solution.parameters)
    joints = joints - joints[:, :1]
    scale = (joints * truth).sum((1, 2)) / joints.square().sum((1, 2))
    assert distances(scale[:, None, None] * joints, truth).mean() < 0.020
    assert (solution.parameters.translation[:, 2] == 0).all()


def test_a_few_wrong_labels_are_let_go(scene_maker: Any, solver: Solver) -> None:
    scene = scene_maker(4, points=10, seed=4)
    random = torch.Generator().manual_seed(0)
    wrong = torch.rand(scene.targets.keypoint_weights.shape, generator=random) < 0.1
    shifted = scene.targets.keypoints + wrong[..., None] * 0.6
    targets = replace(scene.targets, keypoints=shifted).cleaned()
    errors = []
    for settings in (NEAR, replace(NEAR, robust_px=None)):
        solution = solver.fit(targets, started(solver, targets), settings)
        errors.append(float(distances(mesh_of(solver, solution.parameters)[1], scene.joints).mean()))
    assert errors[0] < 0.012 < errors[1]


def test_bodies_do_not_depend_on_their_company(scene_maker: Any, solver: Solver) -> None:
    targets = scene_maker(4, points=20, seed=5).targets.cleaned()
    settings = replace(NEAR, iterations=20)
    together = solver.fit(targets, started(solver, targets), settings).parameters.flat()
    row = torch.tensor([2])
    alone = targets.select(row)
    apart = solver.fit(alone, started(solver, alone), settings).parameters.flat()
    torch.testing.assert_close(apart, together[row], atol=2e-3, rtol=0)


def test_labels_without_weight_have_no_effect_even_when_nan(scene_maker: Any, solver: Solver) -> None:
    scene = scene_maker(3, points=20, seed=6)
    settings = replace(NEAR, iterations=10)
    damaged, silenced = [], []
    for value in (torch.nan, 0.0):
        keypoints, joints, points = (getattr(scene.targets, name).clone() for name in ("keypoints", "joints", "points"))
        keypoints[0, 1, 3], joints[1, 4], points[2, 0, 7] = value, value, value
        weights = [scene.targets.keypoint_weights.clone(), scene.targets.joint_weights.clone()]
        point_weights = scene.targets.point_weights.clone()
        if value == 0.0:
            weights[0][0, 1, 3], weights[1][1, 4], point_weights[2, 0, 7] = 0.0, 0.0, 0.0
        targets = replace(
            scene.targets,
            keypoints=keypoints,
            joints=joints,
            points=points,
            keypoint_weights=weights[0],
            joint_weights=weights[1],
            point_weights=point_weights,
        ).cleaned()
        (damaged if value != 0.0 else silenced).append(solver.fit(targets, started(solver, targets), settings))
    assert torch.equal(damaged[0].parameters.flat(), silenced[0].parameters.flat())
    assert damaged[0].parameters.flat().isfinite().all()


def test_a_body_without_labels_stays_at_rest_and_is_flagged(scene_maker: Any, solver: Solver) -> None:
    scene = scene_maker(2, points=20, seed=7)
    nothing = {
        part.name: torch.full_like(getattr(scene.targets, part.name), torch.nan)
        for part in fields(Targets)
        if part.name in ("keypoints", "points", "joints", "projections")
    }
    targets = replace(scene.targets, **nothing).cleaned()
    solution = solver.fit(targets, started(solver, targets), replace(NEAR, iterations=5))
    assert solution.parameters.flat().isfinite().all()
    assert verdicts(solution, targets, VerdictRules()) == [TOO_FEW] * 2


def test_a_bad_fit_is_flagged(scene_maker: Any, solver: Solver) -> None:
    targets = scene_maker(2, points=20, seed=8).targets.cleaned()
    start = started(solver, targets)
    off = replace(start, translation=start.translation + 1.0)
    assert verdicts(solver.evaluate(targets, off, NEAR), targets, VerdictRules()) == [RESIDUAL] * 2


def test_warm_starts_and_held_parts(scene_maker: Any, solver: Solver) -> None:
    targets = scene_maker(3, points=30, seed=9).targets.cleaned()
    first = solver.fit(targets, started(solver, targets), NEAR)
    warm = replace(NEAR, iterations=30, lr=0.01, held=("segment_scales", "scale"), fit_betas=False)
    second = solver.fit(targets, first.parameters, warm)
    assert (second.total < 1.1 * first.total).all()
    for name in ("segment_scales", "scale", "betas"):
        assert torch.equal(getattr(second.parameters, name), getattr(first.parameters, name))
    assert not torch.equal(second.parameters.pose, first.parameters.pose)
    assert (second.parameters.pose[:, 0] == 0).all()


def test_a_shared_shape_is_one_shape(scene_maker: Any, solver: Solver) -> None:
    targets = scene_maker(4, points=20, seed=10).targets.cleaned()
    start = started(solver, targets)
    start = replace(start, scale=torch.ones_like(start.scale))
    people = torch.tensor([0, 0, 1, 1])
    fitted = solver.fit(targets, start, replace(NEAR, iterations=20), shared_shape=people).parameters
    for name in ("segment_scales", "betas", "scale"):
        part = getattr(fitted, name)
        assert torch.equal(part[0], part[1]) and torch.equal(part[2], part[3]) and not torch.equal(part[0], part[2])
    assert not torch.equal(fitted.pose[0], fitted.pose[1])


def test_the_stages_of_stiffness_and_robustness() -> None:
    settings = SolverSettings(stiff="anneal", robust_px=11.2)
    assert settings.weights_at(0.0).scale == 100.0 and settings.weights_at(0.5) == settings.weights
    assert replace(settings, stiff="constant").weights_at(0.99).pose == 1.0
    assert replace(settings, stiff="none").weights_at(0.0) == settings.weights
    assert settings.robust_at(0.0) == pytest.approx(1.0) and settings.robust_at(0.7) == pytest.approx(0.1)
    assert settings.lr_at(0.3) == 0.1 and settings.lr_at(1.0) == pytest.approx(0.0)
    assert replace(settings, decay="none").lr_at(1.0) == 0.1


def test_the_temporal_term_steadies(scene_maker: Any, solver: Solver) -> None:
    scene = scene_maker(1, points=10, seed=11, noise_px=0.0)
    rows = torch.zeros(6, dtype=torch.long)
    still = scene.targets.select(rows)
    random = torch.Generator().manual_seed(0)
    noisy = still.keypoints + 0.03 * torch.randn(still.keypoints.shape, generator=random)
    linked = torch.tensor([False, True, True, True, True, True])
    targets = replace(
        still,
        keypoints=noisy,
        linked=linked,
        joint_weights=torch.zeros_like(still.joint_weights),
        point_weights=torch.zeros_like(still.point_weights),
    ).cleaned()
    start = started(solver, targets)

    def unrest(weight: float) -> float:
        settings = replace(NEAR, iterations=100, weights=replace(NEAR.weights, temporal=weight))
        joints = mesh_of(solver, solver.fit(targets, start, settings).parameters)[1]
        return float((joints[1:] - joints[:-1]).norm(dim=-1).mean())

    assert unrest(3.0) < 0.75 * unrest(0.0)


def test_fewer_views_still_work(scene_maker: Any, solver: Solver) -> None:
    scene = scene_maker(4, points=60, seed=12)
    targets = views(scene.targets, 1).cleaned()
    solution: Solution = solver.fit(targets, started(solver, targets), NEAR)
    assert distances(mesh_of(solver, solution.parameters)[1], scene.joints).mean() < 0.02


def test_no_start_is_a_rest_pose_in_front_of_the_camera(scene_maker: Any, solver: Solver) -> None:
    scene = scene_maker(3, points=60, seed=13)
    targets = replace(views(scene.targets, 1), joint_weights=torch.zeros_like(scene.targets.joint_weights)).cleaned()
    start = started(solver, targets)
    assert torch.equal(start.pose, resting(solver.body, 3).pose)
    depth = scene.cameras[0].camera_from_world(start.translation[:, None])[..., 2]
    assert ((depth > 2.0) & (depth < 8.0)).all()
    facing = scene.cameras[0].rotation @ start.rotation
    torch.testing.assert_close(facing, torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(3, 3, 3), atol=1e-4, rtol=0)
