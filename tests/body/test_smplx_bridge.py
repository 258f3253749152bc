"""The body as a layer of smplx, and parity with it."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from posekit.body.landmarks import landmarks
from posekit.body.model import BodyModel
from posekit.body.smpl_file import load_body
from posekit.body.smplx_bridge import to_smplx
from posekit.errors import DependencyError, InputError
from posekit.skeleton.catalog import SMPL24


def test_both_layers_pose_the_same_body() -> None:
    random = torch.Generator().manual_seed(4)
    betas, translation = torch.randn(19, 10, generator=random), torch.randn(19, 3, generator=random)
    pose = 0.6 * torch.randn(19, 24, 3, generator=random)
    theirs = to_smplx(load_body(), batch_size=19)(
        betas=betas, global_orient=pose[:, 0], body_pose=pose[:, 1:].flatten(1), transl=translation
    )
    ours = BodyModel(load_body())(betas, pose, translation)
    assert (ours.vertices - theirs.vertices).norm(dim=-1).max() < 1e-5
    assert (ours.joints - theirs.joints[:, :24]).norm(dim=-1).max() < 1e-5
    face = landmarks(load_body(), ("nose", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe"))
    points = face.points(ours.vertices[:, face.vertex_ids], ours.joints)
    assert (points - theirs.joints[:, 24:30]).norm(dim=-1).max() < 1e-5


def test_a_body_with_other_joints_is_refused() -> None:
    body = load_body()
    fewer = replace(
        body, parents=body.parents[:23], weights=body.weights[:, :23], joint_regressor=body.joint_regressor[:23]
    )
    with pytest.raises(InputError, match="23 joints"):
        to_smplx(fewer)


def test_without_smplx_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smplx", None)
    with pytest.raises(DependencyError, match="pip install smplx"):
        to_smplx(load_body())


def test_faces_and_rest_joints_are_kept() -> None:
    layer = to_smplx(load_body())
    np.testing.assert_array_equal(layer.faces, load_body().faces)
    posed = layer()
    np.testing.assert_allclose(posed.joints[0, : len(SMPL24)].detach().numpy(), load_body().rest_joints, atol=1e-6)
