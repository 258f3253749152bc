"""The mesh regressor of HMR and SPIN: a body from image features, corrected in three rounds.

Kanazawa et al. 2018, "End-to-end Recovery of Human Shape and Pose"; Kolotouros et al. 2019, "Learning to Reconstruct 3D
Human Pose and Shape via Model-fitting in the Loop". Names and order of the weights are those of their public PyTorch code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from posekit.body.model import BodyModel, PosedBody
from posekit.errors import InputError
from posekit.geometry.cameras import CropPerspective, WeakPerspective
from posekit.geometry.conventions import CAMERA_FROM_UPRIGHT_BODY
from posekit.geometry.rotations import (
    axis_angle_from_matrix,
    matrix_from_6d,
    matrix_from_axis_angle,
    six_d_from_matrix,
)
from posekit.models.body_regressor import SMALLEST_SCALE, held
from posekit.models.drawing import materialize

PoseForm = Literal["6d", "aa"]
HiddenActivation = Literal["none", "relu"]

NUMBERS_PER_ROTATION: dict[PoseForm, int] = {"6d": 6, "aa": 3}

_CAMERA_NUMBERS = 3
_DROPOUT = 0.5
_OUTPUT_GAIN = 0.01
_START_SCALE = 0.9


@dataclass(frozen=True, eq=False)
class MeanParameters:
    """The body that the regressor starts from: local rotations (the root's leads into the camera's frame), shape
    coefficients, and the camera's scale, tx, ty."""

    rotations: Float[Tensor, "K 3 3"]
    betas: Float[Tensor, " S"]
    camera: Float[Tensor, "3"]


def resting_means(joint_count: int, shape_count: int) -> MeanParameters:
    """A mean body in its rest pose that faces the camera, for where no means of a data set are at hand."""
    rotations = torch.eye(3).repeat(joint_count, 1, 1)
    rotations[0] = torch.from_numpy(CAMERA_FROM_UPRIGHT_BODY)
    return MeanParameters(rotations, torch.zeros(shape_count), torch.tensor([_START_SCALE, 0.0, 0.0]))


@dataclass(frozen=True)
class MeshEstimatorForm:
    """The layers of a mesh estimator; the defaults are those of SPIN on a ResNet-50 with SMPL.

    Cha et al. 2021 print 72 pose outputs beside an input of 2205 numbers, which is the 6D form; HMR has axis-angle
    outputs (``aa``) and ReLU in the hidden layers.
    """

    features: int = 2048
    joints: int = 24
    shapes: int = 10
    pose_form: PoseForm = "6d"
    hidden_act: HiddenActivation = "none"
    hidden: int = 1024

    @property
    def pose_numbers(self) -> int:
        """How many numbers the pose has."""
        return self.joints * NUMBERS_PER_ROTATION[self.pose_form]


class MeshEstimate(NamedTuple):
    """Bodies as the regressor gives them; the root's rotation leads into the camera's frame.

    `camera` is scale, tx, ty as they were regressed; `perspective` and `weak` are the two readings of them.
    """

    rotations: Float[Tensor, "B K 3 3"]
    betas: Float[Tensor, "B S"]
    camera: Float[Tensor, "B 3"]

    def perspective(self, side: int = 224, focal_px: float = 5000.0) -> CropPerspective:
        """The reading of HMR, SPIN and Cha et al. 2021: the shift is in metres and scaled with the body.

        The scale is held above 0.05; there its gradient passes only if it leads back, so that no body is lost behind
        the camera.
        """
        return CropPerspective(self._scale(), self.camera[:, 1:], focal_px, side)

    def weak(self) -> WeakPerspective:
        """The reading of Yoshiyasu and Gamez 2019: the shift is in normalised crop units, added after scaling."""
        return WeakPerspective(self._scale(), self.camera[:, 1:])

    def _scale(self) -> Float[Tensor, " B"]:
        return held(self.camera[:, 0], SMALLEST_SCALE, float("inf"))

    def posed(self, body: BodyModel) -> PosedBody:
        """Vertices and joints in axes parallel to the camera's (y down), the body's origin at zero, in metres."""
        return body(self.betas, self.rotations)

    def axis_angles(self) -> Float[Tensor, "B K 3"]:
        """Local rotations as axis-angle vectors of angles up to pi."""
        return axis_angle_from_matrix(self.rotations)

    def vector(self) -> Float[Tensor, "B N"]:
        """Camera, shape and axis-angle pose as one vector: 3 + 10 + 72 = 85 numbers for SMPL."""
        return torch.cat([self.camera, self.betas, self.axis_angles().flatten(1)], dim=1)


