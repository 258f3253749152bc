"""Named points on bodies, and joint regressors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posekit.body.landmarks import landmarks, regressor
from posekit.body.model import BodyModel
from posekit.body.smpl_file import BodyData, load_body
from posekit.errors import FormatError, InputError, MissingFileError
from posekit.skeleton.catalog import BODY25, CATALOG, COCO17, H36M17, J14, LSP14, MPII16, SMPL24
from posekit.skeleton.skeleton import Skeleton


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return BodyModel(load_body(), dtype=torch.float64)


def _random_bodies(model: BodyModel, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    betas = torch.randn(count, 10, generator=random, dtype=torch.float64)
    return betas, 0.4 * torch.randn(count, 24, 3, generator=random, dtype=torch.float64)


def _at_rest(model: BodyModel, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    marks = landmarks(model.body, names)
    vertices = torch.from_numpy(model.body.v_template[marks.vertex_ids]).double()
    points = marks.points(vertices, model.mean_rest_joints).numpy()
    return dict(zip(marks.names, points, strict=True))


@pytest.mark.parametrize("skeleton", CATALOG.values(), ids=lambda s: s.name)
def test_the_free_body_has_every_joint_of_every_skeleton(model: BodyModel, skeleton: Skeleton) -> None:
    marks = landmarks(model.body, skeleton.joints)
    assert marks.names == skeleton.joints
    assert marks.missing == ()
    total = marks.joint_weights.sum(dim=1) + marks.vertex_weights.sum(dim=1)
    torch.testing.assert_close(total, torch.ones(len(skeleton)))
    points = _at_rest(model, skeleton.joints)
    for name, point in points.items():
        if name.startswith("left_"):
            assert point[0] > 0.015, name
            np.testing.assert_allclose(points[name.replace("left", "right")], point * [-1, 1, 1], atol=1e-6)
        elif not name.startswith("right_"):
            assert abs(point[0]) < 1e-3, name


def test_points_are_where_anatomy_has_them(model: BodyModel) -> None:
    points = _at_rest(model, (*BODY25.joints, "head_top", "neck", "thorax", "pelvis", "left_toe", "left_hand_end"))
    height = {name: point[1] for name, point in points.items()}
    order = ["left_heel", "left_ankle", "left_knee", "mid_hip", "pelvis", "mid_shoulder", "thorax", "neck", "nose"]
    assert sorted(order, key=height.__getitem__) == order
    assert height["nose"] < height["left_eye"] < height["head_top"]
    assert points["nose"][2] > points["left_eye"][2] > points["left_ear"][2]
    assert points["left_toe"][2] > points["left_ankle"][2] > points["left_heel"][2]
    assert points["left_big_toe"][0] < points["left_small_toe"][0]
    assert points["left_hand_end"][0] > points["left_wrist"][0] + 0.1
    assert height["head_top"] == model.body.v_template[:, 1].max()


def test_a_skinned_subset_gives_the_points_of_the_whole_body(model: BodyModel) -> None:
    betas, pose = _random_bodies(model)
    marks = landmarks(model.body, COCO17.joints)
    part, whole = model.subset(marks.vertex_ids)(betas, pose), model(betas, pose)
    points = marks.points(part.vertices, part.joints)
    assert points.shape == (3, 17, 3)
    dense = torch.from_numpy(marks.whole_vertex_weights(model.vertex_count))
    expected = dense @ whole.vertices + marks.joint_weights.double() @ whole.joints
    torch.testing.assert_close(points, expected, atol=1e-6, rtol=0)


def test_joints_of_the_rig_are_exact_and_need_no_vertex(model: BodyModel) -> None:
    marks = landmarks(model.body, SMPL24.joints)
    assert marks.vertex_ids.shape == (0,)
    joints = torch.randn(2, 24, 3)
    torch.testing.assert_close(marks.points(torch.zeros(2, 0, 3), joints), joints)


def test_an_unknown_body_reports_what_it_lacks() -> None:
    bare = replace(load_body(), vertex_ids={}, mirror=None)
    assert landmarks(bare, ("nose",)).names == ("nose",)  # 6890 vertices: the numbering of SMPL
    small = _small_body()
    marks = landmarks(small, ("nose", "pelvis", "head_top", "left_hand"))
    assert marks.names == ("head_top",)
    assert marks.missing == ("nose", "pelvis", "left_hand")


def test_hands_of_bodies_with_fingers_are_the_finger_roots() -> None:
    """SMPL-H: 52 joints, joint 22 is the first of the left index finger and no hand."""
    free = load_body()
    parents = (*free.parents[:22], *[20] * 15, *[21] * 15)
    body = replace(
        free,
        parents=parents,
        joint_regressor=np.concatenate([free.joint_regressor[:22], np.tile(free.joint_regressor[:1], (30, 1))]),
        weights=np.pad(free.weights[:, :22], ((0, 0), (0, 30))),
    )
    marks = landmarks(body, ("left_hand", "right_hand", "left_wrist"))
    assert [sorted(np.flatnonzero(row).tolist()) for row in marks.joint_weights.numpy()] == [
        [22, 25, 28, 31],
        [37, 40, 43, 46],
        [20],
    ]


def test_a_name_of_no_skeleton_is_an_error() -> None:
    with pytest.raises(InputError, match="left_tail"):
        landmarks(load_body(), ("left_tail",))


def _small_body() -> BodyData:
    free = load_body()
    return BodyData(
        v_template=free.v_template[:4],
        faces=np.array([[0, 1, 2]]),
        weights=np.ones((4, 1), np.float32),
        joint_regressor=np.full((1, 4), 0.25, np.float32),
        parents=(-1,),
        shapedirs=free.shapedirs[:4],
        posedirs=np.zeros((4, 3, 0), np.float32),
    )


@pytest.mark.parametrize("skeleton", [H36M17, LSP14, J14, MPII16], ids=lambda s: s.name)
def test_regressed_joints_lie_at_the_joints_of_posed_bodies(model: BodyModel, skeleton: Skeleton) -> None:
    rows = regressor(model.body, skeleton)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    betas, pose = _random_bodies(model)
    whole = model(betas, pose)
    regressed = dict(zip(skeleton.joints, (torch.from_numpy(rows) @ whole.vertices).unbind(dim=1), strict=True))
    limbs = [name for name in skeleton.joints if name in SMPL24 and name != "pelvis"]
    assert len(limbs) == 12
    for name in limbs:
        distance = (regressed[name] - whole.joints[:, SMPL24.index(name)]).norm(dim=-1)
        assert distance.max() < 0.035, name


def test_the_first_leg_of_a_foreign_regressor_is_detected(tmp_path: Path) -> None:
    body = load_body()
    right_first = regressor(body, H36M17)
    legs = H36M17.indices("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle")
    left_first = right_first.copy()
    left_first[list(legs)] = right_first[[*legs[3:], *legs[:3]]]
    for rows in (right_first, left_first):
        np.save(tmp_path / "rows.npy", np.asfortranarray(rows))
        np.testing.assert_array_equal(regressor(body, H36M17, tmp_path / "rows.npy"), right_first)


def test_lsp_rows_are_those_of_the_field() -> None:
    rows = regressor(load_body(), H36M17)
    np.testing.assert_array_equal(
        regressor(load_body(), LSP14), rows[[3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10]]
    )


def test_regressors_that_cannot_be_made(tmp_path: Path) -> None:
    body = load_body()
    with pytest.raises(InputError, match="J_regressor_h36m"):
        regressor(replace(body, h36m_regressor=None), H36M17)
    with pytest.raises(InputError, match="coco17"):
        regressor(body, COCO17)
    with pytest.raises(MissingFileError):
        regressor(body, H36M17, tmp_path / "none.npy")
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(FormatError, match="readable"):
        regressor(body, H36M17, tmp_path / "text.npy")
    np.save(tmp_path / "small.npy", np.zeros((17, 5)))
    with pytest.raises(FormatError, match="17, 6890"):
        regressor(body, H36M17, tmp_path / "small.npy")
