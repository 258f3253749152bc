"""Which vertices of a body a picture shows, and an even choice among them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

BEHIND = 0.008
"""A vertex counts as visible up to this much (m) behind the surface that its pixel shows."""
OTHER_PART = 0.05
"""Where a surface begins beside a vertex that is this much (m) nearer, it may hide the vertex between pixel centres."""
GRAZING = 0.12
"""Cosine between a vertex's normal and the line of sight below which it does not count as visible."""


def visible_vertices(
    depth: Float[np.ndarray, "H W"], points: Float[np.ndarray, "V 3"], facing: Float[np.ndarray, " V"]
) -> Int[np.ndarray, " n"]:
    """Vertices whose pixel shows a surface no nearer than they are, and which face the camera.

    `depth` is that of the rasterized picture (m; infinite on the background), `points` are pixels of that picture and
    depth, and `facing` is the cosine between each vertex's normal and the line of sight to the camera. Vertices outside the
    picture, or without a finite position, are not visible.
    """
    height, width = depth.shape
    finite = np.flatnonzero(np.isfinite(points).all(axis=1))
    columns, rows = (np.rint(points[finite, axis]).astype(np.int64) for axis in (0, 1))
    within = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    inside = finite[within]
    surface = depth[rows[within], columns[within]]
    left, top = (np.floor(points[inside, axis]).astype(np.int64) for axis in (0, 1))
    around = [depth[np.clip(top + y, 0, height - 1), np.clip(left + x, 0, width - 1)] for x in (0, 1) for y in (0, 1)]
    seen = np.isfinite(surface) & (points[inside, 2] <= surface + BEHIND) & (facing[inside] > GRAZING)
    seen &= points[inside, 2] <= np.min(around, axis=0) + OTHER_PART
    return inside[seen]


def spread_over_surface(
    candidates: Int[np.ndarray, " N"], areas: Float[np.ndarray, " N"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """A sample without repetition in which every bit of surface has the same chance (Efraimidis and Spirakis 2006)."""
    keys = np.log(rng.uniform(size=len(candidates))) / areas
    return np.sort(candidates[np.argsort(-keys)[:count]])


def vertex_areas(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, " V"]:
    """The surface (m^2) that belongs to each vertex."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    share = np.bincount(faces.ravel(), weights=np.repeat(area / 3.0, 3), minlength=len(vertices))
    return np.maximum(share, 1e-12)
