"""Optimal correction of two-view correspondences: the nearest pair of points that meets the epipolar constraint."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from posekit.geometry.triangulation import triangulate_dlt

Pair = tuple[Float[Tensor, "N 2"], Float[Tensor, "N 2"]]

_POLISHING_STEPS = 3
_LEADING_COEFFICIENT = 1e-14
_LINDSTROM_STEPS = 10


def correct_matches(
    fundamental: Float[Tensor, "3 3"], first: Float[Tensor, "N 2"], second: Float[Tensor, "N 2"]
) -> Pair:
    """The correspondences nearest to (first, second) with ``second^T F first = 0``, by the polynomial method.

    Hartley and Sturm 1997; Hartley and Zisserman 2004, Alg. 12.1. Exact: it finds the global optimum. Needs finite points
    and an F of rank two.
    """
    if len(first) == 0:
        return first, second
    # In pixels the sixth-degree coefficients span forty orders of magnitude; one common scale keeps the metric.
    scale = torch.cat([first, second]).abs().mean().clamp_min(1e-12)
    shrink = torch.diag(torch.stack([scale, scale, torch.ones_like(scale)])).double()
    points = torch.stack([first, second]).double() / scale
    to_origin = torch.eye(3, dtype=torch.float64, device=first.device).repeat(2, len(first), 1, 1)
    to_origin[..., :2, 2] = points
    moved = to_origin[1].mT @ (shrink @ fundamental.double() @ shrink) @ to_origin[0]
    moved = moved / torch.linalg.matrix_norm(moved)[:, None, None]
    left, _, right = torch.linalg.svd(moved)
    turn_first, f_first = _epipole_on_axis(right[:, 2])
    turn_second, f_second = _epipole_on_axis(left[:, :, 2])
    turned = turn_second @ moved @ turn_first.mT
    a, b, c, d = turned[:, 1, 1], turned[:, 1, 2], turned[:, 2, 1], turned[:, 2, 2]
    tau = _best_tau(torch.stack([a, b, c, d, f_first, f_second]))
    numerator, denominator = tau.unbind(-1)
    line_first = torch.stack([numerator * f_first, denominator, -numerator], dim=-1)
    p, q = a * numerator + b * denominator, c * numerator + d * denominator
    line_second = torch.stack([-f_second * q, p, q], dim=-1)
    corrected = [
        ((turn.mT @ _nearest_to_origin(line)[..., None])[..., 0])
        for turn, line in ((turn_first, line_first), (turn_second, line_second))
    ]
    moved_back = [
        (point[:, :2] / point[:, 2:] + offset) * scale for point, offset in zip(corrected, points, strict=True)
    ]
    return moved_back[0].to(first.dtype), moved_back[1].to(second.dtype)


def correct_matches_iterative(
    fundamental: Float[Tensor, "3 3"], first: Float[Tensor, "N 2"], second: Float[Tensor, "N 2"]
) -> Pair:
    """As `correct_matches`, by fixed-point steps: much faster, and the same optimum unless the error is gross.

    Each step projects the given points onto the constraint linearised where the last step ended (Kanatani et al. 2008).
    """
    F = fundamental.double()
    start = (_homogeneous(first.double()), _homogeneous(second.double()))
    x, y = start
    for _ in range(_LINDSTROM_STEPS):
        normal_first = (y @ F)[:, :2]
        normal_second = (x @ F.mT)[:, :2]
        lengths = (normal_first**2).sum(-1) + (normal_second**2).sum(-1)
        offset_first, offset_second = start[0] - x, start[1] - y
        # First order in the distance still to go, from the points given: the constraint linearised at (x, y).
        error = ((y @ F) * x).sum(-1) + (normal_first * offset_first[:, :2]).sum(-1)
        error = error + (normal_second * offset_second[:, :2]).sum(-1)
        step = (error / lengths.clamp_min(1e-300))[:, None]
        x = start[0] - _padded(step * normal_first)
        y = start[1] - _padded(step * normal_second)
    return x[:, :2].to(first.dtype), y[:, :2].to(second.dtype)


def triangulate_optimally(
    projections: Float[Tensor, "2 3 4"],
    fundamental: Float[Tensor, "3 3"],
    first: Float[Tensor, "N 2"],
    second: Float[Tensor, "N 2"],
) -> Float[Tensor, "N 3"]:
    """Points of least squared image error in two views: optimal correction, then linear triangulation."""
    corrected = torch.stack(correct_matches(fundamental, first, second), dim=1)
    return triangulate_dlt(projections, corrected)


def _epipole_on_axis(epipole: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N 3 3"], Float[Tensor, "N"]]:
    """The turn about the origin that brings an epipole to (1, 0, f), and f."""
    x, y, w = (epipole / torch.linalg.vector_norm(epipole[:, :2], dim=-1, keepdim=True)).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    turn = torch.stack([x, y, zero, -y, x, zero, zero, zero, one], dim=-1).reshape(-1, 3, 3)
    return turn, w


def _best_tau(terms: Float[Tensor, "6 N"]) -> Float[Tensor, "N 2"]:
    """The parameter of the best pair of epipolar lines, as numerator and denominator: it may be infinite."""
    coefficients = _stationary_polynomial(terms)
    candidates = _real_parts_of_roots(coefficients)
    a, b, c, d, f, g = (term[:, None] for term in terms)
    p, q = a * candidates + b, c * candidates + d
    costs = candidates**2 / (1 + (f * candidates) ** 2) + q**2 / (p**2 + (g * q) ** 2)
    at_infinity = 1 / f**2 + c**2 / (a**2 + (g * c) ** 2)
    costs = torch.nan_to_num(torch.cat([costs, at_infinity], dim=-1), nan=torch.inf)
    best = costs.argmin(dim=-1, keepdim=True)
    one = torch.ones_like(at_infinity)
    numerators = torch.cat([candidates, one], dim=-1)
    denominators = torch.cat([torch.ones_like(candidates), torch.zeros_like(one)], dim=-1)
    return torch.cat([numerators.gather(-1, best), denominators.gather(-1, best)], dim=-1)


def _stationary_polynomial(terms: Float[Tensor, "6 N"]) -> Float[Tensor, "N 7"]:
    """Coefficients, highest power first, of the polynomial whose roots make the sum of squared distances stationary.

    g(t) = t ((a t + b)^2 + f'^2 (c t + d)^2)^2 - (a d - b c) (1 + f^2 t^2)^2 (a t + b) (c t + d)
    """
    a, b, c, d, f, g = terms
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    square = torch.stack([a * a + g * g * c * c, 2 * (a * b + g * g * c * d), b * b + g * g * d * d], dim=-1)
    left = torch.nn.functional.pad(_product(square, square), (1, 1))
    window = torch.stack([f * f, zero, one], dim=-1)
    lines = torch.stack([a * c, a * d + b * c, b * d], dim=-1)
    return left - (a * d - b * c)[:, None] * _product(_product(window, window), lines)


def _product(first: Float[Tensor, "N m"], second: Float[Tensor, "N k"]) -> Float[Tensor, "N _"]:
    size = first.shape[-1] + second.shape[-1] - 1
    shifted = [
        torch.nn.functional.pad(first[:, i : i + 1] * second, (i, size - i - second.shape[-1]))
        for i in range(first.shape[-1])
    ]
    return torch.stack(shifted).sum(dim=0)


def _real_parts_of_roots(coefficients: Float[Tensor, "N 7"]) -> Float[Tensor, "N 6"]:
    """Real parts of all roots (any is a feasible parameter), the real ones sharpened by Newton's method."""
    coefficients = coefficients / coefficients.abs().amax(dim=-1, keepdim=True)
    # With an epipole at infinity the degree is lower; a tiny leading term then adds a huge root, which does no harm.
    leading = coefficients[:, :1]
    tiny = leading.abs() < _LEADING_COEFFICIENT
    monic = coefficients[:, 1:] / torch.where(tiny, _LEADING_COEFFICIENT, leading)
    companion = torch.zeros(len(coefficients), 6, 6, dtype=coefficients.dtype, device=coefficients.device)
    companion[:, 0] = -monic
    companion[:, range(1, 6), range(5)] = 1.0
    roots = torch.linalg.eigvals(companion).real
    for _ in range(_POLISHING_STEPS):
        value, slope = torch.zeros_like(roots), torch.zeros_like(roots)
        for power in range(7):
            slope = slope * roots + value
            value = value * roots + coefficients[:, power : power + 1]
        step = value / slope
        near = step.abs() < 1e-3 * roots.abs().clamp_min(1e-6)
        roots = torch.where(near, roots - step, roots)
    return roots


def _nearest_to_origin(line: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    x, y, w = line.unbind(-1)
    return torch.stack([-x * w, -y * w, x * x + y * y], dim=-1)


def _homogeneous(points: Float[Tensor, "N 2"]) -> Float[Tensor, "N 3"]:
    return torch.nn.functional.pad(points, (0, 1), value=1.0)


def _padded(vectors: Float[Tensor, "N 2"]) -> Float[Tensor, "N 3"]:
    return torch.nn.functional.pad(vectors, (0, 1))
