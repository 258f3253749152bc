"""Antialiased outlines, which give the vertices their gradients at silhouettes and occlusion edges.

The silhouette edges of the mesh are listed, and each is intersected with the straight lines through pixel centres: steep
edges with pixel rows, the others with columns. Where an edge passes between two neighbouring pixel centres, the pixel
that holds the crossing is blended with its neighbour by the share of it that the edge gives away. The crossing is a
differentiable function of the edge's ends. In the spirit of Laine et al. 2020, "Modular Primitives for High-Performance
Differentiable Rendering" (section 3.6), but over all silhouette edges, since the faces of a body are smaller than a
pixel and the edge of the visible face is rarely the outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from posekit.render.rasterizer import NO_FACE, Fragments, ordered_bits

OCCLUSION_TOLERANCE = 1e-3
"""An edge occludes a surface that lies farther behind it than this share of the mesh's extent in depth."""


def antialias_mask(fragments: Fragments) -> Float[Tensor, "B H W"]:
    """The share of each pixel that the mesh covers, in [0, 1], with gradients to the vertices."""
    vertices = fragments.vertices
    covered = fragments.mask.reshape(-1)
    mask = covered.to(vertices.dtype)
    edges = _silhouette_edges(fragments)
    for steep in (True, False):
        gaps = _gaps(fragments, edges, steep)
        first_covered = covered.index_select(0, gaps.first)
        changes = (first_covered != covered.index_select(0, gaps.second)).nonzero().squeeze(1)
        gaps, first_covered = gaps.select(changes), first_covered.index_select(0, changes)
        share = torch.where(first_covered, gaps.crossing - 0.5, 0.5 - gaps.crossing)
        outermost = _winners(gaps.first, -share.detach(), mask.numel())
        share = share.index_select(0, outermost)
        gaps, first_covered = gaps.select(outermost), first_covered.index_select(0, outermost)
        grows = (share.detach() > 0) == first_covered
        mask = mask.index_add(0, torch.where(grows, gaps.second, gaps.first), share)
    return mask.clamp(0, 1).view(fragments.batch, *fragments.image_size)


def antialias(image: Float[Tensor, "B H W C"], fragments: Fragments) -> Float[Tensor, "B H W C"]:
    """`image` with its jumps at silhouettes and at edges of nearer body parts blended over the pixel.

    `image` is what `fragments.image` made, with any channels. Give colours multiplied by coverage, and coverage as a
    channel, to lay the result over a background afterwards.
    """
    flat = image.reshape(-1, image.shape[-1])
    depth = fragments.depth.detach().reshape(-1)
    edges = _silhouette_edges(fragments)
    targets, blends = [], []
    for steep in (True, False):
        gaps = _gaps(fragments, edges, steep)
        inner = torch.where(gaps.surface_first, gaps.first, gaps.second)
        outer = torch.where(gaps.surface_first, gaps.second, gaps.first)
        occludes = (depth.index_select(0, outer) > gaps.occlusion_depth).nonzero().squeeze(1)
        nearest = _winners(
            gaps.first.index_select(0, occludes), gaps.occlusion_depth.index_select(0, occludes), depth.numel()
        )
        chosen = occludes.index_select(0, nearest)
        gaps, inner, outer = gaps.select(chosen), inner.index_select(0, chosen), outer.index_select(0, chosen)
        share = torch.where(gaps.surface_first, gaps.crossing - 0.5, 0.5 - gaps.crossing)
        targets.append(torch.where(share.detach() > 0, outer, inner))
        blends.append(share[:, None] * (flat.index_select(0, inner) - flat.index_select(0, outer)))
    return flat.index_add(0, torch.cat(targets), torch.cat(blends)).view(image.shape)


@dataclass(frozen=True)
class _Edges:
    """Silhouette edges (E of them over the batch), ends in pixels."""

    image: Int64[Tensor, " E"]
    ends: Float[Tensor, "2 3 E"]
    """(end, coordinate): x, y and depth of both ends."""
    opposite: Float[Tensor, "2 E"]
    """The third corner of a face at the edge: the surface lies on its side."""
    tolerance: Float[Tensor, " E"]
    """How far in depth a surface must lie behind the edge to be occluded by it."""


@dataclass(frozen=True)
class _Gaps:
    """Places where an edge crosses the line between two neighbouring pixel centres (G of them)."""

    first: Int64[Tensor, " G"]
    second: Int64[Tensor, " G"]
    """The left or upper pixel, and the right or lower one, in the flattened images."""
    crossing: Float[Tensor, " G"]
    """Where between them, in [0, 1); differentiable."""
    surface_first: Bool[Tensor, " G"]
    """Whether the edge's surface lies on the side of the first pixel."""
    occlusion_depth: Float[Tensor, " G"]
    """Surfaces beyond this depth are behind the edge here."""

    def select(self, index: Int64[Tensor, " S"]) -> _Gaps:
        return _Gaps(
            self.first.index_select(0, index),
            self.second.index_select(0, index),
            self.crossing.index_select(0, index),
            self.surface_first.index_select(0, index),
            self.occlusion_depth.index_select(0, index),
        )


