"""Named points of any skeleton on a body, and the regressors of whole joint sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from posekit.body.smpl_file import BodyData
from posekit.errors import FormatError, InputError, MissingFileError
from posekit.skeleton.catalog import H36M17, SMPL24
from posekit.skeleton.mapping import joint_map
from posekit.skeleton.skeleton import Skeleton

_HEAD_TOP = "highest vertex"
_VERTEX = "vertex "
_HAND_RIGS = {
    # joints of the rig -> the first joints of the four fingers, left and right
    52: {"left_hand": (22, 25, 28, 31), "right_hand": (37, 40, 43, 46)},
    55: {"left_hand": (25, 28, 31, 34), "right_hand": (40, 43, 46, 49)},
}


def _both_sides(points: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """`*` in names and parts stands for a side; `@` for its initial in vertex names, `^` for the capital one."""
    sides = (("left", "l", "L"), ("right", "r", "R"))
    return {
        name.replace("*", side): tuple(
            part.replace("*", side).replace("@", small).replace("^", large) for part in parts
        )
        for side, small, large in sides
        for name, parts in points.items()
    }


_POINTS: dict[str, tuple[str, ...]] = {
    "mid_hip": ("left_hip", "right_hip"),
    "mid_shoulder": ("left_shoulder", "right_shoulder"),
    "thorax": ("smpl_neck",),
    "neck": ("smpl_neck", "smpl_head"),
    "spine_base": ("pelvis",),
    "spine": ("pelvis", "smpl_neck"),
    "spine4": ("spine3", "smpl_neck"),
    "jaw": ("vertex nose",),
    "nose": ("vertex nose",),
    "head": (_HEAD_TOP,),
    "head_top": (_HEAD_TOP,),
    **_both_sides(
        {
            "*_eye": ("vertex @eye",),
            "*_ear": ("vertex @ear",),
            "*_big_toe": ("vertex ^BigToe",),
            "*_small_toe": ("vertex ^SmallToe",),
            "*_toe": ("vertex ^BigToe", "vertex ^SmallToe"),
            "*_heel": ("vertex ^Heel",),
            "*_thumb_base": ("*_wrist",),
            "*_thumb": ("vertex @thumb",),
            "*_hand_end": ("vertex @middle",),
            "*_clavicle": ("*_collar",),
        }
    ),
}
"""Point -> the joints and vertices whose mean it is; joints of the rig are besides points under their own names.

The spine of Human3.6M is halfway between pelvis and thorax; its jaw is taken at the nose and its head at the top, as in
the regressor that comes with the free body.
"""

_KNOWN_NAMES = frozenset(_POINTS) | frozenset(SMPL24.joints)

SMPL_VERTEX_IDS = {
    "nose": 332,
    "reye": 6260,
    "leye": 2800,
    "rear": 4071,
    "lear": 583,
    "rthumb": 6191,
    "rindex": 5782,
    "rmiddle": 5905,
    "rring": 6016,
    "rpinky": 6133,
    "lthumb": 2746,
    "lindex": 2319,
    "lmiddle": 2445,
    "lring": 2556,
    "lpinky": 2673,
    "LBigToe": 3216,
    "LSmallToe": 3226,
    "LHeel": 3387,
    "RBigToe": 6617,
    "RSmallToe": 6624,
    "RHeel": 6787,
}
_SMPLX_VERTEX_IDS = {
    "nose": 9120,
    "reye": 9929,
    "leye": 9448,
    "rear": 616,
    "lear": 6,
    "rthumb": 8079,
    "rindex": 7669,
    "rmiddle": 7794,
    "rring": 7905,
    "rpinky": 8022,
    "lthumb": 5361,
    "lindex": 4933,
    "lmiddle": 5058,
    "lring": 5169,
    "lpinky": 5286,
    "LBigToe": 5770,
    "LSmallToe": 5780,
    "LHeel": 8846,
    "RBigToe": 8463,
    "RSmallToe": 8474,
    "RHeel": 8635,
}
_VERTEX_IDS_BY_COUNT = {6890: SMPL_VERTEX_IDS, 10475: _SMPLX_VERTEX_IDS}
"""Vertices of the family's fixed topologies, by vertex count; the ids that `smplx` selects joints with."""


class Landmarks(nn.Module):
    """Named points as weighted means of rig joints and a few vertices.

    `names` are the points in the order asked for, without those that the body cannot give; these are in `missing`.
    `vertex_ids` are the only vertices needed, so skin no more than `model.subset(landmarks.vertex_ids)`.
    """

    joint_weights: Tensor
    vertex_weights: Tensor

    def __init__(
        self,
        names: tuple[str, ...],
        missing: tuple[str, ...],
        joint_weights: Float[np.ndarray, "L K"],
        vertex_ids: Int[np.ndarray, " N"],
        vertex_weights: Float[np.ndarray, "L N"],
    ) -> None:
        super().__init__()
        self.names = names
        self.missing = missing
        self.vertex_ids = vertex_ids
        dtype = torch.get_default_dtype()
        self.register_buffer("joint_weights", torch.from_numpy(joint_weights).to(dtype), persistent=False)
        self.register_buffer("vertex_weights", torch.from_numpy(vertex_weights).to(dtype), persistent=False)

    def points(
        self, vertices: Float[Tensor, "*batch N 3"], joints: Float[Tensor, "*batch K 3"]
    ) -> Float[Tensor, "*batch L 3"]:
        """The named points of posed bodies, from the vertices of `vertex_ids` and all joints of the rig."""
        return self.joint_weights.to(joints.dtype) @ joints + self.vertex_weights.to(vertices.dtype) @ vertices

    def whole_vertex_weights(self, vertex_count: int) -> Float[np.ndarray, "L V"]:
        """Weights over all vertices of the body instead of those of `vertex_ids`."""
        weights = np.zeros((len(self.names), vertex_count))
        weights[:, self.vertex_ids] = self.vertex_weights.cpu().numpy()
        return weights


