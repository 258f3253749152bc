"""The skeleton-and-skin body whose segments scale one by one (Yoshiyasu and Gamez 2019).

A segment is what turns with one joint. Its scale is absolute and uniform: it stretches the segment's flesh and the bones
that lead from its joint to the children, which are carried along but not scaled themselves. Every linear part is
therefore a rotation times one number, and no rotation of a scaled ancestor can shear a limb. There are no shape
components and no pose correctives. The root joint rests at the origin.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from posekit.body.kinematics import ForwardKinematics
from posekit.body.skinning import skin_vertices, skinning_transforms
from posekit.body.smpl_file import BodyData


class RestPoints(NamedTuple):
    """Points of the resting body's surface, chosen separately for every batch entry.

    `blend` is what skinning multiplies with the joints' transforms: every weight times the homogeneous position. It
    stays the same while a pose is optimised, and leaves one matrix product per step.
    """

    positions: Float[Tensor, "B N 3"]
    blend: Float[Tensor, "B N 4*K"]


class PosedPoints(NamedTuple):
    """Posed surface points and joints, in metres, the root at the origin."""

    points: Float[Tensor, "B N 3"]
    joints: Float[Tensor, "B K 3"]


class SegmentScaledBody(nn.Module):
    """Joint rotations and segment scales in; joints and only the surface points that are asked for out.

    Computes in its own precision, also under autocast.
    """

    template: Tensor
    weights: Tensor
    mean_rest_joints: Tensor
    shapedirs: Tensor
    joint_shapedirs: Tensor
    faces: Tensor

    def __init__(self, body: BodyData, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.body = body
        self.kinematics = ForwardKinematics(body.parents)
        root = body.rest_joints[:1]
        self._constant("template", body.v_template - root, dtype)
        self._constant("weights", body.weights, dtype)
        self._constant("mean_rest_joints", body.rest_joints - root, dtype)
        # Shapes move the root, too; it is kept at the origin.
        root_shift = body.joint_shapedirs[:1]
        self._constant("shapedirs", body.shapedirs - root_shift, dtype)
        self._constant("joint_shapedirs", body.joint_shapedirs - root_shift, dtype)
        self.register_buffer("faces", torch.from_numpy(body.faces.copy()), persistent=False)

    def _constant(self, name: str, values: np.ndarray, dtype: torch.dtype) -> None:
        self.register_buffer(name, torch.from_numpy(np.array(values, order="C")).to(dtype), persistent=False)

    @property
    def joint_count(self) -> int:
        """Number of joints of the rig, the root included; also the number of segments."""
        return self.weights.shape[1]

    @property
    def vertex_count(self) -> int:
        """Number of vertices of the whole body."""
        return self.weights.shape[0]

    def rest_joints(self, betas: Float[Tensor, "B S"] | None = None) -> Float[Tensor, "#B K 3"]:
        """Rest joints, of the mean shape or of given ones."""
        if betas is None:
            return self.mean_rest_joints[None]
        return self.mean_rest_joints + torch.einsum("bs,kds->bkd", betas, self.joint_shapedirs)

    def rest_points(self, vertex_ids: Int[Tensor, "B N"], betas: Float[Tensor, "B S"] | None = None) -> RestPoints:
        """Vertices of the resting body."""
        positions = self._rest_positions(vertex_ids, betas)
        homogeneous = torch.nn.functional.pad(positions, (0, 1), value=1.0)
        weights = self.weights[vertex_ids]
        return RestPoints(positions, (weights[..., None] * homogeneous[..., None, :]).flatten(2))

    def rest_surface_points(
        self,
        face_ids: Int[Tensor, "B N"],
        barycentric: Float[Tensor, "B N 3"],
        betas: Float[Tensor, "B S"] | None = None,
    ) -> RestPoints:
        """Points inside faces; they stay exactly on the posed faces."""
        corners = self.faces[face_ids]
        at_corners = self.rest_points(corners.flatten(1), betas)
        positions, blend = (values.view(*corners.shape, values.shape[2]) for values in at_corners)
        share = barycentric[..., None]
        return RestPoints((positions * share).sum(dim=2), (blend * share).sum(dim=2))

    def _rest_positions(
        self, vertex_ids: Int[Tensor, "B N"], betas: Float[Tensor, "B S"] | None
    ) -> Float[Tensor, "B N 3"]:
        positions = self.template[vertex_ids]
        if betas is None:
            return positions
        return positions + (self.shapedirs[vertex_ids] @ betas[:, None, :, None])[..., 0]

    def forward(
        self,
        local_rotations: Float[Tensor, "B K 3 3"],
        segment_scales: Float[Tensor, "B K"],
        rest: RestPoints,
        rest_joints: Float[Tensor, "#B K 3"] | None = None,
    ) -> PosedPoints:
        """Posed points and joints; `rest_joints` must belong to the shapes that `rest` was made with."""
        joints_at_rest = self.mean_rest_joints[None] if rest_joints is None else rest_joints
        with torch.autocast(local_rotations.device.type, enabled=False):
            transforms, joints = self._transforms(local_rotations, segment_scales, joints_at_rest)
            return PosedPoints(rest.blend @ transforms.transpose(2, 3).flatten(1, 2), joints)

    def posed_vertices(
        self,
        local_rotations: Float[Tensor, "B K 3 3"],
        segment_scales: Float[Tensor, "B K"],
        betas: Float[Tensor, "B S"] | None = None,
    ) -> PosedPoints:
        """All vertices and the joints."""
        with torch.autocast(local_rotations.device.type, enabled=False):
            transforms, joints = self._transforms(local_rotations, segment_scales, self.rest_joints(betas))
            rest = self.template.T[None].expand(len(local_rotations), -1, -1)
            if betas is not None:
                rest = rest + torch.einsum("bs,vds->bdv", betas, self.shapedirs)
            return PosedPoints(skin_vertices(rest, self.weights.T, transforms), joints)

    def _transforms(
        self,
        local_rotations: Float[Tensor, "B K 3 3"],
        segment_scales: Float[Tensor, "B K"],
        rest_joints: Float[Tensor, "#B K 3"],
    ) -> tuple[Float[Tensor, "B K 3 4"], Float[Tensor, "B K 3"]]:
        dtype = self.template.dtype
        local_rotations, segment_scales = local_rotations.to(dtype), segment_scales.to(dtype)
        world, joints = self.kinematics(local_rotations, rest_joints, segment_scales)
        return skinning_transforms(world * segment_scales[..., None, None], joints, rest_joints), joints
