"""Trains a mesh estimator from 2D key points and 3D joints, as SPIN begins (Kolotouros et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from posekit.body.landmarks import landmarks, regressor
from posekit.body.model import BodyModel, PosedBody
from posekit.body.smpl_file import BodyData
from posekit.errors import FormatError, InputError
from posekit.models.backbone import Backbone, BackboneName, normalised
from posekit.models.mesh_estimator import MeshEstimate, MeshEstimator, MeshEstimatorForm
from posekit.skeleton.catalog import H36M17
from posekit.skeleton.skeleton import Skeleton
from posekit.training.image_ssl_losses import JointWeights, joint_loss, joints_loss, keypoint_loss
from posekit.training.mesh_samples import MeshBatch
from posekit.training.method import Method, Worker
from posekit.training.runs import LoadedRun, load_run

BACKBONE, ESTIMATOR = "backbone", "estimator"
STAGE = "train mesh-estimator"
STAGE_SSL = "train image-ssl"

MeshCamera = Literal["perspective", "weak"]

_HIPS = ("left_hip", "right_hip")


class NamedJoints(nn.Module):
    """Joints of posed bodies by name, as fixed blends of vertices and rig joints.

    Those of Human3.6M's 17 come from the body's regressor where `skeletons` include it: their places are those of that data
    set's markers. Joints that the body cannot give are left out of `names`.
    """

    def __init__(self, body: BodyData, skeletons: Sequence[Skeleton]) -> None:
        super().__init__()
        points = landmarks(body, tuple(dict.fromkeys(name for skeleton in skeletons for name in skeleton.joints)))
        from_joints = points.joint_weights.double().numpy().copy()
        from_vertices = points.whole_vertex_weights(body.vertex_count)
        if H36M17 in skeletons and body.h36m_regressor is not None:
            rows = regressor(body, H36M17)
            for row, name in enumerate(points.names):
                if name in H36M17:
                    from_vertices[row], from_joints[row] = rows[H36M17.index(name)], 0.0
        used = np.flatnonzero(from_vertices.any(axis=0))
        self.names = points.names
        self.register_buffer("_used", torch.from_numpy(used), persistent=False)
        self.register_buffer("_from_joints", torch.from_numpy(from_joints).float(), persistent=False)
        self.register_buffer("_from_vertices", torch.from_numpy(from_vertices[:, used]).float(), persistent=False)

    _used: Tensor
    _from_joints: Tensor
    _from_vertices: Tensor

    def forward(self, posed: PosedBody) -> Float[Tensor, "B J 3"]:
        """The joints, in the axes and units of the bodies."""
        vertices, joints = posed
        return self._from_joints.to(joints) @ joints + self._from_vertices.to(vertices) @ vertices[:, self._used]


@dataclass(frozen=True, eq=False)
class JointsLoss:
    """2D key points and 3D joints of estimated bodies against labels, those of the samples that have some.

    `focal_px` is the focal length of the crops' perspective (px of a crop of 224); `weak` cameras have none.
    """

    body: BodyModel
    joints: NamedJoints
    focal_px: float = 5000.0
    weak: bool = False
    weights: JointWeights = field(default_factory=JointWeights)

    def __call__(self, estimate: MeshEstimate, batch: MeshBatch, mean: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """The weighted loss as `joints`; `mean` is the mean of a number over all processes."""
        found = self.joints(estimate.posed(self.body))
        keypoints = keypoint_loss(self.projected(estimate, found), batch.keypoints.to(found), batch.keypoint_weights)
        hips = (self.joints.names.index(_HIPS[0]), self.joints.names.index(_HIPS[1]))
        usable = (batch.joint_weights[:, hips[0]] > 0) & (batch.joint_weights[:, hips[1]] > 0)
        count = mean(usable.sum().to(found.dtype))
        spatial = joint_loss(found, batch.joints.to(found), batch.joint_weights, hips, count)
        return {"joints": joints_loss(keypoints, spatial, self.weights)}

    def projected(self, estimate: MeshEstimate, points: Float[Tensor, "B J 3"]) -> Float[Tensor, "B J 2"]:
        """Points of the bodies in normalised crop units."""
        camera = estimate.weak() if self.weak else estimate.perspective(focal_px=self.focal_px)
        return camera.project(points)


class MeshEstimatorMethod(Method[MeshBatch]):
    """Trunk and estimator learn from labels."""

    def __init__(self, backbone: Backbone, estimator: MeshEstimator, loss: JointsLoss, lr: float) -> None:
        self.backbone, self.estimator, self._loss = backbone, estimator, loss
        self._optimizers: dict[str, Optimizer] = {
            BACKBONE: Adam(backbone.parameters(), lr=lr),
            ESTIMATOR: Adam(estimator.parameters(), lr=lr),
        }

    def modules(self) -> dict[str, nn.Module]:
        """Trunk and estimator."""
        return {BACKBONE: self.backbone, ESTIMATOR: self.estimator}

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam goes number by number, so that each may have one."""
        return dict(self._optimizers)

    def constants(self) -> dict[str, nn.Module]:
        """The body and its joints."""
        return {"body": self._loss.body, "named_joints": self._loss.joints}

    def step(self, batch: MeshBatch, worker: Worker) -> dict[str, Tensor]:
        """One step; also logs the mean scale of the cameras."""
        estimate = worker.module(ESTIMATOR)(worker.module(BACKBONE)(normalised(batch.images)))
        losses = self._loss(estimate, batch, worker.mean)
        worker.backward(losses["joints"])
        worker.step(BACKBONE)
        worker.step(ESTIMATOR)
        return {"total": losses["joints"].detach(), "camera_scale": estimate.camera[:, 0].mean().detach()}


