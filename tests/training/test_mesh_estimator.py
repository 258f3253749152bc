"""Named joints, the loss against labels, and what is kept of a training of mesh estimators."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posekit.artifacts.provenance import Header
from posekit.body.model import BodyModel
from posekit.body.smpl_file import load_body
from posekit.errors import FormatError, InputError
from posekit.models.backbone import Backbone
from posekit.models.mesh_estimator import MeshEstimate, MeshEstimator, MeshEstimatorForm
from posekit.skeleton.catalog import H36M17, H36M32, MPII16
from posekit.skeleton.mapping import joint_map
from posekit.synthetic.h36m_joints import Human36MJoints
from posekit.training.mesh_estimator import (
    STAGE,
    JointsLoss,
    MeshFacts,
    NamedJoints,
    load_mesh_estimator,
)
from posekit.training.mesh_samples import MeshBatch
from posekit.training.runs import KIND, RunFolder

BODY = load_body()
MODEL = BodyModel(BODY)
FORM = MeshEstimatorForm(features=512, joints=BODY.joint_count)


def alone(value: torch.Tensor) -> torch.Tensor:
    return value


def estimate(count: int = 3) -> MeshEstimate:
    random = torch.Generator().manual_seed(1)
    features = torch.randn(count, 512, generator=random)
    with torch.no_grad():
        return MeshEstimator(FORM, seed=3).eval()(features)


def labelled(found: MeshEstimate, loss: JointsLoss) -> MeshBatch:
    """What the bodies of `found` would be labelled with."""
    joints = loss.joints(found.posed(MODEL))
    weights = torch.ones(joints.shape[:2])
    blank = torch.zeros(len(joints), 32, 32, dtype=torch.uint8)
    return MeshBatch(
        images=blank[..., None].expand(-1, -1, -1, 3),
        upright=blank[..., None].expand(-1, -1, -1, 3),
        masks=blank,
        masked=torch.zeros(len(joints), dtype=torch.bool),
        keypoints=loss.projected(found, joints),
        keypoint_weights=weights,
        joints=joints + torch.tensor([0.3, -0.2, 4.0]),
        joint_weights=weights,
        samples=torch.arange(len(joints)),
    )


def test_joints_of_human36m_come_from_the_body_s_regressor() -> None:
    posed = estimate().posed(MODEL)
    found = NamedJoints(BODY, [H36M17])
    given = Human36MJoints(BODY)(posed.vertices.double().numpy(), posed.joints.double().numpy())
    expected = joint_map(H36M32, H36M17).points(given)
    order = [found.names.index(name) for name in H36M17.joints]
    np.testing.assert_allclose(found(posed).numpy()[:, order], expected, atol=1e-5)
    assert "left_knee" in NamedJoints(BODY, [MPII16]).names


def test_bodies_that_are_where_the_labels_say_cost_nothing() -> None:
    loss = JointsLoss(MODEL, NamedJoints(BODY, [H36M17]))
    found = estimate()
    batch = labelled(found, loss)
    assert float(loss(found, batch, alone)["joints"]) == pytest.approx(0.0, abs=1e-8)
    off = replace(batch, keypoints=batch.keypoints + 0.1)
    # 60 * 5 * 0.1 squared, over all joints and coordinates.
    assert float(loss(found, off, alone)["joints"]) == pytest.approx(3.0, rel=1e-3)
    unknown = replace(off, keypoint_weights=0 * off.keypoint_weights)
    assert float(loss(found, unknown, alone)["joints"]) == pytest.approx(0.0, abs=1e-8)


def test_weak_cameras_shift_by_crop_units() -> None:
    joints = NamedJoints(BODY, [H36M17])
    found = estimate()
    points = found.posed(MODEL).joints
    weak = JointsLoss(MODEL, joints, weak=True).projected(found, points)
    strong = JointsLoss(MODEL, joints, focal_px=5e6).projected(found, points)
    scale, shift = found.camera[:, None, :1], found.camera[:, None, 1:]
    torch.testing.assert_close(weak, scale * points[..., :2] + shift)
    torch.testing.assert_close(strong, scale * (points[..., :2] + shift), atol=1e-3, rtol=0.0)


def stored(path: Path, facts: dict[str, Any], stage: str = STAGE) -> None:
    run = RunFolder(path, Header(KIND, stage, settings={}, inputs={}, seed=0, facts=facts))
    run.begin()
    modules = {"backbone": Backbone("resnet10", 2), "estimator": MeshEstimator(FORM, seed=2)}
    run.finish(
        {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    )


FACTS = MeshFacts(64, "resnet10", FORM, "perspective", 5000.0, BODY.digest, "spin", "full")


def test_what_was_trained_can_be_loaded(tmp_path: Path) -> None:
    stored(tmp_path, FACTS.plain())
    backbone, estimator, facts = load_mesh_estimator(tmp_path, torch.device("cpu"))
    assert replace(facts, digest="") == FACTS
    assert torch.equal(backbone.conv1.weight, Backbone("resnet10", 2).conv1.weight)
    assert not estimator.training
    with pytest.raises(InputError, match="of another body"):
        replace(facts, body="0" * 64).require_body(BODY, tmp_path)


@pytest.mark.parametrize(
    ("changes", "stage", "message"),
    [
        ({}, "train regressor", "holds no mesh estimator"),
        ({"form": {"features": 512}}, STAGE, "does not describe a mesh estimator"),
        ({"form": FACTS.plain()["form"] | {"joints": -3}}, STAGE, "does not describe a mesh estimator"),
        ({"form": FACTS.plain()["form"] | {"features": 256}}, STAGE, "not those of this mesh estimator"),
    ],
)
def test_other_runs_are_refused(changes: dict[str, Any], stage: str, message: str, tmp_path: Path) -> None:
    stored(tmp_path, FACTS.plain() | changes, stage)
    with pytest.raises(FormatError, match=message):
        load_mesh_estimator(tmp_path, torch.device("cpu"))