def landmarks(body: BodyData, joint_names: Sequence[str]) -> Landmarks:
    """The points of these names on a body; InputError for names that no skeleton uses."""
    unknown = [name for name in joint_names if name not in _KNOWN_NAMES]
    if unknown:
        raise InputError("unknown body point", got=unknown, accepted=sorted(_KNOWN_NAMES))
    found = {name: parts for name in joint_names if (parts := _parts(body, name)) is not None}
    vertex_ids = sorted({i for _, vertices in found.values() for i in vertices})
    joint_weights = np.zeros((len(found), body.joint_count))
    vertex_weights = np.zeros((len(found), len(vertex_ids)))
    for row, (joints, vertices) in enumerate(found.values()):
        share = 1.0 / (len(joints) + len(vertices))
        joint_weights[row, list(joints)] = share
        vertex_weights[row, [vertex_ids.index(i) for i in vertices]] = share
    return Landmarks(
        names=tuple(found),
        missing=tuple(name for name in joint_names if name not in found),
        joint_weights=joint_weights,
        vertex_ids=np.array(vertex_ids, dtype=np.int64),
        vertex_weights=vertex_weights,
    )


def _parts(body: BodyData, name: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Joints and vertices whose mean the point is; None where the body lacks one of them."""
    hands = _HAND_RIGS.get(body.joint_count, {})
    if name in hands:
        return hands[name], ()
    if name in body.joint_names:
        return (body.joint_index(name),), ()
    vertex_ids = body.vertex_ids or _VERTEX_IDS_BY_COUNT.get(body.vertex_count, {})
    joints: list[int] = []
    vertices: list[int] = []
    for part in _POINTS.get(name, (name,)):
        vertex = part.removeprefix(_VERTEX)
        if part == _HEAD_TOP:
            vertices += _head_top(body)
        elif part != vertex and vertex in vertex_ids:
            vertices.append(vertex_ids[vertex])
        elif part in body.joint_names:
            joints.append(body.joint_index(part))
        else:
            return None
    return tuple(joints), tuple(vertices)


def _head_top(body: BodyData) -> list[int]:
    """The highest vertex of the template; with its mirror image where that is another one."""
    highest = int(np.argmax(body.v_template[:, 1]))
    mirrored = highest if body.mirror is None else int(body.mirror[highest])
    return sorted({highest, mirrored})


def regressor(body: BodyData, skeleton: Skeleton, path: Path | None = None) -> Float[np.ndarray, "J V"]:
    """A matrix that turns posed vertices into the joints of a skeleton that Human3.6M's 17 joints cover.

    The 17 rows come from the body itself or, for a user's SMPL file, from `path` (a `J_regressor_h36m.npy`). Such files
    exist with either leg first; which it is shows in the side of the first hip on the body at rest, and the rows are put
    into the order of the skeleton. Raises InputError, MissingFileError or FormatError.
    """
    rows = body.h36m_regressor if path is None else _read_regressor(path, body)
    if rows is None:
        raise InputError(
            f"body {body.source} comes without a regressor for the joints of Human3.6M",
            hint="give the J_regressor_h36m.npy that belongs to this body",
        )
    return joint_map(H36M17, skeleton, require_all=True).matrix @ _right_leg_first(rows.astype(np.float64), body)


def _read_regressor(path: Path, body: BodyData) -> Float[np.ndarray, "17 V"]:
    if not path.is_file():
        raise MissingFileError("joint regressor not found", got=path)
    try:
        rows = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise FormatError(f"{path} is not a readable .npy array ({error})") from error
    shape = (len(H36M17), body.vertex_count)
    if not isinstance(rows, np.ndarray) or rows.shape != shape or rows.dtype.kind != "f":
        kind = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise FormatError(f"{path} is no joint regressor for this body", got=kind, accepted=f"numbers of shape {shape}")
    return rows


def _right_leg_first(rows: Float[np.ndarray, "17 V"], body: BodyData) -> Float[np.ndarray, "17 V"]:
    first_hip = rows[H36M17.index("right_hip")] @ body.v_template
    if first_hip[0] < 0:  # the person's right is -x
        return rows
    legs = H36M17.indices("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle")
    swapped = rows.copy()
    swapped[list(legs)] = rows[[*legs[3:], *legs[:3]]]
    return swapped
