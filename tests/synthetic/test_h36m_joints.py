from __future__ import annotations

from dataclasses import replace

import numpy as np

from posekit.body.landmarks import regressor
from posekit.body.smpl_file import load_body
from posekit.skeleton.catalog import H36M17, H36M32
from posekit.synthetic.bodies import TakeRequest, perform, posed
from posekit.synthetic.h36m_joints import DUPLICATES, Human36MJoints


def test_the_standard_joints_are_those_of_the_regressor() -> None:
    body = load_body()
    result = posed(body, perform(body, TakeRequest("Posing", "S1", 1, 3, 10.0), seed=0))
    joints = Human36MJoints(body)(result.vertices, result.joints)
    expected = regressor(body, H36M17) @ result.vertices
    np.testing.assert_allclose(joints[:, list(H36M32.indices(*H36M17.joints))], expected, atol=1e-12)


def test_duplicates_coincide_and_the_rest_differ() -> None:
    body = load_body()
    rest = Human36MJoints(body)(body.v_template.astype(float)[None], body.rest_joints[None])[0]
    for joint, original in DUPLICATES.items():
        np.testing.assert_array_equal(rest[H36M32.index(joint)], rest[H36M32.index(original)])
    others = [i for i, joint in enumerate(H36M32.joints) if joint not in DUPLICATES]
    gaps = np.linalg.norm(rest[others][:, None] - rest[others][None], axis=-1)
    assert gaps[~np.eye(len(others), dtype=bool)].min() > 0.02


def test_sides_and_extremities_lie_where_they_should() -> None:
    body = load_body()
    rest = Human36MJoints(body)(body.v_template.astype(float)[None], body.rest_joints[None])[0]
    at = dict(zip(H36M32.joints, rest, strict=True))
    assert all(
        (at[name][0] > 0) == (H36M32.side(name) == "left")
        for name in at
        if name not in DUPLICATES and H36M32.side(name) != "centre"
    )
    assert at["left_toe"][2] > at["left_foot"][2] > at["left_ankle"][2]
    assert at["left_hand"][0] > at["left_wrist"][0] and at["left_thumb"][0] > at["left_wrist"][0]
    assert at["head"][1] == rest[:, 1].max()


def test_bodies_without_a_regressor_use_named_points() -> None:
    body = load_body()
    bare = replace(body, h36m_regressor=None)
    place = (body.v_template.astype(float)[None], body.rest_joints[None])
    difference = np.linalg.norm(Human36MJoints(bare)(*place) - Human36MJoints(body)(*place), axis=-1)
    assert 0.0 < difference.max() < 0.08
