"""Joints made steadier by what is known of bodies: bones keep their lengths, and motion is smooth.

Both are priors whose strength is read off the joints themselves: what lengths and accelerations vary by, beyond what the
noise of the image points explains, is taken for real. Where frames are few or far apart, or a "bone" is not rigid, the prior
therefore lets go by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_ROUNDS = 4
_SOLVER_STEPS = 40
_SOLVED = 1e-5
_ROBUST_DEVIATIONS = 3.0
_LEAST_ACCELERATION_M = 0.0005
_LEAST_LENGTH_CHANGE_M = 0.002
_LEAST_SAMPLES = 5
_TRUSTED_SHARE = 0.98
_MEDIAN_OF_CHI2_1 = 0.455


class Evidence(NamedTuple):
    """Joints of one person over time (NaN: none), and how sure they are: the inverse of their covariance, per m^2."""

    joints: Float[Tensor, "T J 3"]
    information: Float[Tensor, "T J 3 3"]


class BonePrior(NamedTuple):
    """Bones as (parent, child), their lengths (m), and the standard deviation that they are allowed; infinite: any."""

    bones: tuple[tuple[int, int], ...]
    lengths: Float[Tensor, "b"]
    deviations: Float[Tensor, "b"]


class _Problem(NamedTuple):
    """The quadratic that a round minimises; every product with its matrix costs a few passes over the joints."""

    information: Float[Tensor, "T J 3 3"]
    inverse_variance: Float[Tensor, "U J"]
    directions: Float[Tensor, "T b 3"]
    bones: Int[Tensor, "b 2"]


def point_information(
    camera_from_world: Float[Tensor, "C 3 4"],
    points: Float[Tensor, "*batch 3"],
    inliers: Bool[Tensor, "*batch C"],
    focal_px: Float[Tensor, "C 2"],
    noise_px: float,
) -> Float[Tensor, "*batch 3 3"]:
    """Inverse covariance (per m^2) of points triangulated from image points with noise of `noise_px` per coordinate."""
    rotation = camera_from_world[:, :, :3]
    in_camera = torch.einsum("cij,...j->...ci", rotation, points) + camera_from_world[:, :, 3]
    projected = in_camera[..., :2] / in_camera[..., 2:]
    rows = (rotation[:, :2] - projected[..., None] * rotation[:, 2:]) * (focal_px / in_camera[..., 2:])[..., None]
    rows = torch.where(inliers[..., None, None], rows, 0.0).flatten(-3, -2)
    return torch.nan_to_num(rows.mT @ rows) / noise_px**2


def measure_bones(evidence: Evidence, bones: Sequence[tuple[int, int]]) -> BonePrior:
    """Lengths of a person's bones, freed of the bias that noise gives them, and by how much they really vary."""
    covariance = _covariance(evidence)
    lengths, deviations = [], []
    for parent, child in bones:
        offset = evidence.joints[:, child] - evidence.joints[:, parent]
        known = torch.isfinite(offset).all(dim=-1)
        if int(known.sum()) < _LEAST_SAMPLES:
            lengths.append(0.0)
            deviations.append(float("inf"))
            continue
        offset = offset[known]
        noise = (covariance[:, parent] + covariance[:, child])[known]
        length = torch.linalg.vector_norm(offset, dim=-1)
        along = torch.einsum("ti,tij,tj->t", offset, noise, offset) / length.square()
        across = torch.diagonal(noise, dim1=-2, dim2=-1).sum(dim=-1) - along
        true_length = (length.square() - across).clamp_min(0.0).median().sqrt()
        varies = (length - length.median()).square().median() / _MEDIAN_OF_CHI2_1 - along.median()
        lengths.append(float(true_length))
        deviations.append(max(float(varies.clamp_min(0.0).sqrt()), _LEAST_LENGTH_CHANGE_M))
    like = evidence.joints
    return BonePrior(
        tuple(bones),
        torch.tensor(lengths, dtype=like.dtype, device=like.device),
        torch.tensor(deviations, dtype=like.dtype, device=like.device),
    )


def steady_joints(evidence: Evidence, frames: Int[Tensor, "T"], prior: BonePrior) -> Float[Tensor, "T J 3"]:
    """The most probable joints given the evidence, the lengths of bones and a smooth motion; NaN joints stay NaN.

    `frames` are in rising order; triples of frames that are not evenly spaced are not smoothed over.
    """
    given = torch.isfinite(evidence.joints).all(dim=-1)
    start = torch.where(given[..., None], evidence.joints, 0.0)
    information = torch.where(given[..., None, None], evidence.information, 0.0)
    inverse_variance = _acceleration_weights(evidence, frames)
    pairs = torch.tensor(prior.bones, dtype=torch.int64, device=start.device).reshape(-1, 2)
    strength = torch.where(given[:, pairs].all(dim=-1), 1.0 / prior.deviations, 0.0)
    joints = start
    for round_ in range(_ROUNDS):
        moved = joints - start
        distance = torch.einsum("tji,tjik,tjk->tj", moved, information, moved).clamp_min(0.0).sqrt()
        trust = (_ROBUST_DEVIATIONS / distance.clamp_min(_ROBUST_DEVIATIONS))[..., None, None]
        offset = joints[:, pairs[:, 1]] - joints[:, pairs[:, 0]]
        length = torch.linalg.vector_norm(offset, dim=-1).clamp_min(1e-6)
        directions = offset / length[..., None] * strength[..., None]
        problem = _Problem(information * trust, inverse_variance, directions, pairs)
        # The residuals at the present joints; the step is what the quadratic through them asks for.
        gradient = _apply_information(problem.information, moved) + _apply_smoothness(inverse_variance, joints)
        gradient = gradient + _spread_over_joints(
            (length - prior.lengths)[..., None] * strength[..., None] * directions, pairs, gradient
        )
        joints = joints - _solve(problem, gradient)
        if round_ == 0 and not bool(torch.isfinite(joints).all()):
            return evidence.joints
    return torch.where(given[..., None], joints, torch.nan)


