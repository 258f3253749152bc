"""SoftRas silhouettes (Liu et al. 2019, "Soft Rasterizer"), over all faces near a pixel instead of the K nearest ones.

A pixel's coverage is 1 - prod(1 - sigmoid(±d² / sigma)) over the faces within the blur radius, d being the distance to
the face's border and the sign positive inside. It blurs and fattens the body (by a pixel all round at sigma 1e-4), which
widens the basin of a fit; `posekit.render.silhouette` is the accurate one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from posekit.render.topology import MeshTopology


@dataclass(frozen=True)
class SoftSettings:
    """The blur, in the units of PyTorch3D: squares of half the image's shorter side."""

    sigma: float = 1e-4
    cutoff: float = 1e-4
    """Faces that would cover less than this share of a pixel are left out."""
    near: float = 1e-6
    """Perspective faces with a corner at or before this depth are dropped whole; -inf for orthographic depths."""
    min_area: float = 1e-8
    """Faces of less area on the screen are dropped, as in PyTorch3D."""

    @property
    def blur(self) -> float:
        """Square of the distance up to which a face counts."""
        return math.log(1.0 / self.cutoff - 1.0) * self.sigma


def soft_mask(
    vertices: Float[Tensor, "B V 3"],
    topology: MeshTopology,
    image_size: tuple[int, int],
    settings: SoftSettings | None = None,
) -> Float[Tensor, "B H W"]:
    """The soft coverage of each pixel, with gradients to the vertices' positions on the screen.

    `vertices` are (x, y) pixels and depth; faces with a vertex that is not finite are left out.
    """
    if vertices.dtype not in (torch.float32, torch.float64):
        vertices = vertices.float()
    with torch.autocast(vertices.device.type, enabled=False):
        return _SoftMask.apply(vertices, topology, image_size, settings or SoftSettings())


TILE = 16
"""Larger boxes are cut into tiles of this side, in pixels."""
BOX_STEP = 4
"""Box sides are rounded up to multiples of this, so that few shapes of box remain."""
CHUNK = 1 << 16
"""(face, pixel) pairs in work at a time: they stay in the processor's cache."""


