"""Skinning weights of the 24 joints, from those of MakeHuman's 163 bones."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.sparse.linalg import splu

from posekit.body.free_body.rig import smpl_segment_of_bone
from posekit.body.free_body.sources import BoneRig
from posekit.skeleton.catalog import SMPL24

_DIFFUSION_TIME = 1.28
_EDGE_LENGTH = 0.01
_STRONGEST_EDGE = 4.0
_LEAST_WEIGHT = 1e-3


def merged_weights(
    rig: BoneRig,
    base_index: Int[np.ndarray, " V"],
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
) -> Float[np.ndarray, "V 24"]:
    """Bone weights summed per SMPL segment and smoothed by one implicit diffusion step over the mesh.

    Unsmoothed they crease elbows, knees and the cleft between the buttocks.
    """
    segments = smpl_segment_of_bone(rig)
    owner = sp.csr_matrix((np.ones(len(segments)), (np.arange(len(segments)), segments)), (len(segments), len(SMPL24)))
    merged = (rig.weights[base_index] @ owner).toarray()
    smooth = splu((sp.eye(len(vertices)) + _DIFFUSION_TIME * _laplacian(vertices, faces)).tocsc()).solve(merged)
    smooth[smooth < _LEAST_WEIGHT] = 0
    return smooth / smooth.sum(axis=1, keepdims=True)


def edges_of(faces: Int[np.ndarray, "F 3"]) -> Int[np.ndarray, "E 2"]:
    """Every edge once."""
    return np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)


def _laplacian(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> sp.csr_matrix:
    one, other = edges_of(faces).T
    length = np.linalg.norm(vertices[one] - vertices[other], axis=1)
    strength = np.minimum((_EDGE_LENGTH / length) ** 2, _STRONGEST_EDGE)
    count = len(vertices)
    rows, columns = np.concatenate([one, other]), np.concatenate([other, one])
    adjacency = sp.csr_matrix((np.concatenate([strength, strength]), (rows, columns)), (count, count))
    return sp.diags(np.asarray(adjacency.sum(axis=1)).ravel()) - adjacency
