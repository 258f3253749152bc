"""Every joint order that posekit knows, by name.

The orders are facts of the data sets and tools that define them. Parents are given by name so that a bone can be read.
"""

from __future__ import annotations

from posekit.errors import InputError
from posekit.skeleton.skeleton import Skeleton

_FACE = {"left_eye": "nose", "right_eye": "nose", "left_ear": "left_eye", "right_ear": "right_eye"}
_ARMS = {
    "left_elbow": "left_shoulder",
    "right_elbow": "right_shoulder",
    "left_wrist": "left_elbow",
    "right_wrist": "right_elbow",
}
_LEGS = {"left_knee": "left_hip", "right_knee": "right_hip", "left_ankle": "left_knee", "right_ankle": "right_knee"}
_FEET = {
    "left_big_toe": "left_ankle",
    "left_small_toe": "left_big_toe",
    "left_heel": "left_ankle",
    "right_big_toe": "right_ankle",
    "right_small_toe": "right_big_toe",
    "right_heel": "right_ankle",
}
_LIMBS = _ARMS | _LEGS
_PELVIS_TREE = {"left_hip": "pelvis", "right_hip": "pelvis"}


def _skeleton(name: str, title: str, joints: str, *trees: dict[str, str]) -> Skeleton:
    names = tuple(joints.split())
    parent_of = {child: parent for tree in trees for child, parent in tree.items()}
    parents = tuple(names.index(parent_of[joint]) if parent_of.get(joint) in names else -1 for joint in names)
    return Skeleton(name=name, joints=names, parents=parents, title=title)


SMPL24 = _skeleton(
    "smpl24",
    "SMPL, 24 joints of the rig",
    """pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot right_foot
    smpl_neck left_collar right_collar smpl_head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist
    left_hand right_hand""",
    _LIMBS,
    _PELVIS_TREE,
    {
        "spine1": "pelvis",
        "spine2": "spine1",
        "spine3": "spine2",
        "smpl_neck": "spine3",
        "left_collar": "spine3",
        "right_collar": "spine3",
        "smpl_head": "smpl_neck",
        "left_shoulder": "left_collar",
        "right_shoulder": "right_collar",
        "left_foot": "left_ankle",
        "right_foot": "right_ankle",
        "left_hand": "left_wrist",
        "right_hand": "right_wrist",
    },
)

_H36M_TREE = {
    "spine": "pelvis",
    "thorax": "spine",
    "jaw": "thorax",
    "head": "jaw",
    "left_shoulder": "thorax",
    "right_shoulder": "thorax",
}

H36M17 = _skeleton(
    "h36m17",
    "Human3.6M, the standard 17 joints (right leg first)",
    """pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle spine thorax jaw head
    left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist""",
    _LIMBS,
    _PELVIS_TREE,
    _H36M_TREE,
)

H36M32 = _skeleton(
    "h36m32",
    "Human3.6M, the 32 raw joints",
    """pelvis right_hip right_knee right_ankle right_foot right_toe left_hip left_knee left_ankle left_foot left_toe
    spine_base spine thorax jaw head left_collar left_shoulder left_elbow left_wrist left_thumb_base left_thumb left_hand
    left_hand_end right_collar right_shoulder right_elbow right_wrist right_thumb_base right_thumb right_hand
    right_hand_end""",
    _LIMBS,
    _PELVIS_TREE,
    {
        "right_foot": "right_ankle",
        "right_toe": "right_foot",
        "left_foot": "left_ankle",
        "left_toe": "left_foot",
        "spine_base": "pelvis",
        "spine": "spine_base",
        "thorax": "spine",
        "jaw": "thorax",
        "head": "jaw",
        "left_collar": "spine",
        "left_shoulder": "left_collar",
        "left_thumb_base": "left_wrist",
        "left_thumb": "left_thumb_base",
        "left_hand": "left_wrist",
        "left_hand_end": "left_hand",
        "right_collar": "spine",
        "right_shoulder": "right_collar",
        "right_thumb_base": "right_wrist",
        "right_thumb": "right_thumb_base",
        "right_hand": "right_wrist",
        "right_hand_end": "right_hand",
    },
)

MPII16 = _skeleton(
    "mpii16",
    "MPII Human Pose, 16 joints",
    """right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax neck head_top
    right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist""",
    _LIMBS,
    _PELVIS_TREE,
    {"thorax": "pelvis", "neck": "thorax", "head_top": "neck", "left_shoulder": "thorax", "right_shoulder": "thorax"},
)

LSP14 = _skeleton(
    "lsp14",
    "Leeds Sports Pose, 14 joints",
    """right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder
    left_shoulder left_elbow left_wrist neck head_top""",
    _LIMBS,
    {
        "head_top": "neck",
        "left_shoulder": "neck",
        "right_shoulder": "neck",
        "left_hip": "neck",
        "right_hip": "neck",
    },
)

COMMON14 = _skeleton(
    "common14",
    "The joints that MPII, COCO and Human3.6M have in common (MPII without neck and head top)",
    """right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax
    right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist""",
    _LIMBS,
    _PELVIS_TREE,
    {"thorax": "pelvis", "left_shoulder": "thorax", "right_shoulder": "thorax"},
)

_TORSO_BOX = {"right_shoulder": "left_shoulder", "left_hip": "left_shoulder", "right_hip": "right_shoulder"}

