"""Views of lifted poses, and the losses that know bodies without examples in 3D."""

from __future__ import annotations

import math

import pytest
import torch

from posekit.errors import ConfigError
from posekit.skeleton.catalog import COMMON14, MPII16
from posekit.skeleton.skeleton import Skeleton
from posekit.training.pose_geometry import PoseGeometry, Projection, Turntable


def upright(skeleton: Skeleton = MPII16) -> torch.Tensor:
    """A person who stands straight and faces the camera: x right, y down; their left is on the right."""
    half = {
        "pelvis": (0, 0), "thorax": (0, -1), "neck": (0, -1.1), "head_top": (0, -1.4),
        "hip": (0.2, 0), "knee": (0.2, 0.7), "ankle": (0.2, 1.4),
        "shoulder": (0.3, -0.9), "elbow": (0.3, -0.4), "wrist": (0.3, 0.1),
    }  # fmt: skip
    points = []
    for joint in skeleton.joints:
        side, _, part = joint.rpartition("_") if joint.startswith(("left_", "right_")) else ("", "", joint)
        x, y = half[part]
        points.append([-x if side == "right" else x, y, 0.0])
    return torch.tensor(points, dtype=torch.float64)[None]


def moved(points: torch.Tensor, joint: str, by: tuple[float, float, float]) -> torch.Tensor:
    points = points.clone()
    points[:, MPII16.index(joint)] += torch.tensor(by, dtype=points.dtype)
    return points


@pytest.fixture
def geometry() -> PoseGeometry:
    return PoseGeometry(MPII16, upright()[0])


