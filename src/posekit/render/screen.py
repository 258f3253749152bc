"""From cameras to what the rasterizer reads: (x, y) in pixels, and depth."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from posekit.geometry.cameras import Cameras, CropPerspective, WeakPerspective
from posekit.geometry.conventions import crop_from_normalized

LENS_LIMIT = 1.0
"""Points that an ideal pinhole puts farther outside the image than this many times its longer side are left out: lens
polynomials fold them back into it."""


def screen_from_cameras(cameras: Cameras, points: Float[Tensor, "*points V 3"]) -> Float[Tensor, "*seen V 3"]:
    """Pixels through the lens, and depth along the optical axis in metres; NaN pixels where the lens is not defined."""
    camera = cameras.camera_from_world(points)
    normalized = camera[..., :2] / camera[..., 2:]
    pixels = cameras.pixels_from_normalized(cameras.distort(normalized))
    if cameras.lens != "pinhole":
        ideal = cameras.pixels_from_normalized(normalized).detach()
        size = cameras.image_size[..., None, :]
        margin = LENS_LIMIT * size.amax(-1, keepdim=True)
        within = ((ideal >= -margin) & (ideal <= size + margin)).all(-1, keepdim=True)
        pixels = torch.where(within, pixels, torch.nan)
    return torch.cat([pixels, camera[..., 2:]], -1)


def screen_from_crop_camera(
    camera: WeakPerspective | CropPerspective, points: Float[Tensor, "*batch V 3"], side: int
) -> Float[Tensor, "*batch V 3"]:
    """Pixels in a square crop of `side` pixels, and depth: rasterize with `perspective` for `CropPerspective` alone."""
    pixels = crop_from_normalized(camera.project(points), float(side))
    return torch.cat([pixels, camera.depth(points)[..., None]], -1)


def apply_affine(
    screen: Float[Tensor, "*batch V 3"], target_from_source: Float[Tensor, "*#batch 2 3"]
) -> Float[Tensor, "*batch V 3"]:
    """Screen vertices moved by an affine map of the image (into a crop, say); depth stays."""
    moved = screen[..., :2] @ target_from_source[..., :2].transpose(-1, -2) + target_from_source[..., None, :, 2]
    return torch.cat([moved, screen[..., 2:]], -1)
