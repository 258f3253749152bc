"""The flat parameter vectors of the segment-scaled body: one for registration, one for regression.

Both hold, in this order: joint rotations relative to the parent, segment scales, a 3x3 matrix whose Gram-Schmidt
orthogonalisation is the global rotation (row-major), an image translation, and an image scale. With 24 joints the
registration vector (rotations as axis-angle) has 108 numbers and the regression vector (rotations as quaternions, w
first) has 132. Translation is in normalised crop units, the image scale in crop units per metre.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from posekit.geometry.rotations import (
    axis_angle_from_matrix,
    canonical_quaternion,
    matrix_from_axis_angle,
    matrix_from_quaternion,
    quaternion_from_axis_angle,
)


@dataclass(frozen=True)
class ParameterLayout:
    """Where each part lies in a flat vector; `per_rotation` is 3 for axis-angle and 4 for quaternions."""

    joint_count: int
    per_rotation: int

    @property
    def rotations(self) -> slice:
        """Joint rotations."""
        return slice(0, self.per_rotation * self.joint_count)

    @property
    def segment_scales(self) -> slice:
        """Segment scales, 1 for the template."""
        return slice(self.rotations.stop, self.rotations.stop + self.joint_count)

    @property
    def global_matrix(self) -> slice:
        """Nine numbers, row-major, before orthogonalisation."""
        return slice(self.segment_scales.stop, self.segment_scales.stop + 9)

    @property
    def translation(self) -> slice:
        """Image translation."""
        return slice(self.global_matrix.stop, self.global_matrix.stop + 2)

    @property
    def image_scale(self) -> slice:
        """Image scale."""
        return slice(self.translation.stop, self.translation.stop + 1)

    @cached_property
    def size(self) -> int:
        """Length of the vector."""
        return self.image_scale.stop


def registration_layout(joint_count: int) -> ParameterLayout:
    """The layout with axis-angle rotations: 108 numbers for 24 joints."""
    return ParameterLayout(joint_count, 3)


def regression_layout(joint_count: int) -> ParameterLayout:
    """The layout with quaternions: 132 numbers for 24 joints."""
    return ParameterLayout(joint_count, 4)


@dataclass(frozen=True)
class SegmentScaledParameters:
    """The parts of a flat parameter vector; `rotations` are axis-angle (R = 3) or quaternions, w first (R = 4)."""

    rotations: Float[Tensor, "B K R"]
    segment_scales: Float[Tensor, "B K"]
    global_matrix: Float[Tensor, "B 3 3"]
    translation: Float[Tensor, "B 2"]
    image_scale: Float[Tensor, " B"]

    def pack(self) -> Float[Tensor, "B N"]:
        """The flat vectors."""
        parts = (self.rotations.flatten(1), self.segment_scales, self.global_matrix.flatten(1), self.translation)
        return torch.cat([*parts, self.image_scale[:, None]], dim=1)

    def rotation_matrices(self) -> Float[Tensor, "B K 3 3"]:
        """Local rotations as matrices; quaternions need not have unit length."""
        if self.rotations.shape[-1] == 3:
            return matrix_from_axis_angle(self.rotations)
        return matrix_from_quaternion(self.rotations)


def unpack(vectors: Float[Tensor, "B N"], layout: ParameterLayout) -> SegmentScaledParameters:
    """The named parts, as views into the vectors; ValueError for vectors of another length."""
    if vectors.shape[1] != layout.size:
        raise ValueError(f"parameter vectors have {vectors.shape[1]} numbers, the layout has {layout.size}")
    return SegmentScaledParameters(
        rotations=vectors[:, layout.rotations].reshape(-1, layout.joint_count, layout.per_rotation),
        segment_scales=vectors[:, layout.segment_scales],
        global_matrix=vectors[:, layout.global_matrix].reshape(-1, 3, 3),
        translation=vectors[:, layout.translation],
        image_scale=vectors[:, layout.image_scale][:, 0],
    )


def regression_from_registration(vectors: Float[Tensor, "B N"], joint_count: int) -> Float[Tensor, "B M"]:
    """Axis-angle vectors as quaternion vectors with w >= 0; the other parts are kept."""
    parts = unpack(vectors, registration_layout(joint_count))
    quaternions = canonical_quaternion(quaternion_from_axis_angle(parts.rotations))
    return replace(parts, rotations=quaternions).pack()


def registration_from_regression(vectors: Float[Tensor, "B M"], joint_count: int) -> Float[Tensor, "B N"]:
    """Quaternion vectors as axis-angle vectors with angles up to pi; the other parts are kept."""
    parts = unpack(vectors, regression_layout(joint_count))
    return replace(parts, rotations=axis_angle_from_matrix(parts.rotation_matrices())).pack()


def with_mean_scale_one(parts: SegmentScaledParameters) -> SegmentScaledParameters:
    """The same picture with segment scales of mean 1.

    The image scale takes over the factor: scaling all segments scales the body about its root, which is the origin.
    """
    mean = parts.segment_scales.mean(dim=1)
    return replace(parts, segment_scales=parts.segment_scales / mean[:, None], image_scale=parts.image_scale * mean)
