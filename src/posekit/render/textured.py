"""Bodies with a colour for each face, drawn into crops as the neural mesh renderer of Cha et al. 2021 does.

Ambient light alone, a black background, and the camera of HMR. Both pictures, the colours and the mask, give gradients to
the vertices and the camera; the colours also to the texture. There is no far plane: however small the body is predicted,
it stays in the picture and can grow again.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from posekit.geometry.cameras import CropPerspective, WeakPerspective
from posekit.render.renderer import Renderer
from posekit.render.screen import screen_from_crop_camera
from posekit.render.soft import SoftSettings, soft_mask

Edges = Literal["hard", "smooth", "soft"]


class TexturedImages(NamedTuple):
    """Crops of B bodies over black."""

    rgb: Float[Tensor, "B 3 S S"]
    """In [0, 1], already multiplied by `alpha`."""
    alpha: Float[Tensor, "B S S"]
    """The share of each pixel that the colours cover."""
    mask: Float[Tensor, "B S S"]
    """The silhouette to compare with masks: `alpha`, or its blurred form with soft edges."""


class TexturedRenderer:
    """Draws meshes of one topology into square crops of `side` pixels.

    `edges`: ``hard`` pixels are covered or not, as in the neural mesh renderer, and get the gradients of ``smooth``
    edges, where they are covered in part; with ``soft`` the mask is that of SoftRas (blurred by `soft`), which feels
    targets a few pixels away from the outline. `perspective` False is for `WeakPerspective` cameras.
    """

    def __init__(
        self,
        faces: Int[Tensor, "F 3"],
        side: int = 224,
        edges: Edges = "hard",
        *,
        perspective: bool = True,
        soft: SoftSettings | None = None,
    ) -> None:
        self.side = side
        self.edges = edges
        antialias = "gradient" if edges == "hard" else "image"
        self._renderer = Renderer(faces, (side, side), antialias=antialias, perspective=perspective)
        self._soft = soft or SoftSettings(near=SoftSettings.near if perspective else float("-inf"))

    def render(
        self,
        vertices: Float[Tensor, "B V 3"],
        camera: CropPerspective | WeakPerspective,
        face_colors: Float[Tensor, "#B F 3"],
    ) -> TexturedImages:
        """Bodies in axes parallel to the camera's, metres, and the colours of their faces in [0, 1]."""
        screen = screen_from_crop_camera(camera, vertices, self.side)
        drawn = self._renderer.render(screen, face_colors)
        mask = drawn.alpha
        if self.edges == "soft":
            topology = self._renderer.topology.to(screen.device)
            mask = soft_mask(screen, topology, (self.side, self.side), self._soft)
        return TexturedImages(drawn.rgb.permute(0, 3, 1, 2), drawn.alpha, mask)
