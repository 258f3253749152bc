"""One interface to the renderers: meshes on the screen in, colour, coverage, depth and face numbers out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from posekit.errors import ConfigError
from posekit.render.rasterizer import Fragments, RasterSettings, rasterize
from posekit.render.result import RenderResult, RenderSettings
from posekit.render.shading import over
from posekit.render.silhouette import antialias
from posekit.render.soft import SoftSettings, soft_mask
from posekit.render.topology import MeshTopology

BACKENDS = ("torch", "pytorch3d")
MODES = ("hard", "soft")
ANTIALIASING = ("image", "gradient", "none")
"""`image`: smooth edges, with gradients to the outline. `gradient`: the same gradients, but the image keeps hard edges.
`none`: hard edges, and gradients to colours and to positions inside the outline only."""


class Renderer:
    """Draws meshes that share `faces` into images of (height, width) pixels.

    The choices are `BACKENDS`, `MODES` and `ANTIALIASING` (True means ``image``, False ``none``). Mode ``soft``
    replaces the coverage by that of SoftRas, which reaches farther outside the outline; colours stay those of the
    nearest surface. `perspective` says how depth varies on the screen, see
    `posekit.render.rasterizer.RasterSettings`. Raises DependencyError for the backend ``pytorch3d`` where that package
    is missing, and ConfigError for names it does not know.
    """

    def __init__(
        self,
        faces: Int[Tensor, "F 3"],
        image_size: tuple[int, int],
        *,
        backend: str = "torch",
        mode: str = "hard",
        antialias: str | bool = True,
        perspective: bool = True,
        soft: SoftSettings | None = None,
    ) -> None:
        if isinstance(antialias, bool):
            antialias = "image" if antialias else "none"
        _check_choice("rendering mode", mode, MODES)
        _check_choice("antialiasing", antialias, ANTIALIASING)
        _check_choice("renderer backend", backend, BACKENDS)
        self.settings = RenderSettings(mode, antialias, perspective, soft or SoftSettings())
        self.topology = MeshTopology.from_faces(faces)
        self.image_size = image_size
        self._pytorch3d: Any = None
        if backend == "pytorch3d":
            from posekit.render.pytorch3d_backend import PyTorch3DBackend

            self._pytorch3d = PyTorch3DBackend(faces, image_size, self.settings)

    def render(
        self,
        vertices: Float[Tensor, "B V 3"],
        colors: Float[Tensor, "#B N 3"] | Float[Tensor, "#B F 3 3"],
        background: float | int | Tensor = 0.0,
    ) -> RenderResult:
        """Draws meshes given on the screen: (x, y) pixels and depth.

        `colors` are per vertex (B or 1, V, 3), per face (B or 1, F, 3) or per corner of each face (B or 1, F, 3, 3);
        `background` is a number or anything that broadcasts to the images.
        """
        if self._pytorch3d is not None:
            result: RenderResult = self._pytorch3d.render(vertices, colors, background)
            return result
        topology = self.topology.to(vertices.device)
        settings = self.settings
        seen = rasterize(vertices, topology, self.image_size, RasterSettings(perspective=settings.perspective))
        covered = torch.cat([surface_colors(seen, colors), seen.weights.new_ones(seen.faces.numel(), 1)], 1)
        hard = seen.image(covered)
        rgb, alpha = _composite(hard if settings.antialias == "none" else antialias(hard, seen), background)
        if settings.antialias == "gradient":
            hard_rgb, hard_alpha = _composite(hard.detach(), background)
            rgb = hard_rgb.detach() + (rgb - rgb.detach())
            alpha = hard_alpha + (alpha - alpha.detach())
        if settings.mode == "soft":
            soft = settings.soft if settings.perspective else replace(settings.soft, near=-torch.inf)
            alpha = soft_mask(vertices, topology, self.image_size, soft)
        return RenderResult(rgb, alpha, seen.depth, seen.pix_to_face)


def surface_colors(seen: Fragments, colors: Tensor) -> Float[Tensor, "N C"]:
    """Colours at the visible points from colours per vertex, per face or per corner, told apart by their shape.

    Raises ValueError for shapes that are none of these.
    """
    faces, vertices = seen.topology.face_count, seen.vertices.shape[1]
    if colors.ndim == 4 and colors.shape[1:3] == (faces, 3):
        return seen.interpolate_corners(colors)
    if colors.ndim == 3 and colors.shape[1] == vertices:
        return seen.interpolate(colors)
    if colors.ndim == 3 and colors.shape[1] == faces:
        return seen.gather_faces(colors)
    raise ValueError(f"colours of shape {tuple(colors.shape)} for {vertices} vertices and {faces} faces")


def _composite(covered: Float[Tensor, "B H W 4"], background: float | int | Tensor) -> tuple[Tensor, Tensor]:
    coverage = covered[..., 3]
    alpha = coverage.clamp(0, 1)
    # Several edges in one pixel may add up to more than all of it, or take away more than there is.
    color = covered[..., :3] * (coverage.clamp_min(1).reciprocal() * (coverage > 0))[..., None]
    return over(color, alpha, background), alpha


def _check_choice(what: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ConfigError(f"unknown {what}", got=value, accepted=accepted)
