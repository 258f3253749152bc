"""Shape and pose in, vertices and joints out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from posekit.body.kinematics import ForwardKinematics
from posekit.body.skinning import skin_vertices, skinning_transforms
from posekit.body.smpl_file import BodyData
from posekit.geometry.rotations import matrix_from_axis_angle


class PosedBody(NamedTuple):
    """Posed vertices and joints, in metres."""

    vertices: Float[Tensor, "B V 3"]
    joints: Float[Tensor, "B K 3"]


class BodyModel(nn.Module):
    """A skinned body with shape components and pose correctives (SMPL; Loper et al. 2015), or some vertices of one.

    The root turns about its own joint; translation is added last, as in `smplx`. No array of the body goes into the
    state dictionary, so that checkpoints carry no licensed data.
    """

    def __init__(
        self,
        body: BodyData,
        *,
        vertex_ids: Int[np.ndarray, " N"] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.body = body
        self.kinematics = ForwardKinematics(body.parents)
        chosen = slice(None) if vertex_ids is None else np.asarray(vertex_ids)
        template, shapedirs, posedirs = (array[chosen] for array in (body.v_template, body.shapedirs, body.posedirs))
        self.has_pose_correctives = bool(posedirs.any())
        directions = [shapedirs, posedirs] if self.has_pose_correctives else [shapedirs]
        planar = np.concatenate([d.transpose(2, 1, 0).reshape(d.shape[2], -1) for d in directions])
        self._constant("template", template.T.reshape(-1), dtype)
        self._constant("directions", planar, dtype)
        self._constant("weights", body.weights[chosen].T, dtype)
        self._constant("mean_rest_joints", body.rest_joints, dtype)
        self._constant("joint_shapedirs", body.joint_shapedirs.transpose(2, 0, 1), dtype)
        faces = body.faces if vertex_ids is None else np.zeros((0, 3), np.int64)
        self.register_buffer("faces", torch.from_numpy(faces.copy()), persistent=False)

    def _constant(self, name: str, values: np.ndarray, dtype: torch.dtype) -> None:
        self.register_buffer(name, torch.from_numpy(np.array(values, order="C")).to(dtype), persistent=False)

    template: Tensor
    directions: Tensor
    weights: Tensor
    mean_rest_joints: Tensor
    joint_shapedirs: Tensor
    faces: Tensor

    @property
    def vertex_count(self) -> int:
        """Number of vertices that come out."""
        return self.weights.shape[1]

    @property
    def joint_count(self) -> int:
        """Number of joints of the rig, the root included."""
        return self.weights.shape[0]

    @property
    def shape_count(self) -> int:
        """Number of shape components."""
        return self.joint_shapedirs.shape[0]

    def subset(self, vertex_ids: Int[np.ndarray, " N"]) -> BodyModel:
        """The same body with these vertices only; its joints are exactly those of the whole."""
        part = BodyModel(self.body, vertex_ids=vertex_ids, dtype=self.template.dtype)
        return part.to(self.template.device)

    def rest_joints(self, betas: Float[Tensor, "B S"]) -> Float[Tensor, "B K 3"]:
        """Rest joints of shapes."""
        return self.mean_rest_joints + torch.tensordot(betas, self.joint_shapedirs, dims=1)

    def rest_vertices(self, betas: Float[Tensor, "B S"]) -> Float[Tensor, "B V 3"]:
        """Unposed vertices of shapes."""
        planar = torch.addmm(self.template, betas, self.directions[: self.shape_count])
        return planar.view(-1, 3, self.vertex_count).transpose(1, 2).contiguous()

    def forward(
        self,
        betas: Float[Tensor, "B S"],
        pose: Float[Tensor, "B K 3"] | Float[Tensor, "B K 3 3"],
        translation: Float[Tensor, "B 3"] | None = None,
    ) -> PosedBody:
        """The posed body, in the model's own precision even under autocast.

        `pose` is rotations relative to the parent joint, as axis-angle vectors in radians or as matrices.
        """
        with torch.autocast(pose.device.type, enabled=False):
            betas, rotations = betas.to(self.template.dtype), self._matrices(pose)
            rest_joints = self.rest_joints(betas)
            world, joints = self.kinematics(rotations, rest_joints)
            transforms = skinning_transforms(world, joints, rest_joints)
            if translation is not None:
                # Added to the joints' maps: they are far fewer than the vertices.
                shift = translation.to(joints.dtype)[:, None]
                transforms = torch.cat([transforms[..., :3], transforms[..., 3:] + shift[..., None]], dim=-1)
                joints = joints + shift
            return PosedBody(skin_vertices(self._unskinned(betas, rotations), self.weights, transforms), joints)

    def posed_joints(
        self, betas: Float[Tensor, "B S"], pose: Float[Tensor, "B K 3"] | Float[Tensor, "B K 3 3"]
    ) -> Float[Tensor, "B K 3"]:
        """The joints alone, without the cost of skinning."""
        with torch.autocast(pose.device.type, enabled=False):
            rest_joints = self.rest_joints(betas.to(self.template.dtype))
            return self.kinematics(self._matrices(pose), rest_joints)[1]

    def _matrices(self, pose: Float[Tensor, "B K 3"] | Float[Tensor, "B K 3 3"]) -> Float[Tensor, "B K 3 3"]:
        pose = pose.to(self.template.dtype)
        return matrix_from_axis_angle(pose) if pose.ndim == 3 else pose

    def _unskinned(self, betas: Float[Tensor, "B S"], rotations: Float[Tensor, "B K 3 3"]) -> Float[Tensor, "B 3 V"]:
        """Planar rest vertices with shape and pose correctives: one product with all directions stacked."""
        coefficients = betas
        if self.has_pose_correctives:
            bends = rotations[:, 1:] - torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            coefficients = torch.cat([betas, bends.flatten(1)], dim=1)
        return torch.addmm(self.template, coefficients, self.directions).view(-1, 3, self.vertex_count)