COCO17 = _skeleton(
    "coco17",
    "COCO person key points, 17 joints",
    """nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist
    left_hip right_hip left_knee right_knee left_ankle right_ankle""",
    _FACE,
    _LIMBS,
    _TORSO_BOX,
)

_OPENPOSE_TORSO = {"nose": "mid_shoulder", "left_shoulder": "mid_shoulder", "right_shoulder": "mid_shoulder"}

COCO18 = _skeleton(
    "coco18",
    "OpenPose COCO, 18 joints",
    """nose mid_shoulder right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee
    right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear""",
    _FACE,
    _LIMBS,
    _OPENPOSE_TORSO,
    {"left_hip": "mid_shoulder", "right_hip": "mid_shoulder"},
)

BODY25 = _skeleton(
    "body25",
    "OpenPose BODY_25",
    """nose mid_shoulder right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip right_hip
    right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe left_small_toe
    left_heel right_big_toe right_small_toe right_heel""",
    _FACE,
    _LIMBS,
    _FEET,
    _OPENPOSE_TORSO,
    {"mid_hip": "mid_shoulder", "left_hip": "mid_hip", "right_hip": "mid_hip"},
)

BODY25B = _skeleton(
    "body25b",
    "OpenPose BODY_25B",
    """nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist
    left_hip right_hip left_knee right_knee left_ankle right_ankle neck head_top left_big_toe left_small_toe left_heel
    right_big_toe right_small_toe right_heel""",
    _FACE,
    _LIMBS,
    _FEET,
    {
        "head_top": "neck",
        "nose": "neck",
        "left_shoulder": "neck",
        "right_shoulder": "neck",
        "left_hip": "left_shoulder",
        "right_hip": "right_shoulder",
    },
)

_J24_TREE = {
    "spine": "pelvis",
    "thorax": "spine",
    "neck": "thorax",
    "jaw": "neck",
    "head": "jaw",
    "head_top": "neck",
    "nose": "neck",
    "left_shoulder": "thorax",
    "right_shoulder": "thorax",
}

J24 = _skeleton(
    "j24",
    "The 24-joint superset of the HMR and SPIN family",
    """right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder left_shoulder
    left_elbow left_wrist neck head_top pelvis thorax spine jaw head nose left_eye right_eye left_ear right_ear""",
    _FACE,
    _LIMBS,
    _PELVIS_TREE,
    _J24_TREE,
)

J17 = _skeleton(
    "j17",
    "The 17 evaluation joints of the SPIN family",
    """right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder left_shoulder
    left_elbow left_wrist neck head pelvis spine jaw""",
    _LIMBS,
    _PELVIS_TREE,
    {
        "spine": "pelvis",
        "neck": "spine",
        "jaw": "neck",
        "head": "jaw",
        "left_shoulder": "neck",
        "right_shoulder": "neck",
    },
)

J14 = _skeleton(
    "j14",
    "The 14 evaluation joints of the HMR and SPIN family",
    """right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder left_shoulder
    left_elbow left_wrist neck head""",
    _LIMBS,
    {"head": "neck", "left_shoulder": "neck", "right_shoulder": "neck", "left_hip": "neck", "right_hip": "neck"},
)

_3DHP_TREE = {
    "spine3": "spine2",
    "spine4": "spine3",
    "spine2": "spine",
    "spine": "pelvis",
    "neck": "spine4",
    "jaw": "neck",
    "head_top": "jaw",
    "left_clavicle": "neck",
    "right_clavicle": "neck",
    "left_shoulder": "left_clavicle",
    "right_shoulder": "right_clavicle",
    "left_hand": "left_wrist",
    "right_hand": "right_wrist",
    "left_foot": "left_ankle",
    "left_toe": "left_foot",
    "right_foot": "right_ankle",
    "right_toe": "right_foot",
}

MPI_INF_3DHP28 = _skeleton(
    "mpi_inf_3dhp28",
    "MPI-INF-3DHP, the 28 joints of the training set",
    """spine3 spine4 spine2 spine pelvis neck jaw head_top left_clavicle left_shoulder left_elbow left_wrist left_hand
    right_clavicle right_shoulder right_elbow right_wrist right_hand left_hip left_knee left_ankle left_foot left_toe
    right_hip right_knee right_ankle right_foot right_toe""",
    _LIMBS,
    _PELVIS_TREE,
    _3DHP_TREE,
)

MPI_INF_3DHP17 = _skeleton(
    "mpi_inf_3dhp17",
    "MPI-INF-3DHP, the 17 joints of the test set",
    """head_top neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee
    right_ankle left_hip left_knee left_ankle pelvis spine jaw""",
    _LIMBS,
    _PELVIS_TREE,
    {
        "spine": "pelvis",
        "neck": "spine",
        "jaw": "neck",
        "head_top": "jaw",
        "left_shoulder": "neck",
        "right_shoulder": "neck",
    },
)

CATALOG: dict[str, Skeleton] = {
    skeleton.name: skeleton
    for skeleton in (
        SMPL24,
        H36M17,
        H36M32,
        MPII16,
        LSP14,
        COMMON14,
        COCO17,
        COCO18,
        BODY25,
        BODY25B,
        J24,
        J17,
        J14,
        MPI_INF_3DHP28,
        MPI_INF_3DHP17,
    )
}


def skeleton_by_name(name: str) -> Skeleton:
    """A skeleton of the catalogue; InputError lists the names that exist."""
    try:
        return CATALOG[name]
    except KeyError:
        raise InputError("unknown skeleton", got=name, accepted=sorted(CATALOG)) from None
