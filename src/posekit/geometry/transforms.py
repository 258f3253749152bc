"""Similarities (scale, rotation, translation) and their least-squares fit, for very many small point sets at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posekit.threads import side_by_side

Result = TypeVar("Result")

_CHUNK, _CHUNK_POINTS = 4096, 4096 * 32
"""Point sets, and points, worked on at a time, so that the intermediate results stay in the processor's cache."""

_NEWTON_STEPS = 14
_SETTLED = 1e-10
"""Newton's method squares its error: after a step this small the root is exact to the last digits."""

_AMBIGUOUS = 1e-5
"""Below this product of the pairwise sums of the (relative) singular values the closed form loses too many digits."""

_UNCONVERGED = 1e-5
"""A last step above this part of that product leaves more error than the final correction can remove."""

_POINTLIKE = 1e-12
"""Point sets of a spread below this, relative to their distance from the origin, are one point."""


class Similarity(NamedTuple):
    """``target = scale * rotation @ source + translation``; `degenerate` marks fits that no rotation could be had from."""

    scale: Float[Tensor, "*batch"]
    rotation: Float[Tensor, "*batch 3 3"]
    translation: Float[Tensor, "*batch 3"]
    degenerate: Bool[Tensor, "*batch"]

    def apply(self, points: Float[Tensor, "*batch N 3"]) -> Float[Tensor, "*batch N 3"]:
        """Points of the source in the target's frame."""
        # One product with homogeneous coordinates is three times faster than product, scaling and sum for small sets.
        linear = self.scale[..., None, None] * self.rotation.transpose(-1, -2)
        matrix = torch.cat([linear, self.translation[..., None, :]], dim=-2)
        return torch.nn.functional.pad(points, (0, 1), value=1.0) @ matrix

    def inverse(self) -> Similarity:
        """The similarity that leads back; where the scale is zero, one that sends everything to the origin."""
        shrinks = torch.where(self.scale > 0, self.scale, torch.ones_like(self.scale))
        scale = torch.where(self.scale > 0, 1.0 / shrinks, torch.zeros_like(self.scale))
        back = self.rotation.transpose(-1, -2)
        translation = -scale[..., None] * (back @ self.translation[..., None])[..., 0]
        return Similarity(scale, back, translation, self.degenerate)


def fit_similarity(
    source: Float[Tensor, "*batch N 3"],
    target: Float[Tensor, "*batch N 3"],
    weights: Float[Tensor, "*batch N"] | None = None,
    *,
    with_scale: bool = True,
) -> Similarity:
    """Similarity that brings each source set nearest to its target in the (weighted) least-squares sense.

    Never a reflection. Points of weight zero are ignored even where they are NaN; a NaN of positive weight makes its own
    set's result NaN. Sets that are a single point (or have no weight) are flagged degenerate and go to the target's mean
    without a turn. Differentiable, at double precision inside. The rotation is the closed form of Markley 1993 (FOAM)
    with one Newton step on the rotation group, or the SVD (Umeyama 1991) where two rotations are nearly as good.
    """
    batch = source.shape[:-2]
    chunks = _by_chunks(lambda p, q, w: _fit_chunk(p, q, w, with_scale), source, target, weights)
    scale, rotation, translation, degenerate = (torch.cat(parts) for parts in zip(*chunks, strict=True))
    return Similarity(
        scale.to(source.dtype).reshape(batch),
        rotation.to(source.dtype).reshape(*batch, 3, 3),
        translation.to(source.dtype).reshape(*batch, 3),
        degenerate.reshape(batch),
    )


def similarity_distances(
    source: Float[Tensor, "*batch N 3"],
    target: Float[Tensor, "*batch N 3"],
    weights: Float[Tensor, "*batch N"] | None = None,
) -> Float[Tensor, "*batch N"]:
    """Distances of points after the similarity that `fit_similarity` finds, in less time than by applying it.

    Those of points of weight zero mean nothing.
    """
    return torch.cat(_by_chunks(_distances_chunk, source, target, weights)).reshape(source.shape[:-1])


