"""A plain float64 body, and random poses, for fitting the joint regressors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from posekit.body.free_body.rig import rotated, rotation
from posekit.skeleton.catalog import SMPL24

_SPREAD_DEGREES: dict[str, tuple[float, float, float]] = {
    "pelvis": (28.6, 28.6, 28.6),
    "hip": (31.5, 10.5, 14),
    "knee": (35, 5.6, 3.5),
    "ankle": (10.5, 7, 7),
    "foot": (7, 7, 7),
    "collar": (5.6, 5.6, 5.6),
    "shoulder": (24.5, 21, 24.5),
    "elbow": (14, 35, 7),
    "wrist": (17.5, 17.5, 17.5),
    "hand": (7, 7, 7),
    "smpl_neck": (10.5, 10.5, 10.5),
    "smpl_head": (10.5, 10.5, 10.5),
    "spine1": (8.4, 8.4, 8.4),
    "spine2": (8.4, 8.4, 8.4),
    "spine3": (8.4, 8.4, 8.4),
}
"""Standard deviations of axis-angle components, by joint without its side."""
_ARMS_DOWN = np.deg2rad(45.0)


@dataclass(frozen=True, eq=False)
class PlainBody:
    """Template, shapes, rest joints and skin of a body that is being made."""

    vertices: Float[np.ndarray, "V 3"]
    shapes: Float[np.ndarray, "V 3 S"]
    correctives: Float[np.ndarray, "V 3 207"]
    weights: Float[np.ndarray, "V 24"]
    regressor: Float[np.ndarray, "24 V"]

    def posed(
        self, pose: Float[np.ndarray, "24 3"], betas: Float[np.ndarray, " S"]
    ) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "24 3"]]:
        """Vertices and joints; `pose` holds axis-angle vectors."""
        vertices = self.vertices + self.shapes @ betas
        rest = self.regressor @ vertices
        angle = np.linalg.norm(pose, axis=1)
        turns = rotation(pose + 1e-12, angle)
        vertices = vertices + self.correctives @ (turns[1:] - np.eye(3)).ravel()
        world, joints = turns.copy(), rest.copy()
        for joint, parent in SMPL24_CHAIN:
            world[joint] = world[parent] @ turns[joint]
            joints[joint] = joints[parent] + world[parent] @ (rest[joint] - rest[parent])
        maps = np.concatenate([world, (joints - rotated(world, rest))[..., None]], axis=-1)
        blended = (self.weights @ maps.reshape(len(maps), 12)).reshape(-1, 3, 4)
        return rotated(blended[:, :, :3], vertices) + blended[:, :, 3], joints


SMPL24_CHAIN = tuple((joint, parent) for joint, parent in enumerate(SMPL24.parents) if parent >= 0)


def random_bodies(
    body: PlainBody, count: int, seed: int
) -> tuple[Float[np.ndarray, "N V 3"], Float[np.ndarray, "N 24 3"]]:
    """Vertices and joints of people of all shapes in mild poses; always the same for a seed."""
    # Raw bits of PCG64 are promised to stay the same between versions of numpy; samplers built on them are not.
    shapes = body.shapes.shape[2]
    bits = np.random.PCG64(seed).random_raw(count * (24 * 3 + shapes))
    normal = ndtri(((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53).reshape(count, -1)
    spread = np.deg2rad(
        [_SPREAD_DEGREES[joint.removeprefix("left_").removeprefix("right_")] for joint in SMPL24.joints]
    )
    poses = normal[:, :72].reshape(count, 24, 3) * spread
    for side, sign in (("left", 1.0), ("right", -1.0)):
        knee, elbow, shoulder = (SMPL24.index(f"{side}_{joint}") for joint in ("knee", "elbow", "shoulder"))
        poses[:, knee, 0] = np.abs(poses[:, knee, 0])
        poses[:, elbow, 1] = -sign * np.abs(poses[:, elbow, 1])
        poses[:, shoulder, 2] -= sign * _ARMS_DOWN
    people = [body.posed(pose, betas) for pose, betas in zip(poses, normal[:, 72:], strict=True)]
    return np.stack([vertices for vertices, _ in people]), np.stack([joints for _, joints in people])
