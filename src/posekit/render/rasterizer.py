"""Which face is seen in each pixel, and the differentiable interpolation of whatever lies on the mesh.

Faces of a body are a few pixels small. So all (face, pixel) pairs of the faces' bounding boxes are listed flat, and the
nearest face of each pixel is found by one scatter-minimum over 64-bit keys that hold the depth above the face number.
There is no limit to the faces per pixel, and no loop over faces or pixels.

Pixels follow `posekit.geometry.conventions`: the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Int8, Int64
from torch import Tensor

from posekit.render.topology import MeshTopology

NO_FACE = torch.iinfo(torch.int64).max
"""Key of a pixel that no face covers."""

MAX_PIXELS = 1 << 24
"""Positions inside a face's box are counted in float32, which is exact up to here."""


@dataclass(frozen=True)
class RasterSettings:
    """How depth is read and which faces count."""

    perspective: bool = True
    """Whether depth is the distance along the optical axis of a pinhole camera (1/depth is linear on the screen), or
    itself linear on the screen, as under orthographic and weak-perspective cameras."""
    near: float = 1e-6
    """Perspective faces with a corner at or before this depth are dropped whole."""
    cull_backfaces: bool = False
    pairs_per_chunk: int = 1 << 17
    """(face, pixel) pairs in work at a time; bounds memory. Beyond the size of the processor's cache, slower."""


@dataclass(frozen=True)
class Fragments:
    """The visible surface: one entry per covered pixel, N in all, and images of it on request.

    Gradients flow from `weights` and everything computed with them to `vertices`, at fixed visibility;
    `posekit.render.silhouette` adds those of the visibility.
    """

    vertices: Float[Tensor, "B V 3"]
    topology: MeshTopology
    settings: RasterSettings
    image_size: tuple[int, int]
    pixels: Int64[Tensor, " N"]
    """Position in the flattened (B, H, W) images."""
    faces: Int64[Tensor, " N"]
    orientation: Int8[Tensor, "B F"]
    """Sign of each face's area on the screen (negative faces the camera when the mesh winds counter-clockwise seen
    from outside); 0 where the face is degenerate, not finite, or too near."""

    @property
    def batch(self) -> int:
        return self.vertices.shape[0]

    @cached_property
    def corners(self) -> Int64[Tensor, "3 N"]:
        """The corners of the visible faces, as positions in the flattened (B, V) vertices."""
        height, width = self.image_size
        offset = torch.div(self.pixels, max(height * width, 1), rounding_mode="floor") * self.vertices.shape[1]
        return self.topology.corners.index_select(1, self.faces).add_(offset)

    @cached_property
    def weights(self) -> Float[Tensor, "3 N"]:
        """Barycentric coordinates on the surface (perspective-correct), each in [0, 1]."""
        return _SurfaceWeights.apply(self.vertices, self)

    @cached_property
    def visible_depth(self) -> Float[Tensor, " N"]:
        z = self.vertices[..., 2].reshape(-1).index_select(0, self.corners.reshape(-1)).view(3, -1)
        return (self.weights * z).sum(0)

    @cached_property
    def pix_to_face(self) -> Int64[Tensor, "B H W"]:
        """The visible face in each pixel, -1 on the background."""
        shape = (self.batch, *self.image_size)
        empty = torch.full((shape[0] * shape[1] * shape[2],), -1, dtype=torch.int64, device=self.pixels.device)
        return empty.index_copy(0, self.pixels, self.faces).view(shape)

    @property
    def mask(self) -> Bool[Tensor, "B H W"]:
        return self.pix_to_face >= 0

    @cached_property
    def depth(self) -> Float[Tensor, "B H W"]:
        """Depth of the visible surface, infinite on the background."""
        return self.image(self.visible_depth[:, None], background=torch.inf).squeeze(-1)

    @cached_property
    def barycentrics(self) -> Float[Tensor, "B H W 3"]:
        return self.image(self.weights.t())

    def interpolate(self, attributes: Float[Tensor, "#B V C"]) -> Float[Tensor, "N C"]:
        """Values given at the vertices, blended at the visible surface points; `image` lays them out."""
        batch, count = self.vertices.shape[:2]
        channels = attributes.shape[-1]
        table = attributes.expand(batch, count, channels).reshape(batch * count, channels)
        return self._blend(table, self.corners)

    def interpolate_corners(self, attributes: Float[Tensor, "#B F 3 C"]) -> Float[Tensor, "N C"]:
        """Values given per corner of each face (texture coordinates with seams, say), blended."""
        index = self._face_index(attributes.shape[0]) * 3
        return self._blend(attributes.reshape(-1, attributes.shape[-1]), torch.stack([index, index + 1, index + 2]))

    def gather_faces(self, attributes: Float[Tensor, "#B F C"]) -> Float[Tensor, "N C"]:
        """Values that are constant on each face."""
        return attributes.reshape(-1, attributes.shape[-1]).index_select(0, self._face_index(attributes.shape[0]))

    def image(self, values: Float[Tensor, "N C"], background: float | int | Tensor = 0.0) -> Float[Tensor, "B H W C"]:
        """Lays values of visible points out as images; `background` is a number, or anything that broadcasts to
        (B, H, W, C)."""
        shape = (self.batch, *self.image_size, values.shape[-1])
        if isinstance(background, Tensor):
            canvas = background.to(values).expand(shape).reshape(-1, shape[-1])
        else:
            canvas = values.new_full((shape[0] * shape[1] * shape[2], shape[-1]), background)
        return canvas.index_copy(0, self.pixels, values).view(shape)

    def _face_index(self, attribute_batch: int) -> Int64[Tensor, " N"]:
        if attribute_batch == 1:
            return self.faces
        image = torch.div(self.pixels, self.image_size[0] * self.image_size[1], rounding_mode="floor")
        return self.faces + image * self.topology.face_count

    def _blend(self, table: Float[Tensor, "R C"], rows: Int64[Tensor, "3 N"]) -> Float[Tensor, "N C"]:
        corners = table.index_select(0, rows.reshape(-1)).view(3, rows.shape[1], table.shape[-1])
        return (corners * self.weights.to(table.dtype)[..., None]).sum(0)


