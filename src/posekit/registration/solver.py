"""Fits many independent bodies at once by Adam."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.registration import losses
from posekit.registration.landmarks import LandmarkBlends
from posekit.registration.losses import LOSS_NAMES, Hinges, Weights
from posekit.registration.matched import MatchedBody, Posed, ShapedMatchedBody
from posekit.registration.parameters import LARGEST_SEGMENT, SMALLEST_SEGMENT, BodyParameters
from posekit.registration.targets import PX_PER_UNIT, Targets

Stiffness = Literal["anneal", "constant", "none"]
Decay = Literal["cosine", "none"]

_BETA1, _EPSILON = 0.9, 1e-8
_HOLD_SHARE = 0.5
_STIFF_SHARE = 1.0 / 3.0
_ROBUST_FROM, _ROBUST_BY = 10.0, 0.5
"""The robust scale starts this many times wider and has its own value after this share of the iterations."""


@dataclass(frozen=True)
class SolverSettings:
    """How the objective is minimised.

    `stiff` puts `stiff_scale` and `stiff_pose` in the place of the scale and pose weights: for the first third of the
    iterations (anneal), for all of them (constant), or never; it is for starts that are far off. `robust_px` (pixels of a
    224 crop; for 3D joints the same in crop units is taken as metres, which half a person box is about) makes labels that
    are much further off count for little. `decay` lowers the learning rate to zero over the second half. A `beta2` below
    Adam's usual 0.999 forgets the large gradients of the start, and so takes three times fewer iterations. `held` names
    the parts of the parameters that keep their values.
    """

    weights: Weights = field(default_factory=Weights)
    iterations: int = 300
    lr: float = 0.1
    beta2: float = 0.95
    decay: Decay = "cosine"
    stiff: Stiffness = "anneal"
    stiff_scale: float = 100.0
    stiff_pose: float = 1.0
    robust_px: float | None = None
    fit_betas: bool = False
    held: tuple[str, ...] = ()

    def weights_at(self, progress: float) -> Weights:
        """The weights after a share of the iterations."""
        if self.stiff == "constant" or (self.stiff == "anneal" and progress < _STIFF_SHARE):
            return replace(self.weights, scale=self.stiff_scale, pose=self.stiff_pose)
        return self.weights

    def robust_at(self, progress: float) -> float | None:
        """The robust scale in crop units after a share of the iterations: wide first, so that no start is locked out."""
        if self.robust_px is None:
            return None
        return self.robust_px / PX_PER_UNIT * _ROBUST_FROM ** max(0.0, 1.0 - progress / _ROBUST_BY)

    def lr_at(self, progress: float) -> float:
        """The learning rate after a share of the iterations."""
        if self.decay == "none" or progress < _HOLD_SHARE:
            return self.lr
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * (progress - _HOLD_SHARE) / (1.0 - _HOLD_SHARE)))


@dataclass(frozen=True, eq=False)
class Solution:
    """Fitted parameters, their final loss terms (unweighted, in the order of `LOSS_NAMES`), and how near they came.

    `residual_px` is the mean distance (weighted by confidence) of projected points to the labels, in pixels of a 224 crop.
    """

    parameters: BodyParameters
    losses: Float[Tensor, "B L"]
    total: Float[Tensor, " B"]
    residual_px: Float[Tensor, " B"]


class Solver:
    """The objective for one body model and one set of landmarks."""

    def __init__(self, body: SegmentScaledBody, landmarks: LandmarkBlends, hinges: Hinges) -> None:
        self.body = body
        self.landmarks = landmarks
        self.hinges = hinges
        self._parents = torch.tensor(body.kinematics.parents[1:], dtype=torch.long, device=body.template.device)

    def fit(
        self,
        targets: Targets,
        start: BodyParameters,
        settings: SolverSettings,
        *,
        shared_shape: Int[Tensor, " B"] | None = None,
    ) -> Solution:
        """What a descent from `start` reaches.

        `shared_shape` gives each body the number of a person (from 0): bodies of one person, whose starts must have the
        same shape, keep one shape, which all their labels pull at. Labels must be `Targets.cleaned`.
        """
        model = self._model(targets, start, settings)
        flat = start.flat().detach().clone()
        adam = _Adam(flat, settings.beta2)
        free = _free(start, targets, settings)
        scales = start.columns("segment_scales")
        for step in range(settings.iterations):
            progress = step / settings.iterations
            gradient = self._gradient(flat.requires_grad_(), start, model, targets, settings, progress)
            flat = flat.detach()
            gradient.mul_(free)
            if shared_shape is not None:
                shape = ("segment_scales", "betas") if targets.weak else ("segment_scales", "betas", "scale")
                _share(gradient, start.columns(*shape), shared_shape)
            adam.step(flat, gradient, settings.lr_at(progress))
            flat[:, scales] = flat[:, scales].clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT)
        return self.evaluate(targets, start.from_flat(flat), settings)

    @torch.no_grad()
    def evaluate(self, targets: Targets, parameters: BodyParameters, settings: SolverSettings) -> Solution:
        """The losses and residuals of given parameters."""
        posed = self._model(targets, parameters, replace(settings, fit_betas=False)).pose(parameters)
        every = settings.weights.every()
        terms = self._terms(posed, parameters, targets, every, None)
        robust = self._terms(posed, parameters, targets, every, settings.robust_at(1.0))
        total = (robust * settings.weights.vector(robust)).sum(1)
        return Solution(parameters, terms, total, losses.residual_px(posed, parameters, targets))

    def _model(
        self, targets: Targets, start: BodyParameters, settings: SolverSettings
    ) -> MatchedBody | ShapedMatchedBody:
        vertices = targets.vertices.flatten(1)
        if settings.fit_betas:
            return ShapedMatchedBody(self.body, self.landmarks, vertices)
        return MatchedBody(self.body, self.landmarks, vertices, start.betas)

    def _gradient(
        self,
        flat: Float[Tensor, "B N"],
        start: BodyParameters,
        model: MatchedBody | ShapedMatchedBody,
        targets: Targets,
        settings: SolverSettings,
        progress: float,
    ) -> Float[Tensor, "B N"]:
        parameters = start.from_flat(flat)
        weights = settings.weights_at(progress)
        terms = self._terms(model.pose(parameters), parameters, targets, weights, settings.robust_at(progress))
        # Bodies do not depend on each other, so the gradient of the sum is every body's own.
        return torch.autograd.grad((terms * weights.vector(terms)).sum(), flat)[0]

    def _terms(
        self,
        posed: Posed,
        parameters: BodyParameters,
        targets: Targets,
        weights: Weights,
        robust: float | None,
    ) -> Float[Tensor, "B L"]:
        dense, keypoints, joints = losses.data_losses(posed, parameters, targets, robust)
        terms = {
            "dense": dense,
            "keypoints": keypoints,
            "depth" if targets.weak else "joints3d": joints,
            "scale": losses.scale_loss(parameters.segment_scales, self._parents),
            "pose": losses.pose_loss(parameters.pose, self.hinges, weights.squared_limits, weights.limits),
        }
        if weights.hinge:
            terms["hinge"] = losses.hinge_loss(parameters.pose, self.hinges)
        if weights.det:
            terms["det"] = losses.determinant_loss(parameters.orientation)
        if weights.size:
            terms["size"] = losses.size_loss(parameters)
        if weights.shape:
            terms["shape"] = parameters.betas.square().sum(1)
        if weights.temporal:
            terms["temporal"] = losses.temporal_loss(posed, parameters, targets)
        absent = torch.zeros_like(keypoints)
        return torch.stack([terms.get(name, absent) for name in LOSS_NAMES], dim=1)


def _free(start: BodyParameters, targets: Targets, settings: SolverSettings) -> Float[Tensor, " N"]:
    """1 for the numbers that may move, 0 for those held."""
    free = torch.ones_like(start.flat()[0])
    free[start.columns("pose")[:3]] = 0.0
    if not settings.fit_betas:
        free[start.columns("betas")] = 0.0
    if settings.held:
        free[start.columns(*settings.held)] = 0.0
    if targets.weak:
        free[start.columns("translation")[2:]] = 0.0
    return free


def _share(gradient: Float[Tensor, "B N"], columns: Int[Tensor, " S"], groups: Int[Tensor, " B"]) -> None:
    """Gives every body its group's mean gradient in some columns."""
    total = gradient.new_zeros((int(groups.max()) + 1, len(columns)))
    total.index_add_(0, groups, gradient[:, columns])
    count = torch.bincount(groups).to(gradient.dtype)
    gradient[:, columns] = (total / count[:, None])[groups]


class _Adam:
    """Adam (Kingma and Ba 2015) on one tensor."""

    def __init__(self, flat: Float[Tensor, "B N"], beta2: float) -> None:
        self._first = torch.zeros_like(flat)
        self._second = torch.zeros_like(flat)
        self._beta2 = beta2
        self._count = 0

    def step(self, flat: Float[Tensor, "B N"], gradient: Float[Tensor, "B N"], lr: float) -> None:
        """One step, in place."""
        self._count += 1
        self._first.lerp_(gradient, 1.0 - _BETA1)
        self._second.mul_(self._beta2).addcmul_(gradient, gradient, value=1.0 - self._beta2)
        rate = lr * math.sqrt(1.0 - self._beta2**self._count) / (1.0 - _BETA1**self._count)
        flat.addcdiv_(self._first, self._second.sqrt().add_(_EPSILON), value=-rate)
