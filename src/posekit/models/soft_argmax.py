"""Coordinates from heat maps by soft-argmax (integral regression, Sun et al. 2018)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_NEAR = 2
"""Cells about the mode that count for the confidence."""


class _Marginals(torch.autograd.Function):
    """Of the volume one copy is made forwards, the exponentials, and one backwards, the gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> tuple[Tensor, Tensor]:
        volume = logits.to(torch.promote_types(logits.dtype, torch.float32))
        top = volume.amax(dim=(2, 3, 4), keepdim=True)
        shifted = volume - top if volume is logits else volume.sub_(top)
        masses = shifted.exp_()
        plane, depth = masses.sum(dim=2), masses.sum(dim=(3, 4))
        total = depth.sum(dim=2)
        plane /= total[..., None, None]
        depth /= total[..., None]
        ctx.save_for_backward(masses, total, plane, depth)
        ctx.dtype = logits.dtype
        return plane, depth

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        masses, total, plane, depth = ctx.saved_tensors
        of_plane, of_depth = gradients
        mean = (plane * of_plane).sum(dim=(2, 3)) + (depth * of_depth).sum(dim=2)
        across = ((of_plane - mean[..., None, None]) / total[..., None, None])[:, :, None]
        along = (of_depth / total[..., None])[..., None, None]
        # In the layout of the volume: a sum of its own layout would make each later pass over it several times slower.
        gradient = torch.add(across, along, out=torch.empty_like(masses))
        return gradient.mul_(masses).to(ctx.dtype)


def marginals(logits: Float[Tensor, "B J D h w"]) -> tuple[Float[Tensor, "B J h w"], Float[Tensor, "B J D"]]:
    """The probabilities in the image plane and along depth, of one softmax over all cells of each joint.

    In single precision at least, whatever the logits and autocast, and safe from overflow. Can be differentiated once.
    """
    plane, depth = _Marginals.apply(logits)
    return plane, depth


def expected_cells(
    plane: Float[Tensor, "B J h w"], depth: Float[Tensor, "B J D"], half_cell: bool = True
) -> Float[Tensor, "B J 3"]:
    """Expected x, y and z of each joint, from -1/2 to 1/2 over the volume, of its `marginals`.

    With `half_cell` a cell stands at its centre, ``(i + 1/2) / n - 1/2``; without at its lower corner, ``i / n - 1/2``, as in
    EpipolarPose's code. Mixing the two shifts everything by half a cell.
    """
    expected = []
    for probability in (plane.sum(dim=2), plane.sum(dim=3), depth):
        count = probability.shape[-1]
        cells = torch.arange(count, dtype=probability.dtype, device=probability.device)
        places = (cells + (0.5 if half_cell else 0.0)) / count - 0.5
        # No matrix product: autocast and TF32 would round the probabilities to a few bits.
        expected.append((probability * places).sum(dim=-1))
    return torch.stack(expected, dim=-1)


def soft_argmax(logits: Float[Tensor, "B J D h w"], half_cell: bool = True) -> Float[Tensor, "B J 3"]:
    """Expected x, y and z of each joint under one softmax over all its cells; see `marginals` and `expected_cells`."""
    return expected_cells(*marginals(logits), half_cell)


def heat_maps(logits: Float[Tensor, "B J D h w"]) -> Float[Tensor, "B J h w"]:
    """How likely each joint is in each cell of the image: the softmax over all cells, summed over depth."""
    return marginals(logits)[0]


def confidences(maps: Float[Tensor, "B J h w"]) -> Float[Tensor, "B J"]:
    """The probability within two cells of the most likely one, along both axes of the image."""
    height, width = maps.shape[-2:]
    mode = maps.flatten(2).argmax(dim=2)
    rows = torch.arange(height, device=maps.device)
    columns = torch.arange(width, device=maps.device)
    near_row = (rows - (mode // width)[..., None]).abs() <= _NEAR
    near_column = (columns - (mode % width)[..., None]).abs() <= _NEAR
    return torch.where(near_row[..., :, None] & near_column[..., None, :], maps, 0.0).sum(dim=(2, 3))