def rasterize(
    vertices: Float[Tensor, "B V 3"],
    topology: MeshTopology,
    image_size: tuple[int, int],
    settings: RasterSettings | None = None,
) -> Fragments:
    """Finds the face that is seen in each pixel of B images of (height, width) pixels.

    `vertices` are (x, y) pixels and depth. Faces with a vertex that is not finite are left out. Equal depths go to the
    lower face number. Computed in float32 at least, whatever autocast says; depths are compared in float32.
    """
    settings = settings or RasterSettings()
    height, width = image_size
    if vertices.shape[1] < topology.vertex_count:
        raise ValueError(f"the faces need {topology.vertex_count} vertices, but there are {vertices.shape[1]}")
    if height < 0 or width < 0 or height * width > MAX_PIXELS:
        raise ValueError(f"an image of {height} x {width} pixels; at most {MAX_PIXELS} pixels can be rasterized")
    if vertices.dtype not in (torch.float32, torch.float64):
        vertices = vertices.float()
    with torch.autocast(vertices.device.type, enabled=False), torch.no_grad():
        keys, orientation = _nearest_faces(vertices.detach(), topology, image_size, settings)
        pixels = (keys != NO_FACE).nonzero().squeeze(1)
        faces = keys.index_select(0, pixels) & 0xFFFFFFFF
    return Fragments(vertices, topology, settings, (height, width), pixels, faces, orientation)


@dataclass(frozen=True)
class _Boxes:
    """The faces that may cover a pixel centre (n in all), with their bounding boxes in pixels."""

    image: Int64[Tensor, " n"]
    face: Int64[Tensor, " n"]
    left: Float[Tensor, " n"]
    top: Float[Tensor, " n"]
    width: Float[Tensor, " n"]
    pairs: Int64[Tensor, " n"]
    sign: Float[Tensor, " n"]


def _nearest_faces(
    vertices: Float[Tensor, "B V 3"], topology: MeshTopology, image_size: tuple[int, int], settings: RasterSettings
) -> tuple[Int64[Tensor, " pixels"], Int8[Tensor, "B F"]]:
    height, width = image_size
    batch = vertices.shape[0]
    keys = torch.full((batch * height * width,), NO_FACE, dtype=torch.int64, device=vertices.device)
    x, y, z = (vertices[..., axis].contiguous() for axis in range(3))
    boxes, orientation = _face_boxes((x, y, z), topology, image_size, settings)
    if boxes.face.numel() == 0:
        return keys, orientation
    edges = _edge_functions((x, y), topology, boxes)
    corners = topology.corners.index_select(1, boxes.face).add_(boxes.image * vertices.shape[1])
    depth = z.view(-1).index_select(0, corners.view(-1)).view(3, -1)
    if settings.perspective:
        depth = depth.reciprocal_()
    ends = boxes.pairs.cumsum(0)
    for start, stop in _chunks(ends, settings.pairs_per_chunk):
        _scatter_pairs(keys, boxes, edges, depth, ends, (start, stop), (image_size, settings.perspective))
    return keys, orientation


