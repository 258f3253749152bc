"""Bundle adjustment: the camera poses and points that explain image points best, intrinsics known.

The points are eliminated from the normal equations (Schur complement), so the work grows with the number of points only
linearly (Triggs et al. 2000).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from posekit.geometry.epipolar import cross_matrix
from posekit.geometry.rotations import matrix_from_axis_angle


@dataclass(frozen=True)
class BundleSettings:
    """Huber's width, the most Levenberg-Marquardt steps, and the relative gain at which they end."""

    huber_px: float = 3.0
    steps: int = 60
    least_gain: float = 1e-7


class Observations(NamedTuple):
    """Normalised image points with weights (zero: not seen) and focal lengths in pixels."""

    normalized: Float[Tensor, "N C 2"]
    weights: Float[Tensor, "N C"]
    focal_px: Float[Tensor, "C 2"]


class Bundle(NamedTuple):
    """Poses camera_from_world, points in the world, and the mean squared robust error in pixels."""

    rotation: Float[Tensor, "C 3 3"]
    translation: Float[Tensor, "C 3"]
    points: Float[Tensor, "N 3"]
    cost: float


class _System(NamedTuple):
    """Jacobians in pixels and residuals, both times the square root of their robust weights."""

    of_cameras: Float[Tensor, "N C 2 6"]
    of_points: Float[Tensor, "N C 2 3"]
    residuals: Float[Tensor, "N C 2"]
    cost: Float[Tensor, ""]


def adjust_bundle(
    observations: Observations,
    rotation: Float[Tensor, "C 3 3"],
    translation: Float[Tensor, "C 3"],
    points: Float[Tensor, "N 3"],
    settings: BundleSettings | None = None,
) -> Bundle:
    """Least reprojection error under Huber's loss over all poses but the first camera's, and all points.

    Scale is not determined by the images; the result keeps the mean distance of the other cameras from the first.
    """
    settings = settings or BundleSettings()
    current = Bundle(rotation, translation, points, 0.0)
    system = _linearized(observations, current, settings.huber_px)
    damping = 1e-3
    for _ in range(settings.steps):
        trial = _same_size(_stepped(system, current, damping), current)
        trial_system = _linearized(observations, trial, settings.huber_px)
        if trial_system.cost < system.cost:
            gain = float((system.cost - trial_system.cost) / system.cost)
            current, system, damping = trial, trial_system, max(damping / 10, 1e-9)
            if gain < settings.least_gain:
                break
        else:
            damping *= 10
            if damping > 1e6:
                break
    return current._replace(cost=float(system.cost / (observations.weights > 0).sum().clamp_min(1)))


def _linearized(observations: Observations, bundle: Bundle, huber_px: float) -> _System:
    turned = torch.einsum("cij,nj->nci", bundle.rotation, bundle.points)
    in_camera = turned + bundle.translation
    depth = in_camera[..., 2:]
    projected = in_camera[..., :2] / depth
    residuals = (projected - observations.normalized) * observations.focal_px
    seen = observations.weights > 0
    residuals = torch.where(seen[..., None], residuals, 0.0)
    size = torch.linalg.vector_norm(residuals, dim=-1)
    loss = torch.where(size <= huber_px, size.square(), huber_px * (2 * size - huber_px))
    behind = (depth[..., 0] <= 0) & seen
    cost = (observations.weights * loss).sum() + torch.where(behind.any(), torch.inf, 0.0)
    weight = (observations.weights * huber_px / size.clamp_min(huber_px)).sqrt()
    # d(projection)/d(point in camera), pixels per metre
    slope = torch.zeros(*size.shape, 2, 3, dtype=size.dtype, device=size.device)
    slope[..., 0, 0] = slope[..., 1, 1] = 1.0
    slope[..., 2] = -projected
    slope = slope / depth[..., None] * observations.focal_px[..., None] * weight[..., None, None]
    slope = torch.where(seen[..., None, None], slope, 0.0)
    of_cameras = torch.cat([-slope @ cross_matrix(turned), slope], dim=-1)
    return _System(of_cameras, slope @ bundle.rotation, residuals * weight[..., None], cost)


def _stepped(system: _System, bundle: Bundle, damping: float) -> Bundle:
    n_cameras = len(bundle.rotation)
    J, P, r = system.of_cameras[:, 1:], system.of_points, system.residuals
    camera_blocks = torch.einsum("ncij,ncik->cjk", J, J)
    camera_blocks = camera_blocks + damping * torch.diag_embed(torch.diagonal(camera_blocks, dim1=-2, dim2=-1))
    point_blocks = torch.einsum("ncij,ncik->njk", P, P)
    diagonal = torch.diagonal(point_blocks, dim1=-2, dim2=-1)
    point_blocks = point_blocks + torch.diag_embed(damping * diagonal + 1e-12 * diagonal.amax().clamp_min(1e-300))
    mixed = torch.einsum("ncij,ncik->ncjk", J, P[:, 1:]).flatten(1, 2)
    camera_gradient = torch.einsum("ncij,nci->cj", J, r[:, 1:]).flatten()
    point_gradient = torch.einsum("ncij,nci->nj", P, r)
    solved = torch.linalg.solve(point_blocks, torch.cat([mixed.mT, point_gradient[..., None]], dim=-1))
    flat_mixed = mixed.transpose(0, 1).flatten(1)
    reduced = -flat_mixed @ solved[..., :-1].flatten(0, 1)
    for camera, block in enumerate(camera_blocks):
        own = slice(6 * camera, 6 * camera + 6)
        reduced[own, own] += block
    right = camera_gradient - flat_mixed @ solved[..., -1].flatten()
    step = torch.linalg.lstsq(reduced, -right[:, None]).solution[:, 0]
    point_step = -solved[..., -1] - solved[..., :-1] @ step
    per_camera = torch.cat([step.new_zeros(1, 6), step.reshape(n_cameras - 1, 6)])
    return Bundle(
        matrix_from_axis_angle(per_camera[:, :3]) @ bundle.rotation,
        bundle.translation + per_camera[:, 3:],
        bundle.points + point_step,
        0.0,
    )


def _same_size(moved: Bundle, before: Bundle) -> Bundle:
    """`moved` about the first camera's centre, scaled to the size that `before` has."""
    origin = -moved.rotation[0].T @ moved.translation[0]
    relative = moved.translation + moved.rotation @ origin
    old_origin = -before.rotation[0].T @ before.translation[0]
    old_relative = before.translation + before.rotation @ old_origin
    scale = torch.linalg.vector_norm(old_relative, dim=-1).sum() / torch.linalg.vector_norm(relative, dim=-1).sum()
    return Bundle(
        moved.rotation,
        scale * relative - moved.rotation @ origin,
        scale * (moved.points - origin) + origin,
        0.0,
    )
