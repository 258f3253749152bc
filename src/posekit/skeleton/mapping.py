"""From one joint order to another, by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from posekit.errors import InputError
from posekit.skeleton.skeleton import Skeleton

MIDPOINTS = {
    "pelvis": ("left_hip", "right_hip"),
    "mid_hip": ("left_hip", "right_hip"),
    "thorax": ("left_shoulder", "right_shoulder"),
    "mid_shoulder": ("left_shoulder", "right_shoulder"),
}
"""Joints that may be made from two others where a source lacks them."""

SYNONYMS = {"pelvis": "mid_hip", "mid_hip": "pelvis"}
"""Joints that mean the same point under the names of different tools."""

ACCEPTED_SUBSTITUTES: dict[tuple[str, str], dict[str, str]] = {
    ("h36m17", "mpii16"): {"neck": "jaw", "head_top": "head"},
    ("h36m17", "lsp14"): {"neck": "thorax", "head_top": "head"},
    ("h36m17", "j14"): {"neck": "thorax"},
    ("h36m17", "j17"): {"neck": "thorax"},
    ("h36m17", "j24"): {"neck": "thorax"},
    ("h36m32", "j24"): {"neck": "thorax"},
    ("mpi_inf_3dhp28", "j24"): {"head": "head_top"},
    ("mpi_inf_3dhp17", "j24"): {"head": "head_top"},
}
"""(source, target) -> target joint: source joint. Different points that published work equates; the upper neck of MPII is
compared with the neck/nose point of Human3.6M, for example."""

NOT_TAKEN: dict[tuple[str, str], frozenset[str]] = {
    ("h36m17", "j24"): frozenset({"thorax"}),
    ("h36m32", "j24"): frozenset({"thorax"}),
    ("mpi_inf_3dhp28", "j24"): frozenset({"head_top", "thorax"}),
    ("mpi_inf_3dhp17", "j24"): frozenset({"head_top", "thorax"}),
}
"""Target joints that stay empty although a source could fill them: their values go to another slot by convention."""


@dataclass(frozen=True)
class JointMap:
    """A linear map from the joints of one skeleton to those of another.

    `matrix` (target joints x source joints) has rows that sum to one, or to zero where `available` is False.
    """

    source: Skeleton
    target: Skeleton
    matrix: Float[np.ndarray, "Jt Js"]
    available: Bool[np.ndarray, "Jt"]

    def points(self, values: Float[np.ndarray, "*batch Js D"]) -> Float[np.ndarray, "*batch Jt D"]:
        """Coordinates in the target order; NaN for joints that the source cannot give."""
        selected = np.full((*values.shape[:-2], len(self.target), values.shape[-1]), np.nan, dtype=values.dtype)
        for row in np.flatnonzero(self.available):
            used = np.flatnonzero(self.matrix[row])
            # Row by row, so that a NaN joint spoils only those made from it.
            selected[..., row, :] = np.tensordot(values[..., used, :], self.matrix[row, used], axes=([-2], [0]))
        return selected

    def confidences(self, values: Float[np.ndarray, "*batch Js"]) -> Float[np.ndarray, "*batch Jt"]:
        """Confidences in the target order: the least of the joints used, 0 for joints that the source cannot give."""
        selected = np.zeros((*values.shape[:-1], len(self.target)), dtype=values.dtype)
        for row in np.flatnonzero(self.available):
            selected[..., row] = values[..., np.flatnonzero(self.matrix[row])].min(axis=-1)
        return selected


def joint_map(source: Skeleton, target: Skeleton, *, require_all: bool = False) -> JointMap:
    """The map from one skeleton to another by joint name.

    A joint is taken by its own name, by a synonym, by a substitute that published work accepts for this pair, or as the
    middle of two joints. With `require_all`, InputError names the joints that the source cannot give.
    """
    matrix = np.zeros((len(target), len(source)))
    substitutes = ACCEPTED_SUBSTITUTES.get((source.name, target.name), {})
    left_empty = NOT_TAKEN.get((source.name, target.name), frozenset())
    for row, joint in enumerate(target.joints):
        if joint in left_empty:
            continue
        candidates = (substitutes.get(joint), joint, SYNONYMS.get(joint))
        found = next((name for name in candidates if name is not None and name in source), None)
        if found is not None:
            matrix[row, source.index(found)] = 1.0
        elif joint in MIDPOINTS and all(end in source for end in MIDPOINTS[joint]):
            matrix[row, list(source.indices(*MIDPOINTS[joint]))] = 0.5
    available = np.asarray(matrix.any(axis=1))
    if require_all and not available.all():
        missing = [joint for joint, there in zip(target.joints, available, strict=True) if not there]
        raise InputError(f"skeleton {source.name} cannot give every joint of {target.name}", got=missing)
    return JointMap(source=source, target=target, matrix=matrix, available=available)