@dataclass(frozen=True)
class MeshFacts:
    """What one must know to use a trained mesh estimator.

    `init` says what it began from, which every result of image-ssl names.
    """

    input_size: int
    backbone: BackboneName
    form: MeshEstimatorForm
    camera: MeshCamera
    focal_px: float
    body: str
    init: str
    supervision: str
    digest: str = ""

    def plain(self) -> dict[str, Any]:
        """For the description of a run."""
        return {name: value for name, value in asdict(self).items() if name != "digest"}

    @staticmethod
    def of(run: LoadedRun) -> MeshFacts:
        """The facts of a run; FormatError for the run of something else."""
        names = [one.name for one in fields(MeshFacts) if one.name != "digest"]
        if run.stage not in (STAGE, STAGE_SSL) or not all(name in run.facts for name in names):
            raise FormatError(
                f"{run.path} holds no mesh estimator", got=f"a run of {run.stage}", accepted=[STAGE, STAGE_SSL]
            )
        plain = {name: run.facts[name] for name in names}
        return MeshFacts(**plain | {"form": _form(plain["form"], run.path)}, digest=run.digest)

    def require_body(self, body: BodyData, source: Path) -> None:
        """Raises InputError for another body than the one that the network gives the parameters of."""
        if body.digest != self.body:
            raise InputError(
                f"the mesh estimator in {source} is of another body",
                got=f"digest {body.digest[:12]}",
                accepted=self.body[:12],
                hint="Give the body that it was trained with: --body FILE",
            )


def _form(plain: object, path: Path) -> MeshEstimatorForm:
    names = [one.name for one in fields(MeshEstimatorForm)]
    if not isinstance(plain, dict) or set(plain) != set(names):
        raise FormatError(f"{path} does not describe a mesh estimator", got=plain, accepted=sorted(names))
    counts = [name for name in names if name not in ("pose_form", "hidden_act")]
    fine = all(isinstance(plain[name], int) and plain[name] > 0 for name in counts)
    if not fine or plain["pose_form"] not in ("6d", "aa") or plain["hidden_act"] not in ("none", "relu"):
        raise FormatError(f"{path} does not describe a mesh estimator", got=plain)
    return MeshEstimatorForm(**plain)


def load_mesh_estimator(run_folder: Path, device: torch.device) -> tuple[Backbone, MeshEstimator, MeshFacts]:
    """A trained network, ready to predict.

    Raises MissingFileError where there is none, FormatError or ArtifactError for a folder of something else.
    """
    run = load_run(run_folder)
    facts = MeshFacts.of(run)
    backbone, estimator = Backbone(facts.backbone), MeshEstimator(facts.form)
    take_over(backbone, estimator, run)
    return backbone.to(device).eval(), estimator.to(device).eval(), facts


def take_over(backbone: Backbone, estimator: MeshEstimator, run: LoadedRun) -> None:
    """The weights and means of a trained network; FormatError where they do not fit."""
    for module, name in ((backbone, BACKBONE), (estimator, ESTIMATOR)):
        try:
            module.load_state_dict(dict(run.module(name)))
        except RuntimeError as error:
            raise FormatError(
                f"the weights in {run.path} are not those of this mesh estimator", got=str(error).splitlines()[-1]
            ) from error