@dataclass(frozen=True)
class _Patches:
    """Boxes of pixels, each with the face that blurs into it (n in all), sorted into groups of one shape."""

    image: Int64[Tensor, " n"]
    face: Int64[Tensor, " n"]
    corners: Float[Tensor, "2 3 n"]
    """(axis, corner), relative to the box's first pixel, in units of the blur's standard deviation."""
    origin: Int64[Tensor, " n"]
    """Position of the box's first pixel in the flattened, padded images."""
    groups: list[tuple[int, int, int, int]]
    """(height, width, start, stop) of each group."""
    padded_size: tuple[int, int]

    def blocks(self, scale: float) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """For each chunk of patches: its slice, the pixels' y and x, and their positions in the padded images.

        Faces come last, because inner loops over the few pixels of a box would not vectorise.
        """
        device, dtype = self.corners.device, self.corners.dtype
        steps = torch.arange(TILE, device=device)
        offsets = steps[:, None] * self.padded_size[1] + steps
        ruler = steps.to(dtype) * scale
        for height, width, start, stop in self.groups:
            size = max(1, CHUNK // (height * width))
            for begin in range(start, stop, size):
                part = slice(begin, min(stop, begin + size))
                place = self.origin[part] + offsets[:height, :width, None]
                yield part, ruler[:height, None], ruler[:width, None], place


def _patches(
    vertices: Float[Tensor, "B V 3"], topology: MeshTopology, image_size: tuple[int, int], settings: SoftSettings
) -> _Patches:
    height, width = image_size
    unit = (min(height, width) / 2) ** 2
    radius = math.sqrt(settings.blur * unit)
    batch, face_count = vertices.shape[0], topology.face_count
    flat = topology.corners.view(-1)
    x, y, z = (vertices[..., axis].index_select(1, flat).view(batch, 3, face_count) for axis in range(3))
    left = x.amin(1).sub_(radius).ceil_().clamp_(0, width)
    columns = x.amax(1).add_(radius).floor_().clamp_(-1, width - 1).sub_(left).add_(1)
    top = y.amin(1).sub_(radius).ceil_().clamp_(0, height)
    rows = y.amax(1).add_(radius).floor_().clamp_(-1, height - 1).sub_(top).add_(1)
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (y[:, 1] - y[:, 0]) * (x[:, 2] - x[:, 0])
    keep = area.isfinite() & (area.abs() > 2 * settings.min_area * unit) & (z.isfinite() & (z > settings.near)).all(1)
    keep &= torch.minimum(rows, columns) > 0

    index = keep.view(-1).nonzero().squeeze(1)
    left, top, columns, rows = (box.view(-1).index_select(0, index).long() for box in (left, top, columns, rows))
    tiles_x, tiles_y = (columns + TILE - 1) // TILE, (rows + TILE - 1) // TILE
    tiles = tiles_x * tiles_y
    owner = torch.repeat_interleave(torch.arange(len(index), device=index.device), tiles)
    number = torch.arange(len(owner), device=index.device) - (tiles.cumsum(0) - tiles).index_select(0, owner)
    tile_y = torch.div(number, tiles_x.index_select(0, owner), rounding_mode="floor")
    tile_x = number - tile_y * tiles_x.index_select(0, owner)
    columns = (columns.index_select(0, owner) - tile_x * TILE).clamp_max(TILE)
    rows = (rows.index_select(0, owner) - tile_y * TILE).clamp_max(TILE)
    left = left.index_select(0, owner) + tile_x * TILE
    top = top.index_select(0, owner) + tile_y * TILE

    shape = ((rows - 1) // BOX_STEP) * TILE + (columns - 1) // BOX_STEP
    shape, order = shape.sort(stable=True)
    kinds, counts = torch.unique_consecutive(shape, return_counts=True)
    ends = counts.cumsum(0)
    groups = [
        ((kind // TILE + 1) * BOX_STEP, (kind % TILE + 1) * BOX_STEP, end - count, end)
        for kind, count, end in zip(kinds.tolist(), counts.tolist(), ends.tolist(), strict=True)
    ]
    index = index.index_select(0, owner.index_select(0, order))
    left, top = left.index_select(0, order), top.index_select(0, order)
    image = torch.div(index, max(face_count, 1), rounding_mode="floor")
    xy = torch.stack([x, y]).transpose(1, 2).reshape(2, 3, -1).index_select(2, index)
    corners = (xy - torch.stack([left, top])[:, None]).mul_(1 / math.sqrt(settings.sigma * unit))
    padded = (height + TILE, width + TILE)
    return _Patches(
        image=image,
        face=index - image * face_count,
        corners=corners,
        origin=(image * padded[0] + top) * padded[1] + left,
        groups=groups,
        padded_size=padded,
    )


@dataclass(frozen=True)
class _EdgeFrames:
    """For edge k, from corner k to corner k + 1: its unit vector, its length, and its normal towards the inside."""

    along: Float[Tensor, "2 3 n"]
    length: Float[Tensor, "3 n"]
    inward: Float[Tensor, "2 3 n"]
    start: Float[Tensor, "2 3 n"]

    @staticmethod
    def of(corners: Float[Tensor, "2 3 n"]) -> _EdgeFrames:
        edge = corners.roll(-1, 1) - corners
        length = (edge * edge).sum(0).sqrt_()
        # Only a length of exactly zero is special: an invented direction for short edges puts far pixels inside.
        along = edge * torch.where(length > 0, length.reciprocal(), 0)
        turn = torch.sign(edge[0, 0] * edge[1, 1] - edge[1, 0] * edge[0, 1])
        return _EdgeFrames(along, length, torch.stack([-along[1], along[0]]) * turn, corners)

    def measure(self, k: int, part: slice, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For each pixel and face: distance along edge k clamped to it, the rest of it, and the distance inwards."""
        dx, dy = x - self.start[0, k, part], y - self.start[1, k, part]
        along = (dy * self.along[1, k, part])[:, None] + (dx * self.along[0, k, part])[None]
        inwards = (dy * self.inward[1, k, part])[:, None] + (dx * self.inward[0, k, part])[None]
        clamped = torch.minimum(along.relu(), self.length[k, part])
        return clamped, along.sub_(clamped), inwards


def _signed_distance(measures: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    """The square distance to the nearest edge, positive inside; and the square distance to each."""
    squares = [(inwards * inwards).addcmul_(rest, rest) for _, rest, inwards in measures]
    nearest = torch.minimum(torch.minimum(squares[0], squares[1]), squares[2])
    inside = torch.minimum(torch.minimum(measures[0][2], measures[1][2]), measures[2][2])
    return torch.copysign(nearest, inside), squares


class _SoftMask(torch.autograd.Function):
    """The pairs are recomputed in the backward pass: keeping them would take a hundred megabytes an image."""

    @staticmethod
    def forward(
        ctx: Any, vertices: Tensor, topology: MeshTopology, image_size: tuple[int, int], settings: SoftSettings
    ) -> Tensor:
        patches = _patches(vertices, topology, image_size, settings)
        frames = _EdgeFrames.of(patches.corners)
        height, width = patches.padded_size
        scale = 1 / math.sqrt(settings.sigma * (min(image_size) / 2) ** 2) if min(image_size) else 1.0
        limit = -settings.blur / settings.sigma
        clear = vertices.new_ones(vertices.shape[0] * height * width)
        one = vertices.new_ones(())
        for part, y, x, place in patches.blocks(scale):
            signed, _ = _signed_distance([frames.measure(k, part, y, x) for k in range(3)])
            passes = torch.where(signed < limit, one, torch.sigmoid(signed.neg()))
            clear.scatter_reduce_(0, place.view(-1), passes.view(-1), "prod")
        ctx.save_for_backward(vertices, clear)
        ctx.context = (topology, image_size, patches, frames, scale, limit)
        return 1 - clear.view(-1, height, width)[:, : image_size[0], : image_size[1]]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        vertices, clear = ctx.saved_tensors
        topology, image_size, patches, frames, scale, limit = ctx.context
        height, width = patches.padded_size
        upstream = grad.new_zeros(vertices.shape[0], height, width)
        upstream[:, : image_size[0], : image_size[1]] = grad
        upstream = upstream.view(-1).mul_(clear).mul_(2 * scale)
        corners = torch.zeros_like(patches.corners)
        zero = grad.new_zeros(())
        for part, y, x, place in patches.blocks(scale):
            measures = [frames.measure(k, part, y, x) for k in range(3)]
            signed, squares = _signed_distance(measures)
            # d(coverage)/d(signed) = clear * sigmoid(signed): no division by 1 - p, which may be zero.
            flow = torch.where(signed < limit, zero, torch.sigmoid(signed))
            flow.mul_(upstream.index_select(0, place.view(-1)).view_as(flow))
            flow = torch.where(signed < 0, -flow, flow)
            nearest = signed.abs()
            for k in range(3):
                mine = squares[k] <= nearest
                _add_edge_gradient(corners, frames, k, part, torch.where(mine, flow, zero), measures[k])
                flow = torch.where(mine, zero, flow)
        count = vertices.shape[1]
        index = topology.corners.index_select(1, patches.face).add_(patches.image * count).view(-1)
        out = vertices.new_zeros(3, vertices.shape[0] * count)
        for axis in range(2):
            out[axis].index_add_(0, index, corners[axis].reshape(-1))
        return out.t().view(vertices.shape), None, None, None


def _add_edge_gradient(
    corners: Tensor, frames: _EdgeFrames, k: int, part: slice, flow: Tensor, measure: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Adds the gradient of the square distance to edge k, shared between its ends as its nearest point divides it."""
    clamped, rest, inwards = measure
    across, beyond = flow * inwards, flow * rest
    length = frames.length[k, part]
    share = torch.where(length > 0, length.reciprocal(), 0)
    across_end = (across * clamped).sum((0, 1)).mul_(share)
    beyond_end = (beyond * clamped).sum((0, 1)).mul_(share)
    across_start, beyond_start = across.sum((0, 1)).sub_(across_end), beyond.sum((0, 1)).sub_(beyond_end)
    for axis in range(2):
        along, inward = frames.along[axis, k, part], frames.inward[axis, k, part]
        corners[axis, k, part] -= across_start * inward + beyond_start * along
        corners[axis, (k + 1) % 3, part] -= across_end * inward + beyond_end * along
