"""Which bodies have labels enough."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from posekit.body.smpl_file import BodyData
from posekit.registration.fitting import vertex_parts
from posekit.registration.targets import WEAK_PROJECTION, Targets
from posekit.registration.verdicts import VerdictRules, enough_labels

PARTS = torch.tensor([0, 1, 1, 2, 3, 4, 5])
NO_JOINTS = VerdictRules(min_joints=99, min_points=6)


def points_at(*vertices: int) -> Targets:
    """One body with points at vertices and the key points of all its joints."""
    count = len(vertices)
    return Targets(
        projections=torch.tensor(WEAK_PROJECTION).expand(1, 1, 3, 4),
        keypoints=torch.zeros(1, 1, 14, 2),
        keypoint_weights=torch.ones(1, 1, 14),
        joints=torch.zeros(1, 14, 3),
        joint_weights=torch.zeros(1, 14, 3),
        points=torch.zeros(1, 1, count, 2),
        point_weights=torch.ones(1, 1, count),
        vertices=torch.tensor([[vertices]]),
        linked=torch.zeros(1, dtype=torch.bool),
        weak=True,
    )


@pytest.mark.parametrize(
    ("vertices", "enough"),
    [
        ((1, 2, 3, 4, 5, 6), True),
        ((1, 2, 3, 4, 5), False),  # too few
        ((1, 2, 3, 4, 5, 5), False),  # on four parts
        ((0, 1, 3, 4, 5, 5), False),  # vertex 0 is on none
    ],
)
def test_points_must_lie_on_enough_parts(vertices: tuple[int, ...], enough: bool) -> None:
    assert enough_labels(points_at(*vertices), NO_JOINTS, PARTS).tolist() == [enough]


def test_points_without_weight_are_not_counted() -> None:
    targets = points_at(1, 2, 3, 4, 5, 6)
    without = replace(targets, point_weights=torch.tensor([[[1.0, 1, 1, 1, 1, 0]]]))
    rules = replace(NO_JOINTS, min_points=5)
    assert enough_labels(targets, rules, PARTS).all() and not enough_labels(without, rules, PARTS).any()


def test_a_body_without_atlas_is_judged_by_number() -> None:
    assert enough_labels(points_at(1, 1, 1, 1, 1, 1), NO_JOINTS).all()


def test_joints_are_enough_unless_certain_ones_are_needed() -> None:
    targets, few = points_at(1, 2, 3, 4, 5, 6), points_at(1)
    lost = targets.keypoint_weights.clone()
    lost[..., 3] = 0.0
    rules = VerdictRules(min_joints=8, min_points=6)
    needing = replace(rules, needed=(3, 5))
    assert enough_labels(few, rules, PARTS).all() and not enough_labels(few, needing, PARTS).any()
    assert enough_labels(targets, needing, PARTS).all()
    assert not enough_labels(replace(targets, keypoint_weights=lost), needing, PARTS).any()


def test_the_free_body_has_24_parts_and_bodies_without_atlas_have_none(body_data: BodyData) -> None:
    parts = vertex_parts(body_data)
    assert parts is not None and sorted(set(parts.tolist()) - {0}) == list(range(1, 25))
    assert len(parts) == body_data.vertex_count
    assert vertex_parts(replace(body_data, face_part=None)) is None
