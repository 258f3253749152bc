"""Joint angles as anatomists name them, their limits, and the body's rotations made from them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from posekit.skeleton.catalog import SMPL24

Angles = Mapping[str, np.ndarray]

_OF_A_SIDE = {
    "shoulder_raise": (-50.0, 175.0),
    "shoulder_spread": (-10.0, 150.0),
    "shoulder_twist": (-80.0, 95.0),
    "elbow": (0.0, 148.0),
    "wrist": (-35.0, 35.0),
    "hip_raise": (-25.0, 120.0),
    "hip_spread": (-15.0, 45.0),
    "hip_twist": (-35.0, 45.0),
    "knee": (0.0, 145.0),
    "ankle": (-45.0, 30.0),
}
_OF_THE_TRUNK = {
    "pelvis_turn": (-1e6, 1e6),
    "pelvis_tilt": (-40.0, 60.0),
    "pelvis_lean": (-20.0, 20.0),
    "spine_bend": (-25.0, 75.0),
    "spine_turn": (-45.0, 45.0),
    "spine_lean": (-30.0, 30.0),
    "neck_nod": (-40.0, 45.0),
    "neck_turn": (-70.0, 70.0),
}

LIMITS: dict[str, tuple[float, float]] = {
    **_OF_THE_TRUNK,
    **{f"{side}_{name}": limits for side in ("left", "right") for name, limits in _OF_A_SIDE.items()},
}
"""Every angle with its range in degrees (the textbook ranges of healthy adults, rounded). All are zero in a body that
stands at attention; `raise` is forward, `spread` away from the middle, `twist` of the shoulder inward, of the hip outward,
`ankle` is positive with the toes up."""

_COLLAR_SHARE = 0.2
"""Part of an arm's elevation beyond the collar's threshold that the collar bone does."""
_COLLAR_FROM = 45.0


def within_limits(angles: Angles) -> dict[str, np.ndarray]:
    """The same angles, those beyond a joint's range set to its end."""
    return {name: np.clip(values, *LIMITS[name]) for name, values in angles.items()}


def mirrored_angles(angles: Angles) -> dict[str, np.ndarray]:
    """The angles of the mirror image."""
    swapped: dict[str, np.ndarray] = {}
    for name, values in angles.items():
        if name.startswith("left_"):
            swapped["right_" + name.removeprefix("left_")] = values
        elif name.startswith("right_"):
            swapped["left_" + name.removeprefix("right_")] = values
        else:
            swapped[name] = -values if name.endswith(("_turn", "_lean")) else values
    return swapped


def pose_from_angles(angles: Angles) -> Float[np.ndarray, "T 24 3"]:
    """Axis-angle poses of the 24-joint body from angles in degrees; angles that are not given are zero."""
    frames = len(next(iter(angles.values())))
    zero = np.zeros(frames)
    pose = np.zeros((frames, len(SMPL24), 3))

    def angle(name: str) -> np.ndarray:
        return angles.get(name, zero)

    def put(joint: str, axes: str, *values: np.ndarray) -> None:
        pose[:, SMPL24.index(joint)] = Rotation.from_euler(axes, np.stack(values, axis=-1), degrees=True).as_rotvec()

    put("pelvis", "YXZ", angle("pelvis_turn"), angle("pelvis_tilt"), angle("pelvis_lean"))
    for joint in ("spine1", "spine2", "spine3"):
        put(joint, "YXZ", angle("spine_turn") / 3, angle("spine_bend") / 3, angle("spine_lean") / 3)
    for joint in ("smpl_neck", "smpl_head"):
        put(joint, "YX", angle("neck_turn") / 2, angle("neck_nod") / 2)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        lift, spread = angle(f"{side}_shoulder_raise"), angle(f"{side}_shoulder_spread")
        collar = _COLLAR_SHARE * np.maximum(np.maximum(lift, spread) - _COLLAR_FROM, 0.0)
        put(f"{side}_collar", "Z", sign * collar)
        # The rest pose spreads the arms by 90 degrees: they are lowered first, in the parent's frame last.
        put(f"{side}_shoulder", "XZX", -lift, -sign * (90.0 + collar - spread), angle(f"{side}_shoulder_twist"))
        put(f"{side}_elbow", "Y", -sign * angle(f"{side}_elbow"))
        put(f"{side}_wrist", "Y", -sign * angle(f"{side}_wrist"))
        hip = (-angle(f"{side}_hip_raise"), sign * angle(f"{side}_hip_spread"), sign * angle(f"{side}_hip_twist"))
        put(f"{side}_hip", "XZY", *hip)
        put(f"{side}_knee", "X", angle(f"{side}_knee"))
        put(f"{side}_ankle", "X", -angle(f"{side}_ankle"))
    return pose
