"""From bodies of a data set to rows of a fits artifact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import BodyData
from posekit.body.surface import atlas_of
from posekit.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle
from posekit.registration.bodies import BodyRows
from posekit.registration.initial import resting, start_from_labels
from posekit.registration.labels import LabelReader
from posekit.registration.landmarks import LandmarkBlends
from posekit.registration.losses import hinges_of
from posekit.registration.parameters import BodyParameters
from posekit.registration.solver import Solution, Solver, SolverSettings
from posekit.registration.targets import Targets
from posekit.registration.verdicts import DIVERGED, OK, TOO_FEW, VerdictRules, enough_labels, verdicts
from posekit.registration.warm import Start, StartReader
from posekit.threads import side_by_side

_CPU_BODIES = 32
"""Bodies fitted at once by one core; more bring no more speed."""


@dataclass(frozen=True)
class FitterSettings:
    """How bodies are fitted; `starts` T-poses of different yaw are tried where nothing tells the orientation.

    `warm` holds for bodies that have a start already; with `compete` the T-poses are tried for these, too, and the lowest
    loss wins.
    """

    solver: SolverSettings
    rules: VerdictRules
    starts: int = 1
    batch: int = 64
    warm: SolverSettings | None = None
    compete: bool = False


@dataclass(frozen=True, eq=False)
class PersonShapes:
    """One shape per person: segment scales and betas, and (calibrated cameras) the global scale, which is else free."""

    parameters: BodyParameters
    held: tuple[str, ...]


class BodyFitter:
    """Fits bodies of one data set, from `starts` where there are some."""

    def __init__(
        self,
        body: SegmentScaledBody,
        landmarks: LandmarkBlends,
        reader: LabelReader,
        settings: FitterSettings,
        starts: StartReader | None = None,
    ) -> None:
        self.body = body
        self.reader = reader
        self.settings = settings
        self.solver = Solver(body, landmarks, hinges_of(body))
        self._starts = starts
        parts = vertex_parts(body.body)
        self._parts = None if parts is None else torch.from_numpy(parts).to(body.template.device)

    def columns(
        self, bodies: BodyRows, shapes: PersonShapes | None = None, persons: Int[np.ndarray, " N"] | None = None
    ) -> dict[str, Any]:
        """Rows of the table `fits`, one for each body; `persons` are the rows of `shapes`."""
        targets, crops = self.reader.read(bodies)
        starts = None if self._starts is None else self._starts.read(bodies, crops)
        linked = bool(self.settings.solver.weights.temporal)
        chunk = len(bodies) if linked else self.settings.batch
        device = self.body.template.device
        if device.type == "cpu" and not linked:
            # Pieces that every core gets some of. They must not depend on the number of cores, nor must the result.
            chunk = min(chunk, _CPU_BODIES)

        def fit(rows: Tensor) -> tuple[Solution, list[str]]:
            own = None if shapes is None or persons is None else torch.as_tensor(persons)[rows]
            warm = None if starts is None else starts.select(rows).to(self.body.template)
            return self._fit(self._on_device(targets.select(rows)), warm, shapes, own)

        fitted = side_by_side(fit, torch.split(torch.arange(len(bodies)), chunk), device)
        solutions = [solution for solution, _ in fitted]
        reasons = [reason for _, verdict in fitted for reason in verdict]
        columns = {
            "sequence": bodies.sequence,
            "frame": bodies.frame,
            "person": bodies.person,
            "camera": bodies.camera,
            **_columns_of(solutions),
            "ok": [reason == OK for reason in reasons],
            "reason": reasons,
        }
        return columns | {"crop_from_image": crops[:, 0]} if targets.weak else columns

    def shapes(self, bodies: BodyRows, persons: Int[np.ndarray, " N"], frames: int) -> PersonShapes:
        """The shape of every person (numbered from 0), from up to `frames` instants of each, fitted together."""

        def shape_of(person: int) -> BodyParameters:
            rows = np.flatnonzero(persons == person)
            chosen = rows[np.unique(np.linspace(0, len(rows) - 1, frames).round().astype(int))]
            targets = self._on_device(self.reader.read(bodies.select(chosen))[0])
            enough = enough_labels(targets, self.settings.rules, self._parts)
            targets = targets.select(enough.nonzero()[:, 0])
            return self._shape(targets) if len(targets) else resting(self.body, 1)

        found = side_by_side(shape_of, range(int(persons.max()) + 1), self.body.template.device)
        parts = [np.stack([getattr(p, name)[0].cpu().numpy() for p in found]) for name in _PARTS]
        shape = BodyParameters(*(torch.from_numpy(part).to(self.body.template) for part in parts))
        weak = self.reader.source.weak
        return PersonShapes(shape, ("segment_scales", "betas") if weak else ("segment_scales", "betas", "scale"))

    def _shape(self, targets: Targets) -> BodyParameters:
        start = self._start(targets, 0.0)
        if not targets.weak:
            start = replace(start, scale=start.scale.median().expand(len(start)).contiguous())
        one = torch.zeros(len(targets), dtype=torch.long, device=start.scale.device)
        return self.solver.fit(targets, start, self.settings.solver, shared_shape=one).parameters

    def _fit(
        self, targets: Targets, warm: Start | None, shapes: PersonShapes | None, persons: Tensor | None
    ) -> tuple[Solution, list[str]]:
        own: dict[str, Tensor] = {}
        if shapes is not None and persons is not None:
            shape = shapes.parameters.select(persons.to(self.body.template.device))
            own = {name: getattr(shape, name) for name in shapes.held}
        found = torch.zeros(len(targets), dtype=torch.bool, device=self.body.template.device)
        found = found if warm is None else warm.found
        pieces: list[Solution] = []
        if warm is not None and found.any():
            rows = found.nonzero()[:, 0]
            pieces.append(self._from_start(targets.select(rows), warm.parameters.select(rows), _rows_of(own, rows)))
        if not found.all():
            rows = (~found).nonzero()[:, 0]
            pieces.append(self._from_labels(targets.select(rows), _rows_of(own, rows)))
        best = _joined(pieces, torch.cat([found.nonzero()[:, 0], (~found).nonzero()[:, 0]]))
        reasons = verdicts(best, targets, self.settings.rules, self._parts)
        unusable = torch.tensor([reason in (TOO_FEW, DIVERGED) for reason in reasons], device=best.total.device)
        # What is stored must be finite, whatever became of the fit.
        kept = resting(self.body, len(targets)).where(unusable, best.parameters)
        return replace(best, parameters=kept), reasons

    def _from_start(self, targets: Targets, start: BodyParameters, own: dict[str, Tensor]) -> Solution:
        settings = _holding(self.settings.warm or self.settings.solver, own)
        solution = self.solver.fit(targets, replace(start, **own), settings)
        return _better(self._from_labels(targets, own), solution) if self.settings.compete else solution

    def _from_labels(self, targets: Targets, own: dict[str, Tensor]) -> Solution:
        """The best of all T-poses, or from 3D joints."""
        settings = _holding(self.settings.solver, own)
        best: Solution | None = None
        for number in range(self.settings.starts):
            start = self._start(targets, 2.0 * math.pi * number / self.settings.starts)
            solution = self.solver.fit(targets, replace(start, **own), settings)
            best = solution if best is None else _better(solution, best)
        assert best is not None
        return best

    def _start(self, targets: Targets, yaw: float) -> BodyParameters:
        return start_from_labels(self.body, self.solver.landmarks, self.solver.hinges, targets, yaw)

    def _on_device(self, targets: Targets) -> Targets:
        return targets.to(self.body.template.device)


_PARTS = ("pose", "segment_scales", "betas", "orientation", "translation", "scale")


def _holding(settings: SolverSettings, own: dict[str, Tensor]) -> SolverSettings:
    return replace(settings, held=tuple(own), fit_betas=False) if own else settings


def _rows_of(own: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: values[rows] for name, values in own.items()}


def _joined(pieces: Sequence[Solution], rows: Int[Tensor, " B"]) -> Solution:
    """Solutions of parts of a batch as one; `rows` are the places of all their bodies in turn."""
    back = rows.argsort()

    def whole(*parts: Tensor) -> Tensor:
        return torch.cat(parts)[back]

    return Solution(
        BodyParameters(*(whole(*(getattr(piece.parameters, name) for piece in pieces)) for name in _PARTS)),
        whole(*(piece.losses for piece in pieces)),
        whole(*(piece.total for piece in pieces)),
        whole(*(piece.residual_px for piece in pieces)),
    )


def _better(first: Solution, second: Solution) -> Solution:
    wins = ~(second.total <= first.total)  # a NaN loses
    return Solution(
        first.parameters.where(wins, second.parameters),
        torch.where(wins[:, None], first.losses, second.losses),
        torch.where(wins, first.total, second.total),
        torch.where(wins, first.residual_px, second.residual_px),
    )


def _columns_of(solutions: Sequence[Solution]) -> dict[str, Any]:
    parameters = [canonical(solution.parameters) for solution in solutions]
    columns: dict[str, Any] = {
        name: torch.cat([getattr(part, name) for part in parameters]).cpu().numpy() for name in _PARTS
    }
    columns["losses"] = torch.cat([solution.losses for solution in solutions]).nan_to_num().cpu().numpy()
    columns["residual_px"] = torch.cat([solution.residual_px for solution in solutions]).cpu().numpy()
    return columns


def vertex_parts(body: BodyData) -> Int[np.ndarray, " V"] | None:
    """The part of each vertex in the atlas of 24 parts, 0 for none; None for a body without atlas."""
    if body.face_part is None or body.face_part_uv is None:
        return None
    parts = np.zeros(body.vertex_count, np.int64)
    atlas = atlas_of(body)
    parts[: atlas.vertex_count] = atlas.vertex_part
    return parts


def canonical(parameters: BodyParameters) -> BodyParameters:
    """The one of all equal bodies that is stored: mean segment scale 1, angles up to pi, an orthonormal orientation."""
    scaled = parameters.with_mean_scale_one()
    pose = axis_angle_from_matrix(matrix_from_axis_angle(scaled.pose))
    return replace(scaled, pose=pose, orientation=scaled.rotation)
