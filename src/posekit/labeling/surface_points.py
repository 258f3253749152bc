"""Dense correspondences of a body whose place in a picture is known: vertices that the picture shows, and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from posekit.body.smpl_file import BodyData
from posekit.render.rasterizer import RasterSettings, rasterize
from posekit.render.topology import MeshTopology
from posekit.render.visibility import spread_over_surface, vertex_areas, visible_vertices

_RASTER_SIDE = 400
"""Longer side (px) of the raster that visibility is looked up in: about 4 mm of a standing person for each pixel.

Measured against 3000 px: at 400, 94 % of the vertices are the same, nearly all others being left out at the outline and at
fingers; at 160 it is 84 %. Under 0.2 % lie more than 2 cm behind the surface, at any size.
"""
_NEAR = 0.1
"""Vertices nearer to a perspective camera than this (m) are neither drawn nor noted."""
_PAIRS = 1 << 16
"""Portions of the rasterizer; several threads share the cache."""


@dataclass(frozen=True)
class BodiesInView:
    """The person who is to be labelled (first), and others who may hide parts of him or her, as one picture sees them.

    `screen` is pixels of the picture and depth (m); pixels are NaN where the lens is not defined. `facing` is the cosine
    between the normal of each of the first one's vertices and the line of sight to the camera.
    """

    screen: Float[Tensor, "P V 3"]
    facing: Float[Tensor, " V"]
    perspective: bool
    image_size: tuple[int, int]
    """Width and height."""


class SurfacePoints:
    """Chooses visible vertices of bodies of one model, evenly from the surface that is seen.

    The surface of each vertex is measured on the resting body.
    """

    def __init__(self, body: BodyData, device: torch.device) -> None:
        self._topology = MeshTopology.from_faces(torch.from_numpy(body.faces)).to(device)
        # The inside of a closed surface is never seen, and is half of the work.
        self._closed = not bool(self._topology.edge_open.any())
        self._areas = vertex_areas(body.v_template, body.faces)

    def choose(
        self, bodies: BodiesInView, count: int, rng: np.random.Generator
    ) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 2"]]:
        """At most `count` visible vertices of the first body, and their exact pixels."""
        seen = self.visible(bodies)
        chosen = spread_over_surface(seen, self._areas[seen], count, rng)
        return chosen, bodies.screen[0, :, :2].double().cpu().numpy()[chosen]

    @torch.no_grad()
    def visible(self, bodies: BodiesInView) -> Int[np.ndarray, " n"]:
        """The vertices of the first body that are in the picture and not hidden by it or by the others."""
        screen = _within_reach(bodies)
        points = screen[0].cpu().numpy().copy()
        width, height = bodies.image_size
        inside = (points[:, :2] >= -0.5).all(1) & (points[:, 0] <= width - 0.5) & (points[:, 1] <= height - 0.5)
        points[~inside] = np.nan
        if not inside.any():
            return np.zeros(0, np.int64)
        low = points[inside, :2].min(axis=0)
        extent = points[inside, :2].max(axis=0) - low
        zoom = _RASTER_SIDE / max(float(extent.max()), 1.0)
        columns, rows = (int(np.ceil(zoom * length)) + 1 for length in extent)
        corner, scale = np.append(low, 0.0), np.array([zoom, zoom, 1.0])
        local = (screen - torch.from_numpy(corner).to(screen)) * torch.from_numpy(scale).to(screen)
        settings = RasterSettings(perspective=bodies.perspective, cull_backfaces=self._closed, pairs_per_chunk=_PAIRS)
        # Each body is drawn by itself.
        depths = rasterize(local.float(), self._topology, (rows, columns), settings).depth.cpu().numpy()
        place, facing = (points - corner) * scale, bodies.facing.double().cpu().numpy()
        seen = visible_vertices(depths[0], place, facing)
        if len(depths) > 1:
            # Another body behind the outline must not add vertices whose pixel is background without it.
            seen = np.intersect1d(seen, visible_vertices(depths.min(axis=0), place, facing), assume_unique=True)
        return seen


def _within_reach(bodies: BodiesInView) -> Float[Tensor, "P V 3"]:
    screen = bodies.screen.double()
    return torch.where(screen[..., 2:] > _NEAR, screen, torch.nan) if bodies.perspective else screen
