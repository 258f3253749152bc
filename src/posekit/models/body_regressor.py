"""A network that regresses the parameters of the segment-scaled body from an image (Yoshiyasu and Gamez 2019, section 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from posekit.body.parameters import ParameterLayout, unpack
from posekit.geometry.rotations import (
    axis_angle_from_quaternion,
    matrix_from_9d,
    matrix_from_axis_angle,
    matrix_from_quaternion,
)
from posekit.models.backbone import Backbone
from posekit.registration.parameters import LARGEST_SEGMENT, SMALLEST_SEGMENT, BodyParameters

RotationForm = Literal["quaternion", "axis-angle"]

SMALLEST_SCALE = 0.05
"""The least image scale, crop units per metre."""

_START_SCALE = 0.9
_HEAD_GAIN = 0.01


def layout_of(joint_count: int, rotations: RotationForm) -> ParameterLayout:
    """Where each part lies in what the network gives: 132 numbers for 24 joints with quaternions, 108 with axis-angle."""
    return ParameterLayout(joint_count, 4 if rotations == "quaternion" else 3)


class BodyRegressor(nn.Module):
    """A trunk and one linear layer; untrained, it gives a T-pose that faces the camera, whatever the image.

    The head is not described in the paper; small weights on a bias of sensible numbers start the training softly.
    """

    def __init__(self, backbone: Backbone, joint_count: int, rotations: RotationForm, seed: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        self.joint_count = joint_count
        self.rotations = rotations
        layout = layout_of(joint_count, rotations)
        with torch.device("meta"):
            # Nothing is drawn here, so the global random numbers stay as they are.
            self.head = nn.Linear(backbone.feature_count, layout.size)
        self.head.to_empty(device="cpu")
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            nn.init.xavier_uniform_(self.head.weight, gain=_HEAD_GAIN, generator=generator)
            self.head.bias.copy_(_resting_numbers(layout))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N"]:
        """Raw numbers; `regressed_bodies` makes bodies of them."""
        return self.head(self.backbone(images))


def _resting_numbers(layout: ParameterLayout) -> Float[Tensor, " N"]:
    numbers = torch.zeros(layout.size)
    if layout.per_rotation == 4:
        numbers[layout.rotations][0::4] = 1.0
    numbers[layout.segment_scales] = 1.0
    # A half turn about x: the body's y is up and it faces +z, the camera's y is down and it looks along +z.
    numbers[layout.global_matrix] = torch.tensor([1.0, -1.0, -1.0]).diag().flatten()
    numbers[layout.image_scale] = _START_SCALE
    return numbers


@dataclass(frozen=True, eq=False)
class RegressedBodies:
    """Bodies in normalised crop units (weak perspective), as the network means them.

    `rotations` are unit quaternions (R = 4, w first) or axis-angle vectors (R = 3) relative to the parent, the root's at
    rest. `nine` are the numbers that `orientation` was made a rotation from.
    """

    rotations: Float[Tensor, "B K R"]
    segment_scales: Float[Tensor, "B K"]
    nine: Float[Tensor, "B 3 3"]
    orientation: Float[Tensor, "B 3 3"]
    translation: Float[Tensor, "B 2"]
    scale: Float[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.scale)

    def matrices(self) -> Float[Tensor, "B K 3 3"]:
        """Local rotations."""
        if self.rotations.shape[-1] == 3:
            return matrix_from_axis_angle(self.rotations)
        return matrix_from_quaternion(self.rotations)

    def axis_angles(self) -> Float[Tensor, "B K 3"]:
        """Local rotations as axis-angle vectors; those of quaternions have angles up to pi."""
        return self.rotations if self.rotations.shape[-1] == 3 else axis_angle_from_quaternion(self.rotations)

    def parameters(self, betas_count: int) -> BodyParameters:
        """The same bodies as registration has them, with a mean segment scale of 1 and shape coefficients of zero."""
        return BodyParameters(
            pose=self.axis_angles(),
            segment_scales=self.segment_scales,
            betas=self.scale.new_zeros(len(self), betas_count),
            orientation=self.orientation,
            translation=nn.functional.pad(self.translation, (0, 1)),
            scale=self.scale,
        ).with_mean_scale_one()


def regressed_bodies(raw: Float[Tensor, "B N"], joint_count: int, rotations: RotationForm) -> RegressedBodies:
    """Bodies of the network's numbers, in at least single precision.

    Quaternions are normalised, the nine numbers orthonormalised, segment scales held in [0.5, 2] and the image scale
    above 0.05. Where a scale is held, its gradient passes only if it leads back inside, so that no output can die.
    """
    numbers = raw if raw.dtype == torch.float64 else raw.float()
    parts = unpack(numbers, layout_of(joint_count, rotations))
    local = parts.rotations
    rest = local.new_zeros(len(local), 1, local.shape[-1])
    if rotations == "quaternion":
        local = nn.functional.normalize(local, dim=-1)
        rest[..., 0] = 1.0
    return RegressedBodies(
        rotations=torch.cat([rest, local[:, 1:]], dim=1),
        segment_scales=held(parts.segment_scales, SMALLEST_SEGMENT, LARGEST_SEGMENT),
        nine=parts.global_matrix,
        orientation=matrix_from_9d(parts.global_matrix),
        translation=parts.translation,
        scale=held(parts.image_scale, SMALLEST_SCALE, float("inf")),
    )


class _Held(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(values)
        ctx.bounds = (low, high)
        return values.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (values,) = ctx.saved_tensors
        low, high = ctx.bounds
        (gradient,) = gradients
        # A descent step goes against the gradient.
        outwards = ((values < low) & (gradient > 0)) | ((values > high) & (gradient < 0))
        return gradient.masked_fill(outwards, 0.0), None, None


def held(values: Float[Tensor, "*batch"], low: float, high: float) -> Float[Tensor, "*batch"]:
    """Values clamped to [low, high]; outside it a gradient passes only where a step against it leads back inside."""
    clamped: Tensor = _Held.apply(values, low, high)
    return clamped