def _by_chunks(
    work: Callable[[Tensor, Tensor, Tensor | None], Result],
    source: Float[Tensor, "*batch N 3"],
    target: Float[Tensor, "*batch N 3"],
    weights: Float[Tensor, "*batch N"] | None,
) -> list[Result]:
    count = source.shape[-2]
    flat_source, flat_target = source.reshape(-1, count, 3), target.reshape(-1, count, 3)
    flat_weights = None if weights is None else weights.reshape(-1, count)
    step = max(1, min(_CHUNK, _CHUNK_POINTS // max(count, 1)))

    def work_on(start: int) -> Result:
        piece = slice(start, start + step)
        return work(flat_source[piece], flat_target[piece], None if flat_weights is None else flat_weights[piece])

    return side_by_side(work_on, range(0, max(len(flat_source), 1), step), source.device)


class _Centred(NamedTuple):
    """Point sets about their means. Coordinates first, sets last: operations then run over long contiguous rows."""

    p: Float[Tensor, "3 N B"]
    q: Float[Tensor, "3 N B"]
    weighted: Float[Tensor, "3 N B"]
    p_mean: Float[Tensor, "3 B"]
    q_mean: Float[Tensor, "3 B"]
    some: Bool[Tensor, "B"]


def _fit_chunk(
    source: Float[Tensor, "B N 3"],
    target: Float[Tensor, "B N 3"],
    weights: Float[Tensor, "B N"] | None,
    with_scale: bool,
) -> Similarity:
    sets = _centred(source, target, weights)
    scale, rotation, flat = _solve(sets, with_scale)
    translation = sets.q_mean.double() - scale * (rotation * sets.p_mean.double()).sum(1)
    return Similarity(scale, rotation.permute(2, 0, 1), translation.T, flat)


def _distances_chunk(
    source: Float[Tensor, "B N 3"], target: Float[Tensor, "B N 3"], weights: Float[Tensor, "B N"] | None
) -> Float[Tensor, "B N"]:
    sets = _centred(source, target, weights)
    scale, rotation, _ = _solve(sets, with_scale=True)
    linear = (scale * rotation).to(source.dtype)
    squared = torch.zeros_like(sets.q[0])
    for axis in range(3):
        apart = torch.addcmul(-sets.q[axis], linear[axis, 0], sets.p[0])
        apart = torch.addcmul(apart, linear[axis, 1], sets.p[1])
        apart = torch.addcmul(apart, linear[axis, 2], sets.p[2])
        squared = torch.addcmul(squared, apart, apart)
    # The root of zero has no derivative, that of the smallest number has.
    return squared.clamp_min(torch.finfo(squared.dtype).tiny).sqrt().T.contiguous()


def _centred(
    source: Float[Tensor, "B N 3"], target: Float[Tensor, "B N 3"], weights: Float[Tensor, "B N"] | None
) -> _Centred:
    p, q = source.permute(2, 1, 0).contiguous(), target.permute(2, 1, 0).contiguous()
    if weights is None:
        p_mean, q_mean = p.mean(1), q.mean(1)
        p, q = p - p_mean[:, None], q - q_mean[:, None]
        return _Centred(p, q, p, p_mean, q_mean, torch.ones_like(p_mean[0], dtype=torch.bool))
    w = weights.T.to(p.dtype)
    p, q = torch.where(w > 0, p, 0.0), torch.where(w > 0, q, 0.0)
    total = w.sum(0)
    some = total > 0
    w = w / torch.where(some, total, 1.0)
    p_mean, q_mean = (w * p).sum(1), (w * q).sum(1)
    p, q = p - p_mean[:, None], q - q_mean[:, None]
    return _Centred(p, q, w * p, p_mean, q_mean, some)


def _solve(sets: _Centred, with_scale: bool) -> tuple[Float[Tensor, "B"], Float[Tensor, "3 3 B"], Bool[Tensor, "B"]]:
    """Scale and rotation of the best similarity, and where no rotation can be had."""
    # Sums over points keep the precision of the points; what is solved from them is double.
    spread = (sets.weighted * sets.p).sum((0, 1)).double()
    covariance = torch.stack([(sets.weighted[a] * sets.q[b]).sum(0) for a in range(3) for b in range(3)])
    covariance = covariance.reshape(3, 3, -1).double()
    away = sets.p_mean.double().square().sum(0)
    no_source = ~(spread > _POINTLIKE**2 * away) & ~spread.isnan() | ~sets.some
    flat = no_source | (covariance.detach().square().sum((0, 1)) == 0)
    rotation = _best_rotation(covariance, flat)
    if not with_scale:
        return torch.ones_like(spread), rotation, flat
    gain = (rotation * covariance.transpose(0, 1)).sum((0, 1))
    return torch.where(no_source, 1.0, gain / torch.where(no_source, 1.0, spread)), rotation, flat


def _best_rotation(
    covariance: Float[Tensor, "3 3 B"],
    flat: Bool[Tensor, "B"],
) -> Float[Tensor, "3 3 B"]:
    """The rotation R that maximises trace(R @ covariance); the identity where `flat`."""
    with torch.no_grad():
        size = covariance.square().sum((0, 1)).sqrt()
        unit = covariance / torch.where(flat, 1.0, size)
        rotation, ambiguous = _foam(unit)
        ambiguous &= ~flat & ~size.isnan()
        if bool(ambiguous.any()):
            rotation[:, :, ambiguous] = _by_svd(unit[:, :, ambiguous])
        unset = flat[None, None]
        eye = torch.eye(3, dtype=unit.dtype, device=unit.device)[..., None]
        rotation = torch.where(unset, eye, rotation)
        rotation = 1.5 * rotation - 0.5 * _product(_product(rotation, rotation.transpose(0, 1)), rotation)
    return _newton_step(rotation, covariance / torch.where(flat, 1.0, size), flat | ambiguous)


def _foam(unit: Float[Tensor, "3 3 B"]) -> tuple[Float[Tensor, "3 3 B"], Bool[Tensor, "B"]]:
    """Markley's closed form for covariances of Frobenius norm one, and where it is not to be trusted."""
    attitude = unit.transpose(0, 1)
    cofactors = torch.stack(
        [
            torch.linalg.cross(attitude[1], attitude[2], dim=0),
            torch.linalg.cross(attitude[2], attitude[0], dim=0),
            torch.linalg.cross(attitude[0], attitude[1], dim=0),
        ]
    )
    determinant = (attitude[0] * cofactors[0]).sum(0)
    adjugate_norm = cofactors.square().sum((0, 1))
    # The sum of the singular values (the last one signed) is the largest root of a quartic; Newton's method falls on it
    # from above and never overshoots, because the quartic is convex beyond its largest root. The root is a fixed point of
    # the expression it starts from, which grows with the determinant's factor; the root lies between 1 and sqrt(3).
    largest = torch.maximum(3.0**0.5 * determinant, determinant)
    root = step = (1.0 + 2.0 * (adjugate_norm + 2.0 * largest).clamp_min(0.0).sqrt()).sqrt()
    for _ in range(_NEWTON_STEPS):
        excess = root * root - 1.0
        value = excess * excess - 8.0 * root * determinant - 4.0 * adjugate_norm
        slope = 4.0 * root * excess - 8.0 * determinant
        step = value / slope.clamp_min(1e-12)
        root = root - step
        if bool((step.abs() <= _SETTLED).all()):
            break
    kappa = 0.5 * (root * root - 1.0)
    zeta = kappa * root - determinant
    cubic = _product(_product(attitude, attitude.transpose(0, 1)), attitude)
    ambiguous = ~((zeta > _AMBIGUOUS) & (step.abs() < _UNCONVERGED * zeta))
    rotation = ((kappa + 1.0) * attitude + root * cofactors - cubic) / torch.where(ambiguous, 1.0, zeta)
    return rotation, ambiguous


def _by_svd(unit: Float[Tensor, "3 3 B"]) -> Float[Tensor, "3 3 B"]:
    u, _, vh = torch.linalg.svd(unit.permute(2, 0, 1))
    v = vh.transpose(-1, -2)
    sign = torch.det(v @ u.transpose(-1, -2)).sign()
    v = torch.cat([v[..., :2], v[..., 2:] * sign[:, None, None]], dim=-1)
    return (v @ u.transpose(-1, -2)).permute(1, 2, 0)


def _newton_step(
    rotation: Float[Tensor, "3 3 B"],
    unit: Float[Tensor, "3 3 B"],
    fixed: Bool[Tensor, "B"],
) -> Float[Tensor, "3 3 B"]:
    """One step towards the best rotation: sharpens the value, and carries the exact gradient of the fit.

    At the optimum the step is zero but its derivative is that of the optimum (implicit function theorem), so the search
    for `rotation` itself need not be differentiated.
    """
    s = _product(rotation, unit)
    slope = torch.stack([s[1, 2] - s[2, 1], s[2, 0] - s[0, 2], s[0, 1] - s[1, 0]])
    eye = torch.eye(3, dtype=unit.dtype, device=unit.device)[..., None]
    curvature = (s[0, 0] + s[1, 1] + s[2, 2]) * eye - 0.5 * (s + s.transpose(0, 1))
    first = torch.linalg.cross(curvature[1], curvature[2], dim=0)
    second = torch.linalg.cross(curvature[2], curvature[0], dim=0)
    third = torch.linalg.cross(curvature[0], curvature[1], dim=0)
    determinant = (curvature[0] * first).sum(0)
    numerator = slope[0] * first + slope[1] * second + slope[2] * third
    half = torch.where(fixed, 0.0, 0.5 * numerator / torch.where(fixed, 1.0, determinant))
    # Cayley's transform of the step: a rotation without trigonometry.
    squared = half.square().sum(0)
    zero = torch.zeros_like(squared)
    skew = torch.stack([zero, -half[2], half[1], half[2], zero, -half[0], -half[1], half[0], zero]).reshape(3, 3, -1)
    turn = ((1.0 - squared) * eye + 2.0 * skew + 2.0 * half[:, None] * half[None]) / (1.0 + squared)
    return _product(turn, rotation)


def _product(left: Float[Tensor, "3 3 B"], right: Float[Tensor, "3 3 B"]) -> Float[Tensor, "3 3 B"]:
    # Written out: a sum over an axis of three is many times slower than three multiplications of whole rows.
    product = left[:, 0, None] * right[None, 0]
    product = torch.addcmul(product, left[:, 1, None], right[None, 1])
    return torch.addcmul(product, left[:, 2, None], right[None, 2])
