"""Which way elbows and knees bend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from posekit.body.smpl_file import BodyData

_FORWARDS = (0.0, 0.0, 1.0)
_BACKWARDS = (0.0, 0.0, -1.0)
_HINGES = {
    ("left_elbow", "left_wrist"): _FORWARDS,
    ("right_elbow", "right_wrist"): _FORWARDS,
    ("left_knee", "left_ankle"): _BACKWARDS,
    ("right_knee", "right_ankle"): _BACKWARDS,
}
"""(hinge, next joint) -> where natural flexion moves the next joint of the body at rest."""


@dataclass(frozen=True, eq=False)
class HingeLimits:
    """Hinge joints and their unit flexion axes: the axis-angle vector of natural flexion is the angle times the axis."""

    joints: tuple[int, ...]
    axes: Float[np.ndarray, "L 3"]


def hinge_limits(body: BodyData) -> HingeLimits:
    """Elbows and knees with the axes about which a small turn moves forearms forwards and feet backwards the most.

    For SMPL these are the four components that SMPLify limits (Bogo et al. 2016), up to the rig's few degrees.
    """
    joints, axes = [], []
    for (hinge, tip), direction in _HINGES.items():
        joint = body.joint_index(hinge)
        # A turn h moves the tip by h x bone, and direction . (h x bone) = h . (bone x direction).
        axis = np.cross(body.rest_joints[body.joint_index(tip)] - body.rest_joints[joint], direction)
        joints.append(joint)
        axes.append(axis / np.linalg.norm(axis))
    return HingeLimits(tuple(joints), np.stack(axes))
