"""The renderer's interface on top of PyTorch3D, for comparison and for those who have it.

PyTorch3D is on no package index and must be built for its torch; see its INSTALL.md. It is imported when this backend
is asked for, not before. posekit's own continuous integration has no PyTorch3D: the tests of this file are marked
`extra` and run only where it is installed. Written against the documented interface of PyTorch3D 0.7.
"""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from posekit.errors import DependencyError
from posekit.render.result import RenderResult, RenderSettings
from posekit.render.shading import over

SOFT_FACES_PER_PIXEL = 100
"""PyTorch3D keeps the nearest so many faces of a pixel; a dense body has more of them within the blur radius."""


class PyTorch3DBackend:
    """Draws with PyTorch3D's rasterizer.

    Hard mode has no antialiasing, hence no gradient to the outline. Soft mode takes its coverage from the
    sigmoid of the nearest faces only. Faces behind the camera are clipped by PyTorch3D rather than dropped.
    """

    def __init__(self, faces: Int[Tensor, "F 3"], image_size: tuple[int, int], settings: RenderSettings) -> None:
        self._modules = _import_pytorch3d()
        self._faces = faces.long()
        self._image_size = image_size
        self._settings = settings

    def render(
        self, vertices: Float[Tensor, "B V 3"], colors: Tensor, background: float | int | Tensor = 0.0
    ) -> RenderResult:
        """As `Renderer.render`."""
        batch = vertices.shape[0]
        meshes = self._modules.meshes.Meshes(
            ndc_from_screen(vertices, self._image_size), self._faces.to(vertices.device).expand(batch, -1, -1)
        )
        face, depth, weights, _ = self._rasterize(meshes, blur=0.0, faces_per_pixel=1)
        color = self._modules.ops.interpolate_face_attributes(face, weights, self._corner_colors(vertices, colors))
        covered = (face[..., 0] >= 0).to(vertices.dtype)
        rgb = over(color[..., 0, :] * covered[..., None], covered, background)
        alpha = self._soft_alpha(meshes) if self._settings.mode == "soft" else covered
        seen = torch.where(face[..., 0] >= 0, depth[..., 0], torch.inf)
        # PyTorch3D numbers the faces of a batch through; ours start anew in each mesh.
        first = torch.arange(batch, device=face.device).view(-1, 1, 1) * len(self._faces)
        return RenderResult(rgb, alpha, seen, torch.where(face[..., 0] >= 0, face[..., 0] - first, -1))

    def _rasterize(self, meshes: Any, *, blur: float, faces_per_pixel: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        fragments: tuple[Tensor, Tensor, Tensor, Tensor] = self._modules.rasterize.rasterize_meshes(
            meshes,
            image_size=self._image_size,
            blur_radius=blur,
            faces_per_pixel=faces_per_pixel,
            perspective_correct=self._settings.perspective,
            clip_barycentric_coords=blur > 0,
        )
        return fragments

    def _soft_alpha(self, meshes: Any) -> Tensor:
        soft = self._settings.soft
        face, _, _, distance = self._rasterize(meshes, blur=soft.blur, faces_per_pixel=SOFT_FACES_PER_PIXEL)
        probability = torch.sigmoid(-distance / soft.sigma) * (face >= 0)
        return 1 - torch.prod(1 - probability, dim=-1)

    def _corner_colors(self, vertices: Tensor, colors: Tensor) -> Float[Tensor, "BF 3 C"]:
        batch, count = vertices.shape[:2]
        faces = self._faces.to(colors.device)
        if colors.ndim == 3 and colors.shape[1] == count:
            corner = colors[:, faces]
        elif colors.ndim == 3:
            corner = colors[:, :, None].expand(-1, -1, 3, -1)
        else:
            corner = colors
        return corner.expand(batch, -1, -1, -1).reshape(batch * len(faces), 3, -1)


def ndc_from_screen(vertices: Float[Tensor, "B V 3"], image_size: tuple[int, int]) -> Float[Tensor, "B V 3"]:
    """PyTorch3D's coordinates of our pixels: x left, y up, the shorter side of the image from -1 to +1."""
    height, width = image_size
    unit = 2.0 / min(height, width)
    x = (width / 2 - 0.5 - vertices[..., 0]) * unit
    y = (height / 2 - 0.5 - vertices[..., 1]) * unit
    return torch.stack([x, y, vertices[..., 2]], -1)


def _import_pytorch3d() -> SimpleNamespace:
    try:
        return SimpleNamespace(
            meshes=importlib.import_module("pytorch3d.structures"),
            rasterize=importlib.import_module("pytorch3d.renderer.mesh.rasterize_meshes"),
            ops=importlib.import_module("pytorch3d.ops"),
        )
    except ImportError as error:
        raise DependencyError(
            "the renderer backend pytorch3d needs the package PyTorch3D",
            got=str(error),
            hint="Build it as its INSTALL.md says, or use the backend torch, which needs nothing",
        ) from error
