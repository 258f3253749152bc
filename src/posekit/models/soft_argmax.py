"""Coordinates from heat maps by soft-argmax (integral regression, Sun et al. 2018)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_NEAR = 2
"""Cells about the mode that count for the confidence."""


def marginals(
    logits: Float[Tensor, "B J D h w"],
) -> tuple[Float[Tensor, "B J w"], Float[Tensor, "B J h"], Float[Tensor, "B J D"]]:
    """The probabilities along x, y and z of one softmax over all cells of each joint, in single precision at least."""
    # Maximum, exponential and two sums are all that touches the whole volume.
    volume = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    shifted = volume - volume.detach().amax(dim=(2, 3, 4), keepdim=True)
    masses = shifted.exp()
    plane = masses.sum(dim=2)
    depth = masses.sum(dim=(3, 4))
    total = depth.sum(dim=2, keepdim=True)
    return plane.sum(dim=2) / total, plane.sum(dim=3) / total, depth / total


def soft_argmax(logits: Float[Tensor, "B J D h w"], half_cell: bool = True) -> Float[Tensor, "B J 3"]:
    """Expected x, y and z of each joint, from -1/2 to 1/2 over the volume.

    With `half_cell` a cell stands at its centre, ``(i + 1/2) / n - 1/2``; without at its lower corner, ``i / n - 1/2``, as in
    EpipolarPose's code. Mixing the two shifts everything by half a cell.
    """
    expected = []
    for probability in marginals(logits):
        cells = probability.shape[-1]
        places = torch.arange(cells, dtype=probability.dtype, device=probability.device)
        expected.append(probability @ ((places + (0.5 if half_cell else 0.0)) / cells - 0.5))
    return torch.stack(expected, dim=-1)


def heat_maps(logits: Float[Tensor, "B J D h w"]) -> Float[Tensor, "B J h w"]:
    """How likely each joint is in each cell of the image: the softmax over all cells, summed over depth."""
    plane = logits.float().logsumexp(dim=2)
    return plane.flatten(2).softmax(dim=2).reshape(plane.shape)


def confidences(maps: Float[Tensor, "B J h w"]) -> Float[Tensor, "B J"]:
    """The probability within two cells of the most likely one, along both axes of the image."""
    height, width = maps.shape[-2:]
    mode = maps.flatten(2).argmax(dim=2)
    rows = torch.arange(height, device=maps.device)
    columns = torch.arange(width, device=maps.device)
    near_row = (rows - (mode // width)[..., None]).abs() <= _NEAR
    near_column = (columns - (mode % width)[..., None]).abs() <= _NEAR
    return torch.where(near_row[..., :, None] & near_column[..., None, :], maps, 0.0).sum(dim=(2, 3))
