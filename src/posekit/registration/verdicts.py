"""Which fits may be used, and why others may not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from posekit.registration.parameters import LARGEST_SEGMENT, SMALLEST_SEGMENT
from posekit.registration.solver import Solution
from posekit.registration.targets import Targets

OK = ""
TOO_FEW = "too few labels"
DIVERGED = "diverged"
RESIDUAL = "residual too large"
SEGMENT = "segment scale at its limit"
REASONS = (TOO_FEW, DIVERGED, RESIDUAL, SEGMENT)
"""Why a fit may not be used, in the order in which reasons are looked for; the first one counts."""

_TOUCHING = 1e-4


@dataclass(frozen=True)
class VerdictRules:
    """What a fit must meet: the residual in pixels of a 224 crop, and labels.

    Either labels of so many joints are enough, or so many points on so many parts of the body. Where landmarks are
    `needed` (by index), a fit must have the key points of all of them, and the points besides.
    """

    max_residual_px: float = 15.0
    min_joints: int = 8
    min_points: int = 15
    min_parts: int = 5
    needed: tuple[int, ...] = ()


def enough_labels(
    targets: Targets, rules: VerdictRules, vertex_part: Int[Tensor, " V"] | None = None
) -> Bool[Tensor, " B"]:
    """Whether bodies have labels enough to be fitted; `targets` must be cleaned.

    `vertex_part` is the part of each vertex, 0 for none; without it parts are not counted.
    """
    seen = (targets.keypoint_weights > 0).any(1)
    present = (targets.point_weights > 0).flatten(1)
    points = present.sum(1) >= rules.min_points
    if vertex_part is not None:
        points = points & (_parts_seen(targets, present, vertex_part) >= rules.min_parts)
    if rules.needed:
        return seen[:, list(rules.needed)].all(1) & points
    joints = seen | (targets.joint_weights > 0).all(-1)
    return (joints.sum(1) >= rules.min_joints) | points


def _parts_seen(targets: Targets, present: Bool[Tensor, "B M"], vertex_part: Int[Tensor, " V"]) -> Int[Tensor, " B"]:
    counts = present.new_zeros((len(targets), int(vertex_part.max()) + 1), dtype=torch.long)
    counts.scatter_add_(1, vertex_part[targets.vertices.flatten(1)], present.long())
    return (counts[:, 1:] > 0).sum(1)


def verdicts(
    solution: Solution, targets: Targets, rules: VerdictRules, vertex_part: Int[Tensor, " V"] | None = None
) -> list[str]:
    """For each fit the reason why it may not be used, or an empty text."""
    fitted = solution.parameters
    finite = fitted.flat().isfinite().all(1) & solution.total.isfinite() & solution.residual_px.isfinite()
    inside = (fitted.segment_scales > SMALLEST_SEGMENT + _TOUCHING) & (
        fitted.segment_scales < LARGEST_SEGMENT - _TOUCHING
    )
    bad = {
        TOO_FEW: ~enough_labels(targets, rules, vertex_part),
        DIVERGED: ~finite,
        RESIDUAL: ~(solution.residual_px < rules.max_residual_px),
        SEGMENT: ~inside.all(1),
    }
    flags = torch.stack([bad[reason] for reason in REASONS], dim=1).tolist()
    return [next((reason for reason, holds in zip(REASONS, row, strict=True) if holds), OK) for row in flags]