class MeshEstimator(nn.Module):
    """Pose, shape and camera from features, by iterative error feedback from the mean parameters.

    The means are buffers, not trained. Weights are drawn from `seed` alone: those of the output layers small, the
    others as PyTorch does. Raises InputError for means of another body.
    """

    def __init__(self, form: MeshEstimatorForm, means: MeanParameters | None = None, seed: int = 0) -> None:
        super().__init__()
        self.form = form
        pose, hidden = form.pose_numbers, form.hidden
        with torch.device("meta"):
            # Nothing is drawn here, so the global random numbers stay as they are.
            self.fc1 = nn.Linear(form.features + pose + form.shapes + _CAMERA_NUMBERS, hidden)
            self.fc2 = nn.Linear(hidden, hidden)
            self.decpose = nn.Linear(hidden, pose)
            self.decshape = nn.Linear(hidden, form.shapes)
            self.deccam = nn.Linear(hidden, _CAMERA_NUMBERS)
        self.act = nn.ReLU() if form.hidden_act == "relu" else nn.Identity()
        self.drop = nn.Dropout(_DROPOUT)
        generator = materialize(self, seed)
        for layer in (self.decpose, self.decshape, self.deccam):
            if not layer.weight.is_meta:
                nn.init.xavier_uniform_(layer.weight, gain=_OUTPUT_GAIN, generator=generator)
        for name, size in (("init_pose", pose), ("init_shape", form.shapes), ("init_cam", _CAMERA_NUMBERS)):
            self.register_buffer(name, torch.zeros(1, size))
        self.set_means(means or resting_means(form.joints, form.shapes))

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor

    def set_means(self, means: MeanParameters) -> None:
        """Starts from these parameters from now on; InputError where they are of a body with other joints or shapes."""
        got = (len(means.rotations), len(means.betas))
        if got != (self.form.joints, self.form.shapes):
            raise InputError(
                "these mean parameters are of another body",
                got=f"{got[0]} joints and {got[1]} shape coefficients",
                accepted=f"{self.form.joints} joints and {self.form.shapes} shape coefficients",
                hint="Give means that belong to the body, or none to start from its rest pose",
            )
        convert = six_d_from_matrix if self.form.pose_form == "6d" else axis_angle_from_matrix
        self.init_pose.copy_(convert(means.rotations).reshape(1, -1))
        self.init_shape.copy_(means.betas[None])
        self.init_cam.copy_(means.camera[None])

    def forward(self, features: Float[Tensor, "B C"], iterations: int = 3) -> MeshEstimate:
        """The bodies after so many corrections; in at least single precision, also under autocast."""
        count = len(features)
        pose, betas, camera = (start.expand(count, -1) for start in (self.init_pose, self.init_shape, self.init_cam))
        for _ in range(iterations):
            state = torch.cat([features.to(pose.dtype), pose, betas, camera], dim=1)
            hidden = self.drop(self.act(self.fc1(state)))
            hidden = self.drop(self.act(self.fc2(hidden)))
            pose = pose + self.decpose(hidden).to(pose.dtype)
            betas = betas + self.decshape(hidden).to(betas.dtype)
            camera = camera + self.deccam(hidden).to(camera.dtype)
        return MeshEstimate(self._matrices(pose), betas, camera)

    def _matrices(self, pose: Float[Tensor, "B P"]) -> Float[Tensor, "B K 3 3"]:
        numbers = pose.reshape(len(pose), self.form.joints, -1)
        return matrix_from_6d(numbers) if self.form.pose_form == "6d" else matrix_from_axis_angle(numbers)
