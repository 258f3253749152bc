"""Left and right of a body."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from posekit.body.mirror import BodyMirror, mirror_of, mirrored_axis_angles
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import BodyData, load_body
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.skeleton.skeleton import mirrored

ACROSS = torch.tensor([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def body() -> BodyData:
    return load_body(None)


def unlabelled(body: BodyData, noise: float) -> BodyData:
    """The body as a file of the SMPL family would hold it: no mirror map, no perfectly symmetric template."""
    moved = body.v_template + np.random.default_rng(0).normal(0.0, noise, body.v_template.shape)
    return replace(body, mirror=None, v_template=moved)


def assert_involution(mirror: BodyMirror) -> None:
    for places in (mirror.joints, mirror.vertices):
        np.testing.assert_array_equal(places[places], np.arange(len(places)))


def test_joints_change_places_by_name(body: BodyData) -> None:
    mirror = mirror_of(body)
    assert_involution(mirror)
    assert [body.joint_names[j] for j in mirror.joints] == [mirrored(name) for name in body.joint_names]


def test_the_map_of_the_body_itself_is_taken(body: BodyData) -> None:
    np.testing.assert_array_equal(mirror_of(body).vertices, body.mirror)


def test_without_a_map_vertices_are_paired_by_place(body: BodyData) -> None:
    found = mirror_of(unlabelled(body, 0.0))
    assert_involution(found)
    assert (found.vertices == body.mirror).mean() > 0.999


def test_an_uneven_template_is_paired_within_its_unevenness(body: BodyData) -> None:
    uneven = unlabelled(body, 5e-4)
    found = mirror_of(uneven)
    assert_involution(found)
    apart = np.linalg.norm(uneven.v_template[found.vertices] - uneven.v_template * ACROSS.numpy(), axis=1)
    assert (found.vertices == body.mirror).mean() > 0.99
    assert apart.max() < 0.012
    belongs = uneven.weights.argmax(axis=1)
    moved = found.vertices != np.arange(len(belongs))
    np.testing.assert_array_equal(belongs[found.vertices][moved], found.joints[belongs][moved])


def test_joints_without_names_pair_by_place(body: BodyData) -> None:
    # Fingers of SMPL-H and SMPL-X, whose joints have no names here.
    wrists = [body.joint_index("left_wrist"), body.joint_index("right_wrist")]
    rows = np.zeros((4, body.vertex_count), np.float32)
    for row, joint in enumerate([*wrists, *wrists]):
        near = np.argsort(np.linalg.norm(body.v_template - body.rest_joints[joint], axis=1))[row // 2 * 30]
        rows[row, near if row % 2 == 0 else body.mirror[near]] = 1.0
    rows[1, :], rows[3, :] = rows[0][body.mirror], rows[2][body.mirror]
    base = body.joint_index("left_hand")
    larger = replace(
        body,
        joint_regressor=np.concatenate([body.joint_regressor[:base], rows]),
        weights=np.concatenate([body.weights[:, :base], np.zeros((body.vertex_count, 4), np.float32)], axis=1),
        parents=(*body.parents[:base], wrists[0], wrists[1], base, base + 1),
    )
    np.testing.assert_array_equal(mirror_of(larger).joints[base:], [base + 1, base, base + 3, base + 2])


def test_a_mirrored_pose_gives_the_mirrored_mesh(body: BodyData) -> None:
    mirror = mirror_of(body)
    joints, vertices = torch.from_numpy(mirror.joints), torch.from_numpy(mirror.vertices)
    model = SegmentScaledBody(body, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    pose = 0.5 * torch.randn(3, model.joint_count, 3, generator=generator, dtype=torch.float64)
    scales = 1.0 + 0.2 * torch.rand(3, model.joint_count, generator=generator, dtype=torch.float64)
    posed = model.posed_vertices(matrix_from_axis_angle(pose), scales)
    other = model.posed_vertices(matrix_from_axis_angle(mirrored_axis_angles(pose, joints)), scales[:, joints])
    asymmetry = (model.template[vertices] - model.template * ACROSS).norm(dim=-1).max()
    assert asymmetry < 1e-3
    distance = (other.points[:, vertices] - posed.points * ACROSS).norm(dim=-1)
    assert distance.max() < max(1e-6, 20 * float(asymmetry))
    torch.testing.assert_close(other.joints[:, joints], posed.joints * ACROSS, rtol=0.0, atol=1e-3)


def test_twice_mirrored_is_unchanged(body: BodyData) -> None:
    joints = torch.from_numpy(mirror_of(body).joints)
    pose = torch.randn(4, 24, 3, generator=torch.Generator().manual_seed(1))
    once = mirrored_axis_angles(pose, joints)
    assert not torch.equal(once, pose)
    assert torch.equal(mirrored_axis_angles(once, joints), pose)
