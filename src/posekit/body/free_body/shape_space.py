"""Shape components: principal components of adults in the T-pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from posekit.body.free_body.phenotypes import Phenotypes, blend_weights
from posekit.body.free_body.rig import posed, smpl_joints, t_pose_rotations, with_smpl_hips
from posekit.body.free_body.sources import Sources
from posekit.body.free_body.topology import Topology

COMPONENTS = 10
_MIRRORED = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class TPosedPeople:
    """Symmetric vertices and SMPL joints of people in the T-pose, the pelvis joint at the origin."""

    vertices: Float[np.ndarray, "N V 3"]
    joints: Float[np.ndarray, "N 24 3"]


def t_posed(sources: Sources, topology: Topology, people: Phenotypes) -> TPosedPeople:
    """The people's meshes, stretched with the full rig of MakeHuman."""
    blend = blend_weights(people, sources.targets)
    chosen = topology.base_index
    resting = sources.mesh.vertices[chosen] + np.tensordot(blend, sources.targets.offsets[:, chosen], axes=1)
    head_offsets = np.stack([sources.rig.heads @ offsets for offsets in sources.targets.offsets])
    heads = sources.rig.heads @ sources.mesh.vertices + np.tensordot(blend, head_offsets, axes=1)
    rotations = t_pose_rotations(sources.rig, heads)
    vertices, places = posed(sources.rig, resting, heads, rotations, sources.rig.weights[chosen])
    joints = with_smpl_hips(smpl_joints(sources.rig, places), np.ptp(vertices[:, :, 1], axis=1))
    vertices = vertices - joints[:, :1]
    return TPosedPeople(
        vertices=(vertices + vertices[:, topology.mirror] * _MIRRORED) / 2, joints=joints - joints[:, :1]
    )


def principal_components(
    people: TPosedPeople,
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "V 3 S"]]:
    """Mean shape and components scaled to betas of unit variance; the first grows with stature."""
    mean = people.vertices.mean(axis=0)
    # Single precision halves the memory of the largest array; sums of the small Gram matrix are formed in double.
    offsets = (people.vertices - mean).reshape(len(people.vertices), -1).astype(np.float32)
    gram = (offsets @ offsets.T).astype(np.float64)
    vectors = np.linalg.eigh(gram)[1][:, ::-1][:, :COMPONENTS]
    components = (offsets.T.astype(np.float64) @ vectors) / np.sqrt(len(offsets) - 1)
    shapes = components.reshape(*mean.shape, COMPONENTS)
    highest = int(np.argmax(mean[:, 1]))
    largest = np.abs(components).argmax(axis=0)
    signs = np.sign(components[largest, np.arange(COMPONENTS)])
    signs[0] = np.sign(shapes[highest, 1, 0])
    return mean, shapes * signs
