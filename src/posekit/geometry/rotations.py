"""Conversions between representations of rotations; batched, differentiable, on any device.

Quaternions are (w, x, y, z). Matrices act on column vectors. Angles are radians.
"""

from __future__ import annotations

import roma
import torch
from jaxtyping import Float
from torch import Tensor

_NO_SIGN_BELOW = 1e-6
"""A real part smaller than this carries no sign: the vector part then decides."""

_SHORTEST_COLUMN = 1e-12
"""Columns are divided by no less than this when they are made unit vectors."""


def matrix_from_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of quaternions (w, x, y, z) of any length but zero."""
    unit = torch.nn.functional.normalize(quaternion, dim=-1)
    return roma.unitquat_to_rotmat(roma.quat_wxyz_to_xyzw(unit))


def quaternion_from_matrix(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Canonical unit quaternions (w, x, y, z) of rotation matrices (Markley 2008)."""
    return canonical_quaternion(roma.quat_xyzw_to_wxyz(roma.rotmat_to_unitquat(matrix)))


def canonical_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """The one of q and -q that has w >= 0; where w is zero, the one whose first non-zero component is positive."""
    significant = quaternion.abs() >= _NO_SIGN_BELOW
    # argmax of booleans is the first true one; the integer cast makes that hold on CUDA too.
    leading = significant.to(torch.int8).argmax(dim=-1, keepdim=True)
    return torch.where(quaternion.gather(-1, leading) < 0, -quaternion, quaternion)


def quaternion_from_axis_angle(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions (w, x, y, z) of axis-angle vectors, continuous in the angle; w < 0 beyond half a turn."""
    return roma.quat_xyzw_to_wxyz(roma.rotvec_to_unitquat(axis_angle))


def matrix_from_axis_angle(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of axis-angle vectors; exact and with finite gradients at angle zero too."""
    # By way of the quaternion: Rodrigues' formula needs a cruder series around zero to stay differentiable there.
    return roma.unitquat_to_rotmat(roma.rotvec_to_unitquat(axis_angle))


def axis_angle_from_matrix(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Axis-angle vectors of rotation matrices, of angle at most pi."""
    return roma.rotmat_to_rotvec(matrix)


def axis_angle_from_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3"]:
    """Axis-angle vectors, of angle at most pi, of unit quaternions (w, x, y, z)."""
    return roma.unitquat_to_rotvec(roma.quat_wxyz_to_xyzw(quaternion))


def matrix_from_6d(numbers: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of the continuous 6D representation (Zhou et al. 2019).

    The six numbers are a 3 x 2 matrix, row by row; its columns become the first two columns by Gram-Schmidt.
    """
    return roma.special_gramschmidt(numbers.reshape(*numbers.shape[:-1], 3, 2), epsilon=_SHORTEST_COLUMN)


def six_d_from_matrix(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """The 6D representation of rotation matrices; `matrix_from_6d` inverts it."""
    return matrix[..., :2].flatten(-2)


def matrix_from_9d(
    numbers: Float[Tensor, "*batch 9"] | Float[Tensor, "*batch 3 3"],
) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of nine free numbers, a 3 x 3 matrix row by row, by Gram-Schmidt on its columns.

    The third column is the cross product of the first two, so the result is proper whatever the sign of the
    determinant, and the third input column has no effect.
    """
    matrix = numbers if numbers.shape[-2:] == (3, 3) else numbers.reshape(*numbers.shape[:-1], 3, 3)
    return roma.special_gramschmidt(matrix, epsilon=_SHORTEST_COLUMN)


def matrix_from_euler(axes: str, angles: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch 3 3"]:
    """Product of elementary rotations in the order written: ``"xyz"`` is ``Rx(a0) @ Ry(a1) @ Rz(a2)``.

    Raises ValueError unless `axes` names one of x, y, z for every angle.
    """
    if len(axes) != angles.shape[-1] or not axes or set(axes) - set("xyz"):
        raise ValueError(f"axes {axes!r} must name x, y or z once for each of {angles.shape[-1]} angles")
    unit = torch.eye(3, dtype=angles.dtype, device=angles.device)
    rotations = [
        matrix_from_axis_angle(angle[..., None] * unit["xyz".index(axis)])
        for axis, angle in zip(axes, angles.unbind(-1), strict=True)
    ]
    result = rotations[0]
    for rotation in rotations[1:]:
        result = result @ rotation
    return result


def geodesic_angle(first: Float[Tensor, "*#batch 3 3"], second: Float[Tensor, "*#batch 3 3"]) -> Float[Tensor, "..."]:
    """Angle in [0, pi] of the rotation that leads from one orientation to the other.

    Accurate for tiny angles and with finite gradients at 0 and at pi, where the arc cosine of the trace has neither.
    """
    relative = roma.rotmat_to_unitquat(first.transpose(-1, -2) @ second)
    return 2.0 * torch.atan2(torch.linalg.vector_norm(relative[..., :3], dim=-1), relative[..., 3].abs())
