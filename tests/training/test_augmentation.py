"""Changes of crops: labels and bodies go through them together."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from posekit.body.mirror import mirror_of
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import BodyData, load_body
from posekit.errors import ConfigError
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.registration.landmarks import landmark_blends
from posekit.registration.losses import data_losses
from posekit.registration.matched import MatchedBody
from posekit.registration.parameters import BodyParameters
from posekit.registration.targets import WEAK_PROJECTION, Targets
from posekit.skeleton.catalog import COCO17, H36M17
from posekit.skeleton.skeleton import mirrored
from posekit.training.augmentation import Augmentation, CropChange, Sides

BODIES, POINTS = 8, 40


@pytest.fixture(scope="module")
def body() -> BodyData:
    return load_body(None)


@pytest.fixture(scope="module")
def model(body: BodyData) -> SegmentScaledBody:
    return SegmentScaledBody(body, dtype=torch.float64)


def some_bodies() -> BodyParameters:
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    pose = 0.4 * normal(BODIES, 24, 3)
    pose[:, 0] = 0.0
    return BodyParameters(
        pose=pose,
        segment_scales=1.0 + 0.1 * normal(BODIES, 24),
        betas=torch.zeros(BODIES, 10, dtype=torch.float64),
        # Nine numbers that are no rotation yet.
        orientation=1.7 * matrix_from_axis_angle(normal(BODIES, 3)) + 0.1 * normal(BODIES, 3, 3),
        translation=torch.nn.functional.pad(0.2 * normal(BODIES, 2), (0, 1)),
        scale=0.5 + torch.rand(BODIES, generator=random, dtype=torch.float64),
    )


def labels_of(model: SegmentScaledBody, bodies: BodyParameters) -> tuple[Targets, tuple[str, ...]]:
    """Key points, depths and correspondences that the bodies meet exactly."""
    landmarks = landmark_blends(model, H36M17)
    vertices = torch.from_numpy(np.random.default_rng(1).integers(model.vertex_count, size=(BODIES, 1, POINTS)))
    posed = MatchedBody(model, landmarks, vertices[:, 0], bodies.betas).pose(bodies)
    seen, points = bodies.placed(posed.landmarks), bodies.placed(posed.points)
    count = len(landmarks.names)
    depth = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    targets = Targets(
        projections=torch.tensor(WEAK_PROJECTION, dtype=torch.float64).repeat(BODIES, 1, 1, 1),
        keypoints=seen[:, None, :, :2],
        keypoint_weights=torch.rand(BODIES, 1, count, dtype=torch.float64) + 0.1,
        joints=seen * depth,
        joint_weights=(torch.rand(BODIES, count, 1, dtype=torch.float64) + 0.1) * depth,
        points=points[:, None, :, :2],
        point_weights=torch.ones(BODIES, 1, POINTS, dtype=torch.float64),
        vertices=vertices,
        linked=torch.zeros(BODIES, dtype=torch.bool),
        weak=True,
    )
    return targets, landmarks.names


def change(*, flip: bool, turn: float = 0.0, zoom: float = 1.0) -> CropChange:
    """The same change of every crop, though not of the first, which stays as it is."""
    moved = np.arange(BODIES) > 0
    return CropChange(
        flip=moved & flip,
        turn=np.where(moved, turn, 0.0),
        zoom=np.where(moved, zoom, 1.0),
        gain=np.ones((BODIES, 3)),
    )


CHANGES = [
    change(flip=False, turn=0.7),
    change(flip=False, zoom=1.3),
    change(flip=True),
    change(flip=True, turn=-0.9, zoom=0.8),
]


@pytest.mark.parametrize("what", CHANGES)
def test_changed_bodies_meet_the_changed_labels(body: BodyData, model: SegmentScaledBody, what: CropChange) -> None:
    bodies = some_bodies()
    targets, names = labels_of(model, bodies)
    sides = Sides.of(names, mirror_of(body))
    targets, moved = what.targets(targets, sides), what.bodies(bodies, sides)
    posed = MatchedBody(model, landmark_blends(model, H36M17), targets.vertices[:, 0], moved.betas).pose(moved)
    for loss in data_losses(posed, moved, targets, None):
        # Squared crop units; the body's own asymmetry stays below 0.1 mm.
        assert loss.max() < 1e-8
    assert torch.equal(targets.vertices[0], labels_of(model, bodies)[0].vertices[0])


@pytest.mark.parametrize("what", CHANGES)
def test_changed_labels_lie_where_the_picture_shows_them(
    body: BodyData, model: SegmentScaledBody, what: CropChange
) -> None:
    targets, names = labels_of(model, some_bodies())
    changed = what.targets(targets, Sides.of(names, mirror_of(body)))
    for row in range(BODIES):
        cosine, sine = np.cos(what.turn[row]), np.sin(what.turn[row])
        across = -1.0 if what.flip[row] else 1.0
        for old, name in enumerate(names):
            x, y = targets.keypoints[row, 0, old].tolist()
            x *= across
            expected = [what.zoom[row] * (cosine * x - sine * y), what.zoom[row] * (sine * x + cosine * y)]
            new = names.index(mirrored(name)) if what.flip[row] else old
            np.testing.assert_allclose(changed.keypoints[row, 0, new], expected, atol=1e-12)
            assert changed.keypoint_weights[row, 0, new] == targets.keypoint_weights[row, 0, old]
            depth = what.zoom[row] * float(targets.joints[row, old, 2])
            np.testing.assert_allclose(float(changed.joints[row, new, 2]), depth, atol=1e-12)
            assert torch.equal(changed.joint_weights[row, new], targets.joint_weights[row, old])


def test_flipped_twice_is_unchanged(body: BodyData, model: SegmentScaledBody) -> None:
    bodies = some_bodies()
    targets, names = labels_of(model, bodies)
    sides, flip = Sides.of(names, mirror_of(body)), change(flip=True)
    once, back = flip.targets(targets, sides), flip.targets(flip.targets(targets, sides), sides)
    assert not torch.equal(once.keypoints[1:], targets.keypoints[1:])
    assert_same(back, targets)
    assert_same(flip.bodies(flip.bodies(bodies, sides), sides), bodies)


def test_the_change_that_changes_nothing(body: BodyData, model: SegmentScaledBody) -> None:
    bodies = some_bodies()
    targets, names = labels_of(model, bodies)
    sides, nothing = Sides.of(names, mirror_of(body)), change(flip=False)
    assert_same(nothing.targets(targets, sides), targets)
    assert_same(nothing.bodies(bodies, sides), bodies)


def assert_same(first: Targets | BodyParameters, second: Targets | BodyParameters) -> None:
    for part in fields(first):
        one, other = getattr(first, part.name), getattr(second, part.name)
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other, part.name


def test_a_joint_without_a_partner_is_lost_in_the_mirror(body: BodyData, model: SegmentScaledBody) -> None:
    targets, names = labels_of(model, some_bodies())
    alone = tuple("spine1" if name == "right_wrist" else name for name in names)
    changed = change(flip=True).targets(targets, Sides.of(alone, mirror_of(body)))
    wrist = names.index("left_wrist")
    assert (changed.keypoint_weights[1:, 0, wrist] == 0).all() and (changed.joint_weights[1:, wrist] == 0).all()
    assert torch.equal(changed.keypoint_weights[0], targets.keypoint_weights[0])
    others = [row for row in range(len(names)) if row != wrist]
    assert (changed.keypoint_weights[:, 0, others] > 0).all()


def test_padding_stays_vertex_zero_without_weight(body: BodyData, model: SegmentScaledBody) -> None:
    targets, names = labels_of(model, some_bodies())
    padded = replace(targets, point_weights=torch.zeros_like(targets.point_weights))
    padded = padded.cleaned()
    changed = change(flip=True, turn=0.3).targets(padded, Sides.of(names, mirror_of(body)))
    assert not changed.vertices.any() and not changed.points.any() and not changed.point_weights.any()


def test_sides_of_coco(body: BodyData) -> None:
    sides = Sides.of(COCO17.joints, mirror_of(body))
    assert sides.joints.tolist() == list(COCO17.flip_permutation)
    assert not sides.unpaired.any()


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([0, number]) for number in range(count)]


def test_draws_follow_the_settings() -> None:
    drawn = Augmentation().draw(generators(4000))
    assert drawn.flip.mean() == pytest.approx(0.5, abs=0.03)
    assert (drawn.turn != 0).mean() == pytest.approx(0.4, abs=0.03)
    turned = np.degrees(drawn.turn[drawn.turn != 0])
    assert np.abs(turned).max() == pytest.approx(60.0) and (np.abs(turned) < 59.9).mean() == pytest.approx(
        0.954, abs=0.02
    )
    assert np.median(np.abs(turned)) == pytest.approx(0.6745 * 30.0, rel=0.08)
    side = 1.0 / drawn.zoom
    assert side.min() == pytest.approx(0.75) and side.max() == pytest.approx(1.25)
    assert (np.abs(side - 1.0) < 0.2499).mean() == pytest.approx(0.683, abs=0.03)
    assert drawn.gain.min() > 0.6 and drawn.gain.max() < 1.4 and np.ptp(drawn.gain, axis=0).min() > 0.78
    assert np.abs(np.corrcoef(drawn.gain.T) - np.eye(3)).max() < 0.06


@pytest.mark.parametrize(
    ("off", "unchanged", "value"),
    [
        ({"flip": 0.0}, "flip", False),
        ({"gain": 0.0}, "gain", 1.0),
        ({"scale_sd": 0.0}, "zoom", 1.0),
        ({"scale_max": 0.0}, "zoom", 1.0),
        ({"rotation_p": 0.0}, "turn", 0.0),
        ({"rotation_sd": 0.0}, "turn", 0.0),
    ],
)
def test_each_change_can_be_switched_off_by_itself(off: dict[str, float], unchanged: str, value: float) -> None:
    usual, without = Augmentation().draw(generators(50)), Augmentation(**off).draw(generators(50))
    for name in ("flip", "gain", "zoom", "turn"):
        if name == unchanged:
            assert (getattr(without, name) == value).all()
        else:
            np.testing.assert_array_equal(getattr(without, name), getattr(usual, name))


@pytest.mark.parametrize(
    "wrong", [{"flip": 1.5}, {"gain": -0.1}, {"scale_max": 1.0}, {"rotation_p": float("nan")}, {"rotation_max": 200.0}]
)
def test_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Augmentation(**wrong)
