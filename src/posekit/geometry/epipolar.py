"""The fundamental matrix of two views: from eight or more matches, robustly, and the distance of matches from it.

Convention: ``second^T F first = 0`` for homogeneous image points. Distances are in the units of the points given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posekit.errors import DataError

RobustMethod = Literal["ransac", "lmeds"]

SAMPLE = 8
_HYPOTHESES_AT_ONCE = 256
_REFITS = 3


@dataclass(frozen=True)
class RobustSettings:
    """How a fundamental matrix is found among outliers.

    `threshold_px` is the Sampson distance of an inlier; LMedS ("lmeds") finds its own and needs more than half of
    the matches to be good. Drawing stops when, with probability `confidence`, a sample without outliers was among those
    drawn, or after `max_hypotheses`.
    """

    method: RobustMethod = "ransac"
    threshold_px: float = 3.0
    confidence: float = 0.999
    max_hypotheses: int = 2048


class RobustFundamental(NamedTuple):
    """A fundamental matrix of unit norm and the matches that agree with it."""

    matrix: Float[Tensor, "3 3"]
    inliers: Bool[Tensor, "N"]
    threshold_px: float


def homogeneous(points: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d+1"]:
    """Points with a one appended."""
    return torch.nn.functional.pad(points, (0, 1), value=1.0)


def cross_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The matrix [v]x with ``[v]x w = v x w``."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*vector.shape, 3)


def essential_from_pose(
    rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3 3"]:
    """E = [t]x R of the transform second_from_first."""
    return cross_matrix(translation) @ rotation


def fundamental_from_essential(
    essential: Float[Tensor, "*batch 3 3"],
    first_K: Float[Tensor, "*#batch 3 3"],
    second_K: Float[Tensor, "*#batch 3 3"],
) -> Float[Tensor, "*batch 3 3"]:
    """F = K2^-T E K1^-1, for pixels."""
    return torch.linalg.inv(second_K).mT @ essential @ torch.linalg.inv(first_K)


def essential_from_fundamental(
    fundamental: Float[Tensor, "*batch 3 3"],
    first_K: Float[Tensor, "*#batch 3 3"],
    second_K: Float[Tensor, "*#batch 3 3"],
) -> Float[Tensor, "*batch 3 3"]:
    """E = K2^T F K1, brought to the nearest matrix with singular values (1, 1, 0)."""
    u, _, vh = torch.linalg.svd(second_K.mT @ fundamental @ first_K)
    singular = torch.tensor([1.0, 1.0, 0.0], dtype=fundamental.dtype, device=fundamental.device)
    return u * singular @ vh


def sampson_distance(
    fundamental: Float[Tensor, "*batch 3 3"], first: Float[Tensor, "N 2"], second: Float[Tensor, "N 2"]
) -> Float[Tensor, "*batch N"]:
    """Signed first-order distance of matches from an epipolar geometry (Hartley and Zisserman 2004, Eq. 11.9).

    Its absolute value approximates how far a match, as a point of four coordinates, is from the nearest exact one.
    """
    x, y = homogeneous(first).T, homogeneous(second).T
    # Written out, because sums over an axis of three are many times slower.
    a, b, c = (fundamental @ x).unbind(-2)
    d, e = (fundamental[..., :2].mT @ y).unbind(-2)
    error = a * y[0] + b * y[1] + c
    squares = a * a + b * b + d * d + e * e
    return error / squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()


def eight_point(first: Float[Tensor, "*batch N 2"], second: Float[Tensor, "*batch N 2"]) -> Float[Tensor, "*batch 3 3"]:
    """Fundamental matrices of unit norm from eight or more matches each, by the normalised 8-point method.

    Hartley and Zisserman 2004, Alg. 11.1.
    """
    if first.shape[-2] < SAMPLE:
        raise ValueError(f"the 8-point method needs {SAMPLE} matches, got {first.shape[-2]}")
    x, to_x = _normalized(first)
    y, to_y = _normalized(second)
    equations = (homogeneous(y)[..., :, None] * homogeneous(x)[..., None, :]).flatten(-2)
    if first.shape[-2] > 4 * SAMPLE or first.ndim == 2:
        *_, right = torch.linalg.svd(equations, full_matrices=first.shape[-2] < 9)
        vector = right[..., -1, :]
    else:
        # For thousands of small samples the normal equations are several times faster, and exact enough to rank them.
        _, vectors = torch.linalg.eigh(equations.mT @ equations)
        vector = vectors[..., 0]
    u, s, vh = torch.linalg.svd(vector.reshape(*vector.shape[:-1], 3, 3))
    rank_two = u * torch.nn.functional.pad(s[..., None, :2], (0, 1)) @ vh
    fundamental = to_y.mT @ rank_two @ to_x
    return fundamental / torch.linalg.matrix_norm(fundamental)[..., None, None]


def robust_fundamental(
    first: Float[Tensor, "N 2"],
    second: Float[Tensor, "N 2"],
    generator: torch.Generator,
    settings: RobustSettings | None = None,
) -> RobustFundamental:
    """The fundamental matrix that most matches agree with, refitted to them; DataError with fewer than eight matches.

    RANSAC scored by the truncated quadratic loss (MSAC, Torr and Zisserman 2000) or least median of squares, with the
    best hypothesis of each batch refitted to its inliers (Chum et al. 2003).
    """
    settings = settings or RobustSettings()
    count = len(first)
    if count < SAMPLE:
        raise DataError(
            "too few matches for a fundamental matrix",
            got=count,
            accepted=f"at least {SAMPLE}",
            hint="Pool more frames",
        )
    best, best_cost, drawn, needed = torch.eye(3, dtype=first.dtype, device=first.device), math.inf, 0, SAMPLE
    while drawn < min(needed, settings.max_hypotheses):
        samples = torch.randint(count, (_HYPOTHESES_AT_ONCE, SAMPLE), generator=generator, device=first.device)
        proposed = eight_point(first[samples], second[samples])
        costs = _costs(sampson_distance(proposed, first, second), settings)
        drawn += _HYPOTHESES_AT_ONCE
        leader = int(costs.argmin())
        if costs[leader] < best_cost:
            best, best_cost = _refitted(proposed[leader], float(costs[leader]), first, second, settings)
            good = float(_inliers(best, first, second, settings)[0].double().mean())
            # log1p keeps the count finite when almost no sample is clean.
            needed = math.ceil(math.log(1 - settings.confidence) / min(math.log1p(-min(good**SAMPLE, 0.999999)), -1e-9))
    inliers, threshold = _inliers(best, first, second, settings)
    return RobustFundamental(best, inliers, threshold)


def _refitted(
    fundamental: Tensor, cost: float, first: Tensor, second: Tensor, settings: RobustSettings
) -> tuple[Tensor, float]:
    for _ in range(_REFITS):
        inliers, _ = _inliers(fundamental, first, second, settings)
        if int(inliers.sum()) < SAMPLE:
            break
        again = eight_point(first[inliers], second[inliers])
        again_cost = float(_costs(sampson_distance(again[None], first, second), settings)[0])
        if again_cost >= cost:
            break
        fundamental, cost = again, again_cost
    return fundamental, cost


def _costs(distances: Float[Tensor, "H N"], settings: RobustSettings) -> Float[Tensor, "H"]:
    if settings.method == "lmeds":
        return distances.abs().median(dim=-1).values
    return (distances / settings.threshold_px).square().clamp_max(1.0).mean(dim=-1)


def _inliers(
    fundamental: Tensor, first: Tensor, second: Tensor, settings: RobustSettings
) -> tuple[Bool[Tensor, "N"], float]:
    distances = sampson_distance(fundamental, first, second).abs()
    threshold = settings.threshold_px
    if settings.method == "lmeds":
        # 2.5 standard deviations, estimated from the median (Rousseeuw and Leroy 1987).
        correction = 1.4826 * (1 + 5 / max(len(first) - SAMPLE, 1))
        threshold = max(2.5 * correction * float(distances.median()), 1e-9)
    return distances <= threshold, threshold


def _normalized(points: Float[Tensor, "*batch N 2"]) -> tuple[Float[Tensor, "*batch N 2"], Float[Tensor, "*batch 3 3"]]:
    """Points about their mean at a mean distance of the square root of two, and the transform that takes them there."""
    mean = points.mean(dim=-2)
    centred = points - mean[..., None, :]
    distance = torch.linalg.vector_norm(centred, dim=-1).mean(dim=-1).clamp_min(torch.finfo(points.dtype).tiny)
    scale = math.sqrt(2.0) / distance
    zero, one = torch.zeros_like(scale), torch.ones_like(scale)
    rows = [scale, zero, -scale * mean[..., 0], zero, scale, -scale * mean[..., 1], zero, zero, one]
    return centred * scale[..., None, None], torch.stack(rows, dim=-1).reshape(*scale.shape, 3, 3)
