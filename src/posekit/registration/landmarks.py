"""Named joints as fixed blends of the resting body, ready for skinning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posekit.body.landmarks import landmarks, regressor
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.skeleton.catalog import H36M17
from posekit.skeleton.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class LandmarkBlends:
    """Points that are weighted means of vertices and rig joints, in the form that one product with transforms poses.

    Skinning is linear in the resting positions, so a mean of skinned vertices is one row of blended positions: a joint
    made from twenty vertices costs no more than one vertex. `directions` is what each shape component adds.
    """

    names: tuple[str, ...]
    blend: Float[Tensor, "J Q"]
    directions: Float[Tensor, "S J Q"]

    def shaped(self, betas: Float[Tensor, "B S"] | None) -> Float[Tensor, "#B J Q"]:
        """The blends of shapes."""
        if betas is None:
            return self.blend[None]
        moved = (betas @ self.directions.flatten(1)).reshape(len(betas), *self.blend.shape)
        return self.blend + moved


def landmark_blends(
    body: SegmentScaledBody, *skeletons: Skeleton, regressor_file: Path | None = None
) -> LandmarkBlends:
    """The joints of skeletons that the body can give, each name once, in the skeletons' order.

    Joints of Human3.6M's 17 come from the body's regressor, or that of a file, when there is one: their places are those
    of that data set's markers, which no rig joint shares.
    """
    data = body.body
    names = tuple(dict.fromkeys(name for skeleton in skeletons for name in skeleton.joints))
    points = landmarks(data, names)
    vertex_weights = points.whole_vertex_weights(body.vertex_count)
    joint_weights = points.joint_weights.double().cpu().numpy().copy()
    if H36M17 in skeletons and (data.h36m_regressor is not None or regressor_file is not None):
        rows = regressor(data, H36M17, regressor_file)
        for row, name in enumerate(points.names):
            if name in H36M17:
                vertex_weights[row], joint_weights[row] = rows[H36M17.index(name)], 0.0
    return _blends(body, points.names, _tensor(vertex_weights, body), _tensor(joint_weights, body))


def _tensor(values: np.ndarray, body: SegmentScaledBody) -> Tensor:
    return torch.as_tensor(values, dtype=body.template.dtype, device=body.template.device)


def _blends(
    body: SegmentScaledBody,
    names: tuple[str, ...],
    vertex_weights: Float[Tensor, "J V"],
    joint_weights: Float[Tensor, "J K"],
) -> LandmarkBlends:
    used = vertex_weights.any(dim=0).nonzero()[:, 0]
    shares, weights = vertex_weights[:, used], body.weights[used]
    homogeneous = torch.nn.functional.pad(body.template[used], (0, 1), value=1.0)
    rest_joints = torch.nn.functional.pad(body.mean_rest_joints, (0, 1), value=1.0)
    from_vertices = torch.einsum("jv,vk,vd->jkd", shares, weights, homogeneous)
    from_joints = joint_weights[..., None] * rest_joints
    moved = torch.einsum("jv,vk,vds->sjkd", shares, weights, body.shapedirs[used])
    moved = moved + torch.einsum("jk,kds->sjkd", joint_weights, body.joint_shapedirs)
    return LandmarkBlends(
        names,
        (from_vertices + from_joints).flatten(1),
        torch.nn.functional.pad(moved, (0, 1)).flatten(2),
    )