def _face_boxes(
    xyz: tuple[Tensor, Tensor, Tensor], topology: MeshTopology, image_size: tuple[int, int], settings: RasterSettings
) -> tuple[_Boxes, Int8[Tensor, "B F"]]:
    x, y, z = xyz
    height, width = image_size
    batch, face_count = x.shape[0], topology.face_count
    flat = topology.corners.view(-1)
    x0, x1, x2 = x.index_select(1, flat).view(batch, 3, face_count).unbind(1)
    y0, y1, y2 = y.index_select(1, flat).view(batch, 3, face_count).unbind(1)
    lower, upper = torch.minimum, torch.maximum
    left = lower(lower(x0, x1), x2).ceil_().clamp_(0, width)
    columns = upper(upper(x0, x1), x2).floor_().clamp_(-1, width - 1).sub_(left).add_(1)
    top = lower(lower(y0, y1), y2).ceil_().clamp_(0, height)
    rows = upper(upper(y0, y1), y2).floor_().clamp_(-1, height - 1).sub_(top).add_(1)
    area = (x1 - x0).mul_(y2 - y0).sub_((y1 - y0).mul_(x2 - x0))

    # A missing or overflowing coordinate makes the area NaN or inf.
    usable = area.isfinite()
    in_depth = z.isfinite() & (z > settings.near) if settings.perspective else z.isfinite()
    if not bool(in_depth.all()):
        usable &= in_depth.index_select(1, flat).view(batch, 3, face_count).all(1)
    area = torch.where(usable, area, 0)
    keep = lower(rows, columns) > 0
    keep &= (area < 0) if settings.cull_backfaces else (area != 0)

    index = keep.view(-1).nonzero().squeeze(1)
    image = torch.div(index, max(face_count, 1), rounding_mode="floor")
    columns = columns.view(-1).index_select(0, index)
    boxes = _Boxes(
        image=image,
        face=index - image * face_count,
        left=left.view(-1).index_select(0, index),
        top=top.view(-1).index_select(0, index),
        width=columns,
        pairs=(columns * rows.view(-1).index_select(0, index)).long(),
        sign=area.view(-1).index_select(0, index).sign_(),
    )
    return boxes, area.sign().to(torch.int8)


def _edge_functions(
    xy: tuple[Tensor, Tensor], topology: MeshTopology, boxes: _Boxes
) -> tuple[Float[Tensor, "3 n"], Float[Tensor, "3 n"], Float[Tensor, "3 n"], Float[Tensor, "3 n"]]:
    """Start (x, y) and signed direction (x, y) of the canonical edges, positive towards the inside of the face."""
    x, y = (axis.view(-1) for axis in xy)
    offset = boxes.image * xy[0].shape[1]
    low = topology.face_edge_low.index_select(1, boxes.face).add_(offset).view(-1)
    high = topology.face_edge_high.index_select(1, boxes.face).add_(offset).view(-1)
    sign = topology.face_edge_sign.index_select(1, boxes.face).to(x.dtype).mul_(boxes.sign).view(-1)
    start_x, start_y = x.index_select(0, low), y.index_select(0, low)
    along_x = x.index_select(0, high).sub_(start_x).mul_(sign)
    along_y = y.index_select(0, high).sub_(start_y).mul_(sign)
    return start_x.view(3, -1), start_y.view(3, -1), along_x.view(3, -1), along_y.view(3, -1)


def _chunks(ends: Int64[Tensor, " n"], pairs_per_chunk: int) -> list[tuple[int, int]]:
    """Ranges of faces that hold about `pairs_per_chunk` pairs each."""
    marks = torch.arange(pairs_per_chunk, max(int(ends[-1]), pairs_per_chunk), pairs_per_chunk, device=ends.device)
    borders = sorted({0, *torch.searchsorted(ends, marks).tolist(), len(ends)})
    return list(pairwise(borders))