def _covariance(evidence: Evidence) -> Float[Tensor, "T J 3 3"]:
    size = torch.diagonal(evidence.information, dim1=-2, dim2=-1).sum(dim=-1)
    eye = torch.eye(3, dtype=size.dtype, device=size.device)
    # A metre of uncertainty where there is none to invert; such joints are NaN and not used.
    return torch.linalg.inv(evidence.information + (1e-9 * size + 1.0)[..., None, None] * eye)


def _acceleration_weights(evidence: Evidence, frames: Int[Tensor, "T"]) -> Float[Tensor, "U J"]:
    """Inverse variance (per m^2 and axis) of second differences, zero where they are not to be used; U = T - 2."""
    joints = evidence.joints
    if len(joints) < _LEAST_SAMPLES:
        return joints.new_zeros(max(len(joints) - 2, 0), joints.shape[1])
    steps = frames.diff()
    even = (steps[1:] == steps[:-1]) & (steps[1:] == steps.min())
    difference = joints[2:] - 2 * joints[1:-1] + joints[:-2]
    usable = torch.isfinite(difference).all(dim=-1) & even[:, None]
    spread = torch.diagonal(_covariance(evidence), dim1=-2, dim2=-1).sum(dim=-1)
    noise = spread[2:] + 4 * spread[1:-1] + spread[:-2]
    count = usable.sum(dim=0)
    expected = torch.where(usable, noise, 0.0).sum(dim=0) / count.clamp_min(1) / 3
    size = torch.where(usable, difference.square().sum(dim=-1), torch.nan)
    # Outliers of triangulation must not pass for motion, but fast motion must not be taken for an outlier either.
    ceiling = torch.nanquantile(size, _TRUSTED_SHARE, dim=0)
    observed = torch.minimum(size, ceiling).nanmean(dim=0) / 3
    # Neighbouring second differences share frames, so there are about a quarter as many independent ones.
    doubt = 2 * expected * (8.0 / (3.0 * count.clamp_min(1))).sqrt()
    variance = (observed - expected).clamp_min(0.0) + doubt + _LEAST_ACCELERATION_M**2
    return torch.where(usable & (count >= _LEAST_SAMPLES), 1.0 / variance, 0.0)


def _apply_information(information: Tensor, vectors: Float[Tensor, "T J 3"]) -> Float[Tensor, "T J 3"]:
    return (information * vectors[..., None, :]).sum(dim=-1)


def _apply_smoothness(
    inverse_variance: Float[Tensor, "U J"], vectors: Float[Tensor, "T J 3"]
) -> Float[Tensor, "T J 3"]:
    result = torch.zeros_like(vectors)
    if len(inverse_variance):
        weighted = (vectors[2:] - 2 * vectors[1:-1] + vectors[:-2]) * inverse_variance[..., None]
        result[2:] += weighted
        result[1:-1] -= 2 * weighted
        result[:-2] += weighted
    return result


def _spread_over_joints(
    of_bones: Float[Tensor, "T b 3"], bones: Int[Tensor, "b 2"], like: Tensor
) -> Float[Tensor, "T J 3"]:
    result = torch.zeros_like(like)
    result.index_add_(1, bones[:, 1], of_bones)
    return result.index_add_(1, bones[:, 0], -of_bones)


def _apply(problem: _Problem, vectors: Float[Tensor, "T J 3"]) -> Float[Tensor, "T J 3"]:
    stretch = (vectors[:, problem.bones[:, 1]] - vectors[:, problem.bones[:, 0]]) * problem.directions
    of_bones = stretch.sum(dim=-1, keepdim=True) * problem.directions
    result = _apply_information(problem.information, vectors) + _apply_smoothness(problem.inverse_variance, vectors)
    return result + _spread_over_joints(of_bones, problem.bones, vectors)


def _solve(problem: _Problem, right: Float[Tensor, "T J 3"]) -> Float[Tensor, "T J 3"]:
    """Conjugate gradients, preconditioned by the 3x3 blocks of the diagonal."""
    blocks = problem.information.clone()
    eye = torch.eye(3, dtype=right.dtype, device=right.device)
    squares = torch.zeros(right.shape[:2], dtype=right.dtype, device=right.device)
    if len(problem.inverse_variance):
        squares[2:] += problem.inverse_variance
        squares[1:-1] += 4 * problem.inverse_variance
        squares[:-2] += problem.inverse_variance
    outer = problem.directions[..., :, None] * problem.directions[..., None, :]
    for end in (0, 1):
        blocks.index_add_(1, problem.bones[:, end], outer)
    blocks = blocks + squares[..., None, None] * eye
    empty = torch.diagonal(blocks, dim1=-2, dim2=-1).sum(dim=-1) <= 0
    inverse = torch.linalg.inv(blocks + torch.where(empty, 1.0, 0.0)[..., None, None] * eye)
    inverse = torch.where(empty[..., None, None], 0.0, inverse)
    solution = torch.zeros_like(right)
    residual = right
    search = preconditioned = _apply_information(inverse, residual)
    power = (residual * preconditioned).sum()
    target = _SOLVED**2 * power
    for _ in range(_SOLVER_STEPS):
        if not bool(power > target):
            break
        image = _apply(problem, search)
        length = power / (search * image).sum()
        solution = solution + length * search
        residual = residual - length * image
        preconditioned = _apply_information(inverse, residual)
        following = (residual * preconditioned).sum()
        search = preconditioned + (following / power) * search
        power = following
    return solution
