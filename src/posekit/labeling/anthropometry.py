"""What is known of people in general: the lengths of limbs and the likeness of left and right."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from posekit.errors import DataError
from posekit.skeleton.skeleton import Skeleton, mirrored

LIMB_LENGTHS = {
    ("hip", "knee"): 0.4429,
    ("knee", "ankle"): 0.4542,
    ("shoulder", "elbow"): 0.2789,
    ("elbow", "wrist"): 0.2517,
}
"""Metres, of the skeleton that the exponential maps of Human3.6M are commonly decoded with."""

_LIMB_LENGTHS_OF_STATURE = {
    ("hip", "knee"): 0.245,
    ("knee", "ankle"): 0.246,
    ("shoulder", "elbow"): 0.186,
    ("elbow", "wrist"): 0.146,
}
"""Shares of the stature (Drillis and Contini 1966)."""

CANONICAL_STATURE = sum(LIMB_LENGTHS.values()) / sum(_LIMB_LENGTHS_OF_STATURE.values())
"""Metres; the stature of a person whose limbs are together as long as those of `LIMB_LENGTHS`."""

REASONS = ("", "no pelvis or hips", "over a quarter of the joints dropped", "left and right limbs unlike")
PLAUSIBLE = 0

_SIDE_RATIO = (0.6, 1.67)
_MAX_DROPPED_SHARE = 0.25


def metric_scale(joints: Float[np.ndarray, "T J 3"], skeleton: Skeleton, *, stature: float | None = None) -> float:
    """Metres per unit of joints of one person in an unknown unit; NaN joints are ignored.

    The median lengths of the limbs that the skeleton has are compared with the canonical ones, or with those of a person
    of the given stature (m). Raises DataError when no limb was ever seen whole.
    """
    expected = measured = 0.0
    for (upper, lower), canonical in LIMB_LENGTHS.items():
        if stature is not None:
            canonical = stature * _LIMB_LENGTHS_OF_STATURE[upper, lower]
        for side in ("left_", "right_"):
            if side + upper not in skeleton or side + lower not in skeleton:
                continue
            ends = skeleton.indices(side + upper, side + lower)
            lengths = np.linalg.norm(joints[:, ends[0]] - joints[:, ends[1]], axis=-1)
            lengths = lengths[np.isfinite(lengths)]
            if len(lengths):
                expected += canonical
                measured += float(np.median(lengths))
    if not measured > 0:
        raise DataError(
            "no limb was seen whole, so the size of the person is unknown",
            accepted="both ends of a thigh, shank, upper arm or forearm",
            hint="Give a known baseline, or use more frames",
        )
    return expected / measured


def root_joints(skeleton: Skeleton) -> tuple[int, ...]:
    """The joints whose middle is the root: the pelvis, or both hips where there is none."""
    for name in ("pelvis", "mid_hip"):
        if name in skeleton:
            return skeleton.indices(name)
    return skeleton.indices("left_hip", "right_hip")


def limb_pairs(skeleton: Skeleton) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
    """Every bone of the left side with its counterpart on the right."""
    found = []
    for parent, child in skeleton.bones:
        names = skeleton.joints[parent], skeleton.joints[child]
        twins = mirrored(names[0]), mirrored(names[1])
        if (
            skeleton.side(names[1]) == "left"
            and skeleton.side(names[0]) == "left"
            and all(t in skeleton for t in twins)
        ):
            found.append(((parent, child), (skeleton.index(twins[0]), skeleton.index(twins[1]))))
    return tuple(found)


def plausible_frames(
    joints: Float[np.ndarray, "T J 3"], expected: Bool[np.ndarray, "T J"], skeleton: Skeleton
) -> Bool[np.ndarray, "T"]:
    """Which frames have a root, lack at most a quarter of the joints `expected`, and limbs alike on both sides.

    Joints are NaN where they were dropped.
    """
    return why_implausible(joints, expected, skeleton) == PLAUSIBLE


def why_implausible(
    joints: Float[np.ndarray, "T J 3"], expected: Bool[np.ndarray, "T J"], skeleton: Skeleton
) -> Int[np.ndarray, "T"]:
    """What is wrong with each frame, by index in `REASONS`: the first that applies; see `plausible_frames`."""
    given = np.isfinite(joints).all(axis=-1)
    unlike = np.zeros(len(joints), dtype=bool)
    for left, right in limb_pairs(skeleton):
        if (
            skeleton.joints[left[0]].removeprefix("left_"),
            skeleton.joints[left[1]].removeprefix("left_"),
        ) in LIMB_LENGTHS:
            lengths = [np.linalg.norm(joints[:, a] - joints[:, b], axis=-1) for a, b in (left, right)]
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = lengths[0] / lengths[1]
            unlike |= (ratio < _SIDE_RATIO[0]) | (ratio > _SIDE_RATIO[1])
    dropped = (expected & ~given).sum(axis=1)
    too_few = dropped > _MAX_DROPPED_SHARE * np.maximum(expected.sum(axis=1), 1)
    rootless = ~given[:, list(root_joints(skeleton))].all(axis=1)
    return np.select([rootless, too_few, unlike], [1, 2, 3], PLAUSIBLE)
