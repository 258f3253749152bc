"""Pose correctives that keep limbs round when they twist.

Linear blend skinning collapses a limb that is twisted at a joint. The correctives of a joint are fitted so that a twist
turns every vertex by its share of the angle instead, while bends stay as they are.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from posekit.body.free_body.rig import rotated, rotation
from posekit.skeleton.catalog import SMPL24

_ANGLES = np.deg2rad([30.0, 60.0, 90.0])
_RIDGE = 1e-3
_LEAST_OFFSET = 2e-5
_MIXED = (0.02, 0.98)
"""Vertices that move neither with the joint nor with its parent alone."""


def twist_correctives(
    vertices: Float[np.ndarray, "V 3"], joints: Float[np.ndarray, "24 3"], weights: Float[np.ndarray, "V 24"]
) -> Float[np.ndarray, "V 3 207"]:
    """Offsets per entry of ``R - I`` of every joint but the root, fitted by ridge regression."""
    correctives = np.zeros((len(vertices), 3, 9 * (len(SMPL24) - 1)))
    for joint in range(1, len(SMPL24)):
        share = weights[:, _subtree(joint)].sum(axis=1)
        mixed = np.flatnonzero((share > _MIXED[0]) & (share < _MIXED[1]))
        if len(mixed) == 0:
            continue
        places = vertices[mixed] - joints[joint]
        features, offsets = _wanted_offsets(_limb_axis(joint, joints), places, share[mixed])
        fitted = np.linalg.solve(features.T @ features + _RIDGE * np.eye(9), features.T @ offsets)
        columns = slice(9 * (joint - 1), 9 * joint)
        correctives[mixed, :, columns] = fitted.reshape(9, len(mixed), 3).transpose(1, 2, 0)
    correctives[np.abs(correctives) < _LEAST_OFFSET] = 0
    return correctives


def _subtree(joint: int) -> list[int]:
    children = [child for child, parent in enumerate(SMPL24.parents) if parent == joint]
    return [joint, *(below for child in children for below in _subtree(child))]


def _limb_axis(joint: int, joints: Float[np.ndarray, "24 3"]) -> Float[np.ndarray, "3"]:
    children = [child for child, parent in enumerate(SMPL24.parents) if parent == joint]
    if SMPL24.joints[joint] == "spine3":  # its other children are the collars
        children = [SMPL24.index("smpl_neck")]
    axis = joints[children].mean(axis=0) - joints[joint] if children else joints[joint] - joints[SMPL24.parents[joint]]
    return axis / np.linalg.norm(axis)


def _wanted_offsets(
    axis: Float[np.ndarray, "3"], places: Float[np.ndarray, "N 3"], share: Float[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, "M 9"], Float[np.ndarray, "M N3"]]:
    """Features and rest-pose offsets of twists about the limb's axis, and of bends, which want none."""
    first = np.cross(axis, [0.3, 0.2, 0.9])
    first /= np.linalg.norm(first)
    second = np.cross(axis, first)
    features, offsets = [], []
    for direction in (axis, first, second, first + second, first - second):
        for angle in (*_ANGLES, *-_ANGLES):
            turn = rotation(direction, np.array(angle))
            features.append((turn - np.eye(3)).ravel())
            wanted = np.zeros_like(places)
            if direction is axis:
                blended = (1 - share)[:, None, None] * np.eye(3) + share[:, None, None] * turn
                partial = rotation(np.broadcast_to(axis, places.shape), angle * share)
                wanted = np.linalg.solve(blended, rotated(partial, places)[..., None])[..., 0] - places
            offsets.append(wanted.ravel())
    return np.array(features), np.array(offsets)
