"""Linear blend skinning.

Vertices are kept planar, (B, 3, V), and blended in slices of the batch: the twelve blended numbers per vertex are the
largest array by far, and a slice of them that stays in the processor's cache makes the whole several times faster than
one pass over the batch. They are never stored for the backward pass but blended again there, which costs less than
fetching them from memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_CACHED_NUMBERS = 700_000
"""Blended numbers per slice on a CPU; about 3 MB in single precision, measured to be near the flat optimum."""


def skinning_transforms(
    linear: Float[Tensor, "B K 3 3"], positions: Float[Tensor, "B K 3"], rest_joints: Float[Tensor, "#B K 3"]
) -> Float[Tensor, "B K 3 4"]:
    """Affine maps that take rest points to posed ones: ``x -> linear (x - rest_joint) + position``."""
    offset = positions - (linear @ rest_joints[..., None])[..., 0]
    return torch.cat([linear, offset[..., None]], dim=-1)


def skin_vertices(
    vertices: Float[Tensor, "B 3 V"], weights: Float[Tensor, "K V"], transforms: Float[Tensor, "B K 3 4"]
) -> Float[Tensor, "B V 3"]:
    """Posed vertices of meshes that share their weights; `vertices` are planar.

    Differentiable, once, in vertices and transforms; weights are constants.
    """
    posed: Tensor = _Skinning.apply(vertices, weights, transforms.flatten(2).transpose(1, 2))
    return posed.transpose(1, 2).contiguous()


class _Skinning(torch.autograd.Function):
    """Planar vertices (B, 3, V), weights (K, V) and maps (B, 12, K), rows first, to posed planar vertices."""

    @staticmethod
    def forward(ctx: Any, vertices: Tensor, weights: Tensor, maps: Tensor) -> Tensor:
        ctx.save_for_backward(vertices, weights, maps)
        posed = torch.empty_like(vertices)
        for rows in _slices(vertices):
            blended = (maps[rows] @ weights).view(-1, 3, 4, vertices.shape[2])
            out = torch.addcmul(blended[:, :, 3], blended[:, :, 0], vertices[rows, 0:1], out=posed[rows])
            out.addcmul_(blended[:, :, 1], vertices[rows, 1:2]).addcmul_(blended[:, :, 2], vertices[rows, 2:3])
        return posed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        vertices, weights, maps = ctx.saved_tensors
        of_vertices, of_maps = torch.empty_like(vertices), torch.empty_like(maps)
        for rows in _slices(vertices):
            slope = gradient[rows]
            blended = (maps[rows] @ weights).view(-1, 3, 4, vertices.shape[2])
            out = torch.mul(blended[:, 0, :3], slope[:, 0:1], out=of_vertices[rows])
            out.addcmul_(blended[:, 1, :3], slope[:, 1:2]).addcmul_(blended[:, 2, :3], slope[:, 2:3])
            torch.mul(slope[:, :, None], vertices[rows, None], out=blended[:, :, :3])
            blended[:, :, 3] = slope
            of_maps[rows] = blended.view(-1, 12, vertices.shape[2]) @ weights.T
        return of_vertices, None, of_maps


def _slices(vertices: Tensor) -> Iterator[slice]:
    """Slices of the batch that are small enough for a processor's cache; one slice on other devices."""
    batch, _, count = vertices.shape
    step = max(1, _CACHED_NUMBERS // (12 * max(count, 1))) if vertices.device.type == "cpu" else max(batch, 1)
    return (slice(start, start + step) for start in range(0, batch, step))
