"""Shaded bodies over RGB frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from posekit.render.rasterizer import RasterSettings, rasterize
from posekit.render.shading import STUDIO, Lighting, light_on, vertex_normals
from posekit.render.silhouette import antialias
from posekit.render.topology import MeshTopology

BORDER = 2
"""Pixels around the bodies that are drawn with them, for smooth edges."""


_PAIRS = 1 << 16
"""Smaller portions than in `RasterSettings`: pictures are painted by several threads, which share the cache."""


class MeshPainter:
    """Paints bodies that share their faces over frames, nearer ones over farther ones, lit as in a studio.

    Only the rectangle around the bodies is rasterized, and only the pixels that they touch are blended.
    """

    def __init__(
        self,
        faces: Int[Tensor, "F 3"],
        *,
        opacity: float = 0.75,
        lighting: Lighting = STUDIO,
        face_colors: Float[Tensor, "F 3"] | None = None,
    ) -> None:
        self._faces = faces.long()
        self._opacity = opacity
        self._lighting = lighting
        self._face_colors = face_colors
        self._topologies: dict[int, MeshTopology] = {}
        self._closed = not bool(self.topology(1).edge_open.any())

    def topology(self, people: int) -> MeshTopology:
        """The faces of `people` bodies as one mesh, so that they hide each other."""
        if people not in self._topologies:
            vertices = int(self._faces.max()) + 1 if len(self._faces) else 0
            offsets = torch.arange(people, device=self._faces.device)[:, None, None] * vertices
            self._topologies[people] = MeshTopology.from_faces((self._faces + offsets).view(-1, 3))
        return self._topologies[people]

    def paint(
        self,
        frame: UInt8[np.ndarray, "H W 3"],
        screen: Float[Tensor, "P V 3"],
        camera_vertices: Float[Tensor, "P V 3"],
        colors: Sequence[tuple[int, int, int]],
        *,
        perspective: bool = True,
    ) -> None:
        """Draws P bodies in place. `screen` is pixels and depth (see `posekit.render.rasterizer.RasterSettings` for
        `perspective`), `camera_vertices` the same vertices in axes parallel to the camera's, where the light is at home;
        `colors` are RGB per body, where faces have none of their own."""
        box = _box_around(screen, frame.shape[:2], perspective)
        if box is None or not len(screen):
            return
        x0, y0, x1, y1 = box
        topology = self.topology(len(screen)).to(screen.device)
        normals = vertex_normals(camera_vertices.float(), self.topology(1).to(screen.device))
        shift = screen.new_tensor([x0, y0, 0])
        # The inside of a closed surface is never seen, and is half of the work.
        settings = RasterSettings(perspective=perspective, cull_backfaces=self._closed, pairs_per_chunk=_PAIRS)
        # In double precision the origin of the rectangle would not matter; in float32 it keeps numbers small.
        seen = rasterize((screen - shift).float().reshape(1, -1, 3), topology, (y1 - y0, x1 - x0), settings)
        if not len(seen.faces):
            return
        # Faces are so small in a picture that light may be found at their corners instead of in every pixel.
        light = seen.interpolate(light_on(normals, self._lighting).reshape(1, -1, 3))
        lit = light.mul_(self._surface_colors(seen.faces, colors)).clamp_(0, 1)
        layer = antialias(seen.image(torch.cat([lit, torch.ones_like(lit[:, :1])], 1)), seen).view(-1, 4)
        touched = (layer[:, 3] > 0).nonzero().squeeze(1)
        layer = layer.index_select(0, touched)
        alpha = layer[:, 3:].clamp(0, 1)
        color = layer[:, :3].clamp_min(0).minimum(alpha)
        region = frame[y0:y1, x0:x1]
        pixels = torch.from_numpy(region.reshape(-1, 3).copy()).to(layer.device)
        back = pixels.index_select(0, touched).float()
        mixed = back.mul_(1 - self._opacity * alpha).add_(color, alpha=255 * self._opacity)
        pixels.index_copy_(0, touched, mixed.round_().clamp_(0, 255).to(torch.uint8))
        region[:] = pixels.view(region.shape).cpu().numpy()

    def _surface_colors(self, faces: Int[Tensor, " N"], colors: Sequence[tuple[int, int, int]]) -> Float[Tensor, "N 3"]:
        if self._face_colors is not None:
            return self._face_colors.to(faces.device).index_select(0, faces % len(self._faces))
        table = torch.tensor(list(colors), dtype=torch.float32, device=faces.device) / 255
        return table.index_select(0, torch.div(faces, len(self._faces), rounding_mode="floor"))


def _box_around(
    screen: Float[Tensor, "P V 3"], size: tuple[int, ...], perspective: bool
) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 of the visible pixels around all vertices before the camera; None where there are none."""
    ahead = screen.isfinite().all(-1)
    if perspective:
        ahead &= screen[..., 2] > 0
    points = screen[ahead][:, :2]
    if not len(points):
        return None
    low = (points.amin(0).floor() - BORDER).clamp(min=0).tolist()
    high = (points.amax(0).ceil() + BORDER + 1).tolist()
    x0, y0, x1, y1 = int(low[0]), int(low[1]), int(min(high[0], size[1])), int(min(high[1], size[0]))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