def _silhouette_edges(fragments: Fragments) -> _Edges:
    topology, vertices = fragments.topology, fragments.vertices
    batch, count, _ = vertices.shape
    first = fragments.orientation.index_select(1, topology.edge_faces[0])
    second = fragments.orientation.index_select(1, topology.edge_faces[1].clamp_min(0))
    # A face that was dropped counts as missing; so does the second face of a border.
    outline = ((first != second) | topology.edge_open) & ((first != 0) | (second != 0))
    index = outline.view(-1).nonzero().squeeze(1)
    image = torch.div(index, max(topology.edges.shape[1], 1), rounding_mode="floor")
    edge = index - image * topology.edges.shape[1]
    offset = image * count
    ends = topology.edges.index_select(1, edge).add_(offset).view(-1)
    side = torch.where(
        first.reshape(-1).index_select(0, index) != 0,
        topology.edge_opposites[0].index_select(0, edge),
        topology.edge_opposites[1].index_select(0, edge),
    )
    table = vertices.reshape(batch * count, 3)
    z = vertices.detach()[..., 2].nan_to_num(0, 0, 0)
    tolerance = OCCLUSION_TOLERANCE * (z.amax(1) - z.amin(1)) if count else z.new_zeros(batch)
    return _Edges(
        image=image,
        ends=table.index_select(0, ends).view(2, -1, 3).transpose(1, 2),
        opposite=table.detach().index_select(0, side.add_(offset))[:, :2].t(),
        tolerance=tolerance.index_select(0, image),
    )


def _gaps(fragments: Fragments, edges: _Edges, steep: bool) -> _Gaps:
    """The gaps that steep edges cross on pixel rows, or the others on columns.

    "Major" is the coordinate that numbers those rows or columns, "minor" the one along them.
    """
    height, width = fragments.image_size
    lines, length = (height, width) if steep else (width, height)
    major, minor = (1, 0) if steep else (0, 1)
    run = (edges.ends[1, :2] - edges.ends[0, :2]).detach().abs()
    mine = ((run[1] >= run[0]) == steep).nonzero().squeeze(1)
    ends = edges.ends.index_select(2, mine)
    (start, stop), fixed = ends.unbind(0), ends.detach()

    # Half-open at the far end, so that a line through a shared end is crossed once.
    low = torch.minimum(fixed[0, major], fixed[1, major]).ceil().clamp(0, lines)
    high = torch.maximum(fixed[0, major], fixed[1, major]).ceil().clamp(0, lines)
    crossed = (high - low).long()
    owner = torch.repeat_interleave(torch.arange(len(mine), device=mine.device), crossed)
    step = torch.arange(len(owner), device=mine.device) - (crossed.cumsum(0) - crossed).index_select(0, owner)
    line = low.index_select(0, owner) + step

    rise = stop[major] - start[major]
    # Edges without extent cross no line; a plain 0 / 0 would still reach their gradients.
    slope = (stop[minor] - start[minor]) / torch.where(rise == 0, 1, rise)
    place = start[minor].index_select(0, owner) + slope.index_select(0, owner) * (
        line - start[major].index_select(0, owner)
    )
    cell = place.detach().floor()
    kept = ((cell >= 0) & (cell < length - 1)).nonzero().squeeze(1)
    owner, line, cell = (values.index_select(0, kept) for values in (owner, line, cell))
    image = edges.image.index_select(0, mine).index_select(0, owner) * (height * width)
    first = image + (line * width + cell if steep else cell * width + line).long()

    opposite = edges.opposite.index_select(1, mine).detach()
    surface = fixed[0, minor] + slope.detach() * (opposite[major] - fixed[0, major])
    return _Gaps(
        first=first,
        second=first + (1 if steep else width),
        crossing=place.index_select(0, kept) - cell,
        surface_first=(opposite[minor] < surface).index_select(0, owner),
        occlusion_depth=_edge_depth(fragments, fixed, owner, line, major)
        + edges.tolerance.index_select(0, mine).index_select(0, owner),
    )


def _edge_depth(
    fragments: Fragments,
    ends: Float[Tensor, "2 3 e"],
    owner: Int64[Tensor, " G"],
    line: Float[Tensor, " G"],
    major: int,
) -> Float[Tensor, " G"]:
    start, run = ends[0, major].index_select(0, owner), (ends[1, major] - ends[0, major]).index_select(0, owner)
    share = ((line - start) / run).clamp(0, 1)
    z0, z1 = ends[0, 2].index_select(0, owner), ends[1, 2].index_select(0, owner)
    if fragments.settings.perspective:
        return z0 * z1 / (z1 + (z0 - z1) * share)
    return z0 + (z1 - z0) * share


def _winners(slots: Int64[Tensor, " G"], cost: Float[Tensor, " G"], size: int) -> Int64[Tensor, " W"]:
    """The entry of least cost for each slot that has any; the earlier of equals."""
    keys = ordered_bits(cost.float()).long().bitwise_left_shift_(32)
    keys |= torch.arange(len(slots), device=slots.device)
    best = torch.full((size,), NO_FACE, dtype=torch.int64, device=slots.device)
    best.scatter_reduce_(0, slots, keys, "amin")
    # Gathered back rather than searched for: the entries are far fewer than the pixels.
    return (best.index_select(0, slots) == keys).nonzero().squeeze(1)
