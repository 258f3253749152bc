"""Short registrations that start from what a network predicted (Yoshiyasu and Gamez 2019, section 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.registration.fitting import canonical
from posekit.registration.landmarks import LandmarkBlends
from posekit.registration.losses import LOSS_NAMES, hinges_of
from posekit.registration.parameters import BodyParameters
from posekit.registration.solver import Solution, Solver, SolverSettings
from posekit.registration.targets import Targets
from posekit.registration.verdicts import VerdictRules, enough_labels
from posekit.threads import side_by_side

REFINED = "refined"
WORSE = "kept, the key points would fit worse"
TOO_FEW = "kept, too few labels"
DIVERGED = "kept, the refinement diverged"

Piece = TypeVar("Piece")

_AT_ONCE = 32
"""Bodies that one core works on; a fixed number, so that results do not depend on how many cores there are."""

_KEYPOINTS = LOSS_NAMES.index("keypoints")


@dataclass(frozen=True, eq=False)
class Judged:
    """Bodies, their loss terms, and their mean distance to the labels, px of a 224 crop; NaN without labels.

    `residual_px` is over all labels, `dense_px` over correspondences alone.
    """

    parameters: BodyParameters
    losses: Float[Tensor, "B L"]
    residual_px: Float[Tensor, " B"]
    dense_px: Float[Tensor, " B"]


class Refiner:
    """Judges and refines predicted bodies under weak perspective."""

    def __init__(
        self,
        body: SegmentScaledBody,
        landmarks: LandmarkBlends,
        settings: SolverSettings,
        rules: VerdictRules,
        min_score: float = 0.0,
    ) -> None:
        self._solver = Solver(body, landmarks, hinges_of(body))
        self._device = body.template.device
        self._settings = settings
        self._rules = rules
        self._min_score = min_score

    def judge(self, targets: Targets, parameters: BodyParameters) -> Judged:
        """How well bodies fit their labels, which must be `Targets.cleaned`."""
        parts = self._in_pieces(self._judge, targets, parameters)
        names = ("losses", "residual_px", "dense_px")
        return Judged(parameters, *(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def refine(self, targets: Targets, predicted: Judged) -> tuple[Judged, list[str]]:
        """The refined bodies, and what became of each.

        A prediction is kept where there are too few labels, and where the refinement would fit the key points worse:
        correspondences that mistake left for right pull towards other poses than the key points do.
        """
        strong = torch.where(targets.point_weights >= self._min_score, targets.point_weights, 0.0)
        used = replace(targets, point_weights=strong)

        def fit(some: Targets, start: BodyParameters) -> BodyParameters:
            return canonical(self._solver.fit(some, start, self._settings).parameters)

        parts = self._in_pieces(fit, used, predicted.parameters)
        names = [part.name for part in fields(BodyParameters)]
        parameters = BodyParameters(*(torch.cat([getattr(part, name) for part in parts]) for name in names))
        refined = self.judge(targets, parameters)
        enough = enough_labels(used, self._rules)
        finite = refined.parameters.flat().isfinite().all(1) & refined.losses.isfinite().all(1)
        worse = ~(refined.losses[:, _KEYPOINTS] <= predicted.losses[:, _KEYPOINTS])
        taken = enough.to(finite.device) & finite & ~worse
        outcomes = [
            TOO_FEW if not some else DIVERGED if not good else WORSE if bad else REFINED
            for some, good, bad in zip(enough.tolist(), finite.tolist(), worse.tolist(), strict=True)
        ]
        return _where(taken, refined, predicted), outcomes

    def _in_pieces(
        self, work: Callable[[Targets, BodyParameters], Piece], targets: Targets, parameters: BodyParameters
    ) -> list[Piece]:
        size = _AT_ONCE if self._device.type == "cpu" else max(1, len(targets))

        def piece(rows: Tensor) -> Piece:
            return work(targets.select(rows).to(self._device), parameters.select(rows.to(self._device)))

        return side_by_side(piece, torch.split(torch.arange(len(targets)), size), self._device)

    def _judge(self, targets: Targets, parameters: BodyParameters) -> Judged:
        whole = self._solver.evaluate(targets, parameters, self._settings)
        alone = replace(targets, keypoint_weights=torch.zeros_like(targets.keypoint_weights))
        dense = self._solver.evaluate(alone, parameters, self._settings)
        points = (targets.point_weights > 0).flatten(1).any(1)
        keypoints = (targets.keypoint_weights > 0).flatten(1).any(1)
        return Judged(
            parameters,
            whole.losses,
            _or_nan(whole, points | keypoints),
            _or_nan(dense, points),
        )


def _or_nan(solution: Solution, there: Bool[Tensor, " B"]) -> Float[Tensor, " B"]:
    return torch.where(there, solution.residual_px, torch.nan)


def _where(mask: Bool[Tensor, " B"], first: Judged, second: Judged) -> Judged:
    return Judged(
        first.parameters.where(mask, second.parameters),
        torch.where(mask[:, None], first.losses, second.losses),
        torch.where(mask, first.residual_px, second.residual_px),
        torch.where(mask, first.dense_px, second.dense_px),
    )
