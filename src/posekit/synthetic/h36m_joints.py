"""The 32 joints of Human3.6M on a body."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from posekit.body.landmarks import landmarks, regressor
from posekit.body.smpl_file import BodyData
from posekit.skeleton.catalog import H36M17, H36M32

DUPLICATES = {
    "spine_base": "pelvis",
    "left_collar": "thorax",
    "right_collar": "thorax",
    "left_thumb_base": "left_wrist",
    "right_thumb_base": "right_wrist",
    "left_hand_end": "left_hand",
    "right_hand_end": "right_hand",
}
"""Joints that repeat another one in the release."""


class Human36MJoints:
    """Joints from posed bodies: the standard 17 by the body's regressor where it has one, the others by named points."""

    def __init__(self, body: BodyData) -> None:
        points = landmarks(body, H36M32.joints)
        if points.missing:
            raise ValueError(f"the body cannot give the joints {points.missing}")
        self._from_joints = points.joint_weights.double().numpy().copy()
        self._from_vertices = points.whole_vertex_weights(body.vertex_count)
        if body.h36m_regressor is not None:
            rows = list(H36M32.indices(*H36M17.joints))
            self._from_joints[rows] = 0.0
            self._from_vertices[rows] = regressor(body, H36M17)
        for joint, original in DUPLICATES.items():
            row, source = H36M32.indices(joint, original)
            self._from_joints[row], self._from_vertices[row] = self._from_joints[source], self._from_vertices[source]
        self._used = np.flatnonzero(self._from_vertices.any(axis=0))
        self._from_vertices = self._from_vertices[:, self._used]

    def __call__(
        self, vertices: Float[np.ndarray, "T V 3"], joints: Float[np.ndarray, "T K 3"]
    ) -> Float[np.ndarray, "T 32 3"]:
        """The joints of posed bodies, in their units."""
        return self._from_joints @ joints + self._from_vertices @ vertices[:, self._used]