def _scatter_pairs(
    keys: Int64[Tensor, " pixels"],
    boxes: _Boxes,
    edges: tuple[Tensor, Tensor, Tensor, Tensor],
    depth: Float[Tensor, "3 n"],
    ends: Int64[Tensor, " n"],
    chunk: tuple[int, int],
    view: tuple[tuple[int, int], bool],
) -> None:
    """Lowers `keys` by all pixels inside the faces of `chunk`. `depth` is inverted under perspective."""
    (height, width), perspective = view
    part = slice(*chunk)
    pairs = boxes.pairs[part]
    begins = ends[part] - pairs
    begins = begins - begins[0]
    owner = torch.repeat_interleave(torch.arange(len(pairs), device=keys.device), pairs)
    position = (torch.arange(len(owner), device=keys.device) - begins.index_select(0, owner)).to(depth.dtype)
    columns = boxes.width[part].index_select(0, owner)
    row = torch.div(position, columns, rounding_mode="trunc")
    px = position.sub_(columns.mul_(row)).add_(boxes.left[part].index_select(0, owner))
    py = row.add_(boxes.top[part].index_select(0, owner))

    start_x, start_y, along_x, along_y = (values[:, part] for values in edges)
    # No fused multiply-add here: both faces at an edge must round alike, or holes open between them.
    inside = [
        (py - start_y[k].index_select(0, owner))
        .mul_(along_x[k].index_select(0, owner))
        .sub_((px - start_x[k].index_select(0, owner)).mul_(along_y[k].index_select(0, owner)))
        for k in range(3)
    ]
    total = (inside[0] + inside[1]).add_(inside[2])
    least = torch.minimum(torch.minimum(inside[0], inside[1]), inside[2])
    hit = ((least >= 0) & (total > 0)).nonzero().squeeze(1)
    owner = owner.index_select(0, hit)
    near = inside[0].index_select(0, hit).mul_(depth[0, part].index_select(0, owner))
    for k in (1, 2):
        near.add_(inside[k].index_select(0, hit).mul_(depth[k, part].index_select(0, owner)))
    near = near.div_(total.index_select(0, hit)).float()
    order = ordered_bits(near)
    if perspective:
        order = order.bitwise_not_()
    key = order.long().bitwise_left_shift_(32).bitwise_or_(boxes.face[part].index_select(0, owner))
    pixel = py.index_select(0, hit).long().mul_(width).add_(px.index_select(0, hit).long())
    pixel.add_(boxes.image[part].index_select(0, owner).mul_(height * width))
    keys.scatter_reduce_(0, pixel, key, "amin")


def ordered_bits(values: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """32-bit integers in the order of the float32 values."""
    bits = values.view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


class _SurfaceWeights(torch.autograd.Function):
    """Barycentric coordinates of the visible points, by the same arithmetic that found them inside their faces.

    Written out because the plain graph of the same expressions costs twice the time, and because recomputing the edges
    in another order could turn the weights of very thin faces negative.
    """

    @staticmethod
    def forward(ctx: Any, vertices: Tensor, fragments: Fragments) -> Tensor:
        topology, faces, pixels = fragments.topology, fragments.faces, fragments.pixels
        height, width = fragments.image_size
        count = vertices.shape[1]
        image = torch.div(pixels, max(height * width, 1), rounding_mode="floor")
        place = pixels - image * (height * width)
        row = torch.div(place, max(width, 1), rounding_mode="floor")
        px, py = (place - row * width).to(vertices.dtype), row.to(vertices.dtype)
        x, y, z = (vertices[..., axis].reshape(-1) for axis in range(3))
        offset = image * count
        low = topology.face_edge_low.index_select(1, faces).add_(offset).view(-1)
        high = topology.face_edge_high.index_select(1, faces).add_(offset).view(-1)
        sign = topology.face_edge_sign.index_select(1, faces).to(vertices.dtype).view(-1)
        start_x, start_y = x.index_select(0, low), y.index_select(0, low)
        along_x = x.index_select(0, high).sub_(start_x).mul_(sign).view(3, -1)
        along_y = y.index_select(0, high).sub_(start_y).mul_(sign).view(3, -1)
        edge = (py - start_y.view(3, -1)).mul_(along_x).sub_((px - start_x.view(3, -1)).mul_(along_y))
        if fragments.settings.perspective:
            inverse = z.index_select(0, fragments.corners.view(-1)).view(3, -1).reciprocal_()
            weight = edge * inverse
        else:
            inverse, weight = None, edge
        scale = weight.sum(0).reciprocal_()
        weight = weight * scale
        ctx.save_for_backward(vertices, fragments.corners, px, py, edge, inverse, weight, scale)
        return weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        vertices, corners, px, py, edge, inverse, weight, scale = ctx.saved_tensors
        batch, count, _ = vertices.shape
        flat = corners.view(-1)
        x = vertices[..., 0].reshape(-1).index_select(0, flat).view(3, -1) - px
        y = vertices[..., 1].reshape(-1).index_select(0, flat).view(3, -1) - py
        to_weight = (grad - (grad * weight).sum(0)).mul_(scale)
        to_edge = to_weight if inverse is None else to_weight * inverse
        # Edge k is the cross product of corners k + 1 and k + 2, both relative to the pixel.
        after, before = to_edge.roll(-1, 0), to_edge.roll(-2, 0)
        grad_x = before * y.roll(-1, 0) - after * y.roll(-2, 0)
        grad_y = after * x.roll(-2, 0) - before * x.roll(-1, 0)
        grad_z = torch.zeros_like(grad_x) if inverse is None else -to_weight * edge * inverse * inverse
        out = vertices.new_zeros(3, batch * count)
        for axis, part in enumerate((grad_x, grad_y, grad_z)):
            out[axis].index_add_(0, flat, part.reshape(-1))
        return out.t().view(batch, count, 3), None
