"""MakeHuman's bones: their pose, the T-pose, and the joints and segments of SMPL made from them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from posekit.body.free_body.sources import BoneRig
from posekit.skeleton.catalog import SMPL24

SIDES = (("L", "left", 1.0), ("R", "right", -1.0))
_FINGERS = range(2, 6)
_TOES = range(1, 6)

_CLAVICLE_UP, _SHOULDER_UP, _FOOT_OUT = np.deg2rad([12.0, 8.0, 7.0])
_UPPER_ARM = np.array([1.0, 0.0, -0.07])
_THIGH, _SHANK = np.array([0.075, -1.0, 0.0]), np.array([-0.03, -1.0, -0.09])
_FOREARM_TWIST = {"lowerarm01": 0.30, "lowerarm02": 0.75}
"""Share of the hand's twist that each half of the forearm follows."""

_HIP_WIDTH = 0.8
_HIP_DROP = 0.04 / 1.7
"""MakeHuman's hip joints are 23 cm apart and high; these bring them to where SMPL has hips, per metre of stature."""


def rotation(
    axis: Float[np.ndarray, "*batch 3"], angle: Float[np.ndarray, "*batch"]
) -> Float[np.ndarray, "*batch 3 3"]:
    """Rodrigues' formula; the axis need not have unit length."""
    unit = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    cross = np.zeros((*unit.shape[:-1], 3, 3))
    cross[..., 0, 1], cross[..., 0, 2], cross[..., 1, 2] = -unit[..., 2], unit[..., 1], -unit[..., 0]
    cross -= np.swapaxes(cross, -1, -2)
    angle = np.asarray(angle)[..., None, None]
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)


def shortest_arc(
    source: Float[np.ndarray, "*batch 3"], target: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "*batch 3 3"]:
    """The smallest rotations that turn vectors into a direction."""
    unit = source / np.linalg.norm(source, axis=-1, keepdims=True)
    goal = np.broadcast_to(target / np.linalg.norm(target), unit.shape)
    axis = np.cross(unit, goal)
    angle = np.arctan2(np.linalg.norm(axis, axis=-1), (unit * goal).sum(axis=-1))
    return rotation(axis + 1e-12, angle)