@pytest.fixture
def points() -> torch.Tensor:
    return torch.randn(4, 14, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


ANGLES = torch.tensor([0.3, 1.0, 2.5, 4.0], dtype=torch.float64)


def test_mirrored_depths_seen_from_the_mirrored_angle_look_the_same(points: torch.Tensor) -> None:
    """Why nothing but an orientation loss can tell front from back."""
    turn = Turntable(0.0).double()
    mirrored = points * torch.tensor([1.0, 1.0, -1.0])
    torch.testing.assert_close(
        turn(mirrored, 2 * math.pi - ANGLES)[..., :2], turn(points, ANGLES)[..., :2], rtol=1e-12, atol=1e-12
    )


def test_turning_level_is_the_orthographic_view_of_an_angle(points: torch.Tensor) -> None:
    seen = Turntable(0.0).double()(points, ANGLES)
    x, y, z = points.unbind(-1)
    cos, sin = ANGLES.cos()[:, None], ANGLES.sin()[:, None]
    torch.testing.assert_close(seen[..., :2], torch.stack([x * cos + z * sin, y], dim=-1))


@pytest.mark.parametrize("tilt", [-0.4, 0.0, 0.15])
def test_turning_keeps_shapes_adds_up_and_fixes_the_vertical(points: torch.Tensor, tilt: float) -> None:
    turn = Turntable(tilt).double()
    turned = turn(points, ANGLES)
    torch.testing.assert_close(torch.cdist(turned, turned), torch.cdist(points, points))
    assert torch.linalg.det(turn(torch.eye(3, dtype=torch.float64).expand(4, 3, 3), ANGLES)).gt(0.99).all()
    torch.testing.assert_close(turn(turned, -ANGLES), points)
    # A camera that looks down has the vertical come towards it at the top: (0, -cos, -sin).
    tilt_stored = float(turn.tilt.detach())
    up = torch.tensor([0.0, -math.cos(tilt_stored), -math.sin(tilt_stored)], dtype=torch.float64).expand(4, 1, 3)
    torch.testing.assert_close(turn(up, ANGLES), up)


def test_projection_undoes_lifting(points: torch.Tensor) -> None:
    poses, depths = points[..., :2], points[..., 2]
    for distance in (0.0, 10.0):
        projection = Projection(distance)
        torch.testing.assert_close(projection.project(projection.lift(poses, depths)), poses)
    assert torch.equal(Projection().lift(poses, depths), points)
    near, far = Projection(10.0).lift(torch.ones(1, 2, 2), torch.tensor([[-2.0, 2.0]]))[0, :, 0]
    assert far / near == pytest.approx(1.2 / 0.8)


def test_the_average_skeleton_has_no_loss_at_any_size(geometry: PoseGeometry) -> None:
    lengths = geometry.bone_lengths(3.0 * upright())
    assert geometry.ratio(lengths).item() == pytest.approx(0.0, abs=1e-12)
    assert geometry.symmetry(lengths).item() == pytest.approx(0.0, abs=1e-12)
    assert geometry.named_ratios()["pelvis - thorax"] == 1.0
    assert geometry.named_ratios()["left_hip - left_knee"] == pytest.approx(0.7)


def test_bones_of_other_lengths_cost_their_squares(geometry: PoseGeometry) -> None:
    longer = geometry.bone_lengths(moved(upright(), "left_ankle", (0.0, 0.3, 0.0)))
    assert geometry.ratio(longer).item() == pytest.approx(0.3**2)
    assert geometry.symmetry(longer).item() == pytest.approx(0.3**2)


def test_symmetry_compares_six_pairs_of_limbs_of_fourteen_joints() -> None:
    geometry = PoseGeometry(COMMON14, upright(COMMON14)[0])
    lengths = torch.arange(13.0)[None]
    names = COMMON14.bone_names
    pairs = [(i, names.index(name.replace("left", "right"))) for i, name in enumerate(names) if "left" in name]
    assert len(pairs) == 6
    expected = sum((i - j) ** 2 for i, j in pairs)
    assert geometry.symmetry(lengths).item() == expected


@pytest.mark.parametrize(("depth", "cost"), [(-0.2, 0.0), (0.2, 0.1)])
def test_knees_bend_to_the_front(geometry: PoseGeometry, depth: float, cost: float) -> None:
    """Who faces the camera has knees nearer to it; one knee behind costs half its depth, turned about the reverse."""
    bent = moved(upright(), "left_knee", (0.0, 0.0, depth))
    assert geometry.knees(bent).item() == pytest.approx(cost)
    about = Turntable(0.0).double()(bent, torch.tensor([math.pi], dtype=torch.float64))
    assert geometry.knees(about).item() == pytest.approx(cost)
    mirrored = bent * torch.tensor([1.0, 1.0, -1.0])
    assert geometry.knees(mirrored).item() == pytest.approx(0.1 - cost)


@pytest.mark.parametrize(("depth", "wrong"), [(-0.2, False), (0.2, True)])
def test_the_nose_is_before_the_thorax(geometry: PoseGeometry, depth: float, wrong: bool) -> None:
    leaning = moved(upright(), "neck", (0.0, 0.0, depth))
    assert (geometry.nose(leaning).item() > 0.5) == wrong
    with pytest.raises(ConfigError, match="neck"):
        PoseGeometry(COMMON14, upright(COMMON14)[0]).nose(upright(COMMON14))


def test_twisting_is_free_up_to_the_limit(geometry: PoseGeometry) -> None:
    pose, limit = upright(), math.radians(50.0)
    for degrees, cost in ((40.0, 0.0), (90.0, math.cos(limit)), (180.0, math.cos(limit) + 1.0)):
        twisted = pose.clone()
        upper = [MPII16.index(f"{side}_shoulder") for side in ("left", "right")]
        twisted[:, upper] = Turntable(0.0).double()(
            pose[:, upper], torch.tensor([math.radians(degrees)], dtype=torch.float64)
        )
        assert geometry.twist(twisted, limit).item() == pytest.approx(cost, abs=1e-9)


def test_losses_have_finite_gradients_where_bones_vanish(geometry: PoseGeometry) -> None:
    nothing = torch.zeros(1, 16, 3, dtype=torch.float64, requires_grad=True)
    lengths = geometry.bone_lengths(nothing)
    total = geometry.ratio(lengths) + geometry.symmetry(lengths) + geometry.knees(nothing)
    (total + geometry.nose(nothing) + geometry.twist(nothing, 0.5)).sum().backward()
    assert nothing.grad is not None and nothing.grad.isfinite().all()
