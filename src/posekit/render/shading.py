"""Light on meshes: normals, ambient and directional light, and colours over backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from posekit.render.topology import MeshTopology


@dataclass(frozen=True)
class Light:
    """A light from infinitely far away; `direction` points from the surface towards it, in the frame of the normals."""

    direction: tuple[float, float, float]
    strength: float
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Lighting:
    """What falls on a surface. `wrap` lets light reach around the edge of the lit side (0: Lambert's law)."""

    ambient: float
    lights: Sequence[Light]
    wrap: float = 0.0


STUDIO = Lighting(
    ambient=0.32,
    lights=(
        Light((-0.5, -0.75, -0.6), 0.74, (1.0, 0.98, 0.95)),
        Light((0.9, -0.15, -0.45), 0.20, (0.85, 0.92, 1.0)),
        Light((0.1, -0.5, 0.85), 0.18),
    ),
    wrap=0.25,
)
"""For normals in the camera's frame (x right, y down, z forward): key light from the upper left, fill, rim."""


def vertex_normals(vertices: Float[Tensor, "B V 3"], topology: MeshTopology) -> Float[Tensor, "B V 3"]:
    """Unit normals, averaged over the faces at each vertex by area, outwards if the mesh winds counter-clockwise.

    Zero where a vertex has no face with an area.
    """
    a, b, c = (vertices.index_select(1, corner) for corner in topology.corners)
    face = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(vertices)
    for corner in topology.corners:
        normals = normals.index_add(1, corner, face)
    return torch.nn.functional.normalize(normals, dim=-1, eps=1e-20)


def shade(
    colors: Float[Tensor, "*#batch 3"], normals: Float[Tensor, "*batch 3"], lighting: Lighting = STUDIO
) -> Float[Tensor, "*batch 3"]:
    """The light that surfaces of these colours (linear, in [0, 1]) send back, whatever side they are seen from."""
    return (colors * light_on(normals, lighting)).clamp(0, 1)


def light_on(normals: Float[Tensor, "*batch 3"], lighting: Lighting = STUDIO) -> Float[Tensor, "*batch 3"]:
    """The light (red, green, blue) that falls on surfaces with these unit normals."""
    total = torch.full_like(normals, lighting.ambient)
    for light in lighting.lights:
        direction = torch.nn.functional.normalize(normals.new_tensor(light.direction), dim=0)
        facing = ((normals @ direction + lighting.wrap) / (1 + lighting.wrap)).clamp_min(0)
        total = total + facing[..., None] * (light.strength * normals.new_tensor(light.color))
    return total


def over(
    premultiplied: Float[Tensor, "*image 3"], alpha: Float[Tensor, "*image"], background: float | int | Tensor
) -> Float[Tensor, "*image 3"]:
    """Colours that were multiplied by their coverage, laid over a background (a number, a colour or a picture)."""
    return premultiplied + (1 - alpha)[..., None] * background