def rotated(
    rotations: Float[np.ndarray, "*batch 3 3"], vectors: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch 3"]:
    """Each vector turned by its rotation."""
    return (rotations @ vectors[..., None])[..., 0]


def t_pose_rotations(rig: BoneRig, heads: Float[np.ndarray, "N B 3"]) -> Float[np.ndarray, "N B 3 3"]:
    """World rotations of all bones that stretch arms and straighten legs of resting (A-posed) people.

    Directions are reached by every person exactly, so that no difference in pose leaks into the shape components.
    """
    count = len(heads)
    own: dict[str, np.ndarray] = {}
    for side, _, sign in SIDES:
        own |= {f"{bone}.{side}": turn for bone, turn in _arm_rotations(rig, heads, side, sign).items()}
        own |= {f"{bone}.{side}": turn for bone, turn in _leg_rotations(rig, heads, side, sign).items()}
    rotations = np.zeros((count, len(rig.names), 3, 3))
    for bone, (name, parent) in enumerate(zip(rig.names, rig.parents, strict=True)):
        rotations[:, bone] = own[name] if name in own else rotations[:, parent] if parent >= 0 else np.eye(3)
    return rotations


def _about(axis: tuple[int, int, int], angle: float, count: int) -> Float[np.ndarray, "N 3 3"]:
    return np.broadcast_to(rotation(np.array(axis, dtype=np.float64), np.array(angle)), (count, 3, 3))


def _arm_rotations(
    rig: BoneRig, heads: Float[np.ndarray, "N B 3"], side: str, sign: float
) -> dict[str, Float[np.ndarray, "N 3 3"]]:
    def head(bone: str) -> np.ndarray:
        return heads[:, rig.index(f"{bone}.{side}")]

    mirrored = np.array([sign, 1.0, 1.0])
    outwards = np.array([sign, 0.0, 0.0])
    upper = shortest_arc(head("lowerarm01") - head("upperarm01"), _UPPER_ARM * mirrored)
    forearm = shortest_arc(rotated(upper, head("wrist") - head("lowerarm01")), outwards) @ upper
    knuckles = np.mean([head(f"finger{i}-1") for i in _FINGERS], axis=0) - head("wrist")
    hand = _hand_rotation(knuckles, head("finger2-1") - head("finger5-1"), sign)
    twist = _twist_about_x(hand @ np.swapaxes(forearm, -1, -2)) * sign
    turned_axis = np.broadcast_to(outwards, (len(heads), 3))
    rotations = {
        "clavicle": _about((0, 0, 1), sign * _CLAVICLE_UP, len(heads)),
        "shoulder01": _about((0, 0, 1), sign * (_CLAVICLE_UP + _SHOULDER_UP), len(heads)),
        "upperarm01": upper,
        "wrist": hand,
    }
    return rotations | {bone: rotation(turned_axis, twist * part) @ forearm for bone, part in _FOREARM_TWIST.items()}


def _hand_rotation(
    knuckles: Float[np.ndarray, "N 3"], across: Float[np.ndarray, "N 3"], sign: float
) -> Float[np.ndarray, "N 3 3"]:
    """Turns the hand's frame (along the metacarpals, out of its back) to (outwards, up): palm down."""
    along = knuckles / np.linalg.norm(knuckles, axis=-1, keepdims=True)
    back = np.cross(across, along) * sign
    back /= np.linalg.norm(back, axis=-1, keepdims=True)
    frame = np.stack([along, back, np.cross(along, back)], axis=-1)
    goal = np.stack([[sign, 0, 0], [0, 1, 0], np.cross([sign, 0, 0], [0, 1, 0])], axis=-1)
    return goal @ np.swapaxes(frame, -1, -2)


def _twist_about_x(rotations: Float[np.ndarray, "N 3 3"]) -> Float[np.ndarray, " N"]:
    return 2 * np.arctan2(rotations[:, 2, 1] - rotations[:, 1, 2], 1 + np.trace(rotations, axis1=1, axis2=2))


def _leg_rotations(
    rig: BoneRig, heads: Float[np.ndarray, "N B 3"], side: str, sign: float
) -> dict[str, Float[np.ndarray, "N 3 3"]]:
    hip, knee, foot = (heads[:, rig.index(f"{bone}.{side}")] for bone in ("upperleg01", "lowerleg01", "foot"))
    mirrored = np.array([sign, 1.0, 1.0])
    thigh = shortest_arc(knee - hip, _THIGH * mirrored)
    shank = shortest_arc(rotated(thigh, foot - knee), _SHANK * mirrored) @ thigh
    return {"upperleg01": thigh, "lowerleg01": shank, "foot": _about((0, 1, 0), sign * _FOOT_OUT, len(heads))}


def posed(
    rig: BoneRig,
    vertices: Float[np.ndarray, "N V 3"],
    heads: Float[np.ndarray, "N B 3"],
    rotations: Float[np.ndarray, "N B 3 3"],
    weights: sp.csr_matrix,
) -> tuple[Float[np.ndarray, "N V 3"], Float[np.ndarray, "N B 3"]]:
    """Skinned vertices and bone heads for world rotations of the bones; the root stays where it is."""
    places = np.zeros_like(heads)
    for bone, parent in enumerate(rig.parents):
        offset = heads[:, bone] - heads[:, parent]
        places[:, bone] = heads[:, bone] if parent < 0 else places[:, parent] + rotated(rotations[:, parent], offset)
    maps = np.concatenate([rotations, (places - rotated(rotations, heads))[..., None]], axis=-1)
    out = np.zeros_like(vertices)
    for person, rows in enumerate(maps.reshape(len(maps), len(rig.names), 12)):
        blended = (weights @ rows).reshape(-1, 3, 4)
        out[person] = rotated(blended[:, :, :3], vertices[person]) + blended[:, :, 3]
    return out, places


def smpl_joints(rig: BoneRig, heads: Float[np.ndarray, "N B 3"]) -> Float[np.ndarray, "N 24 3"]:
    """SMPL's joints as means of bone heads."""
    made_from = {
        "pelvis": ["spine05"],
        "spine1": ["spine04"],
        "spine2": ["spine02"],
        "spine3": ["spine01"],
        "smpl_neck": ["neck01"],
        "smpl_head": ["head"],
    }
    for side, long, _ in SIDES:
        bones = {
            "hip": ["upperleg01"],
            "knee": ["lowerleg01"],
            "ankle": ["foot"],
            "foot": [f"toe{i}-1" for i in _TOES if i < 5],
            "collar": ["clavicle", "shoulder01"],
            "shoulder": ["upperarm01"],
            "elbow": ["lowerarm01"],
            "wrist": ["wrist"],
            "hand": [f"finger{i}-1" for i in _FINGERS],
        }
        made_from |= {f"{long}_{joint}": [f"{bone}.{side}" for bone in names] for joint, names in bones.items()}
    return np.stack(
        [heads[:, [rig.index(bone) for bone in made_from[joint]]].mean(axis=1) for joint in SMPL24.joints], axis=1
    )


def with_smpl_hips(
    joints: Float[np.ndarray, "N 24 3"], stature: Float[np.ndarray, " N"]
) -> Float[np.ndarray, "N 24 3"]:
    """Hips moved inwards and down from where MakeHuman has them."""
    moved = joints.copy()
    for side in ("left", "right"):
        hip = SMPL24.index(f"{side}_hip")
        moved[:, hip, 0] = _HIP_WIDTH * joints[:, hip, 0] + (1 - _HIP_WIDTH) * joints[:, 0, 0]
        moved[:, hip, 1] -= _HIP_DROP * stature
    return moved


def smpl_segment_of_bone(rig: BoneRig) -> Int[np.ndarray, " B"]:
    """The SMPL joint that each bone turns with: that of its nearest ancestor which is one.

    The thumb goes with the wrist; on the hand joint, which is at the knuckles, it would tear.
    """
    own = {"root": "pelvis", "spine04": "spine1", "spine02": "spine2", "spine01": "spine3"}
    own |= {"neck01": "smpl_neck", "head": "smpl_head"}
    limbs = {"upperleg01": "hip", "lowerleg01": "knee", "foot": "ankle", "clavicle": "collar"}
    limbs |= {"upperarm01": "shoulder", "lowerarm01": "elbow", "wrist": "wrist"}
    limbs |= {f"toe{i}-1": "foot" for i in _TOES} | {f"finger{i}-1": "hand" for i in _FINGERS}
    for side, long, _ in SIDES:
        own |= {f"{bone}.{side}": f"{long}_{joint}" for bone, joint in limbs.items()}
    segments = np.zeros(len(rig.names), dtype=np.int64)
    for bone, (name, parent) in enumerate(zip(rig.names, rig.parents, strict=True)):
        segments[bone] = SMPL24.index(own[name]) if name in own else segments[parent]
    return segments
