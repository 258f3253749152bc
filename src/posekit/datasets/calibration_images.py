"""Cameras of pictures that were turned, scaled, cropped or put into a frame after the calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from posekit.errors import InputError
from posekit.records import Camera

Placement = Literal["same", "scale", "letterbox", "crop-start", "crop-centre", "crop-end"]
PLACEMENTS: tuple[Placement, ...] = ("same", "scale", "letterbox", "crop-start", "crop-centre", "crop-end")


@dataclass(frozen=True)
class ImageFit:
    """Where the calibrated picture lies in the frames of a video: ``video = scale * calibrated + offset``, px."""

    placement: Placement
    scale: tuple[float, float]
    offset: tuple[float, float]

    def to_video(self, pixels: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Pixels of the video of pixels of the calibrated picture."""
        return pixels * np.asarray(self.scale) + np.asarray(self.offset)

    def from_video(self, pixels: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Pixels of the calibrated picture of pixels of the video."""
        return (pixels - np.asarray(self.offset)) / np.asarray(self.scale)

    def camera(self, camera: Camera, width: int, height: int) -> Camera:
        """The camera of the video's frames."""
        K = camera.intrinsics.copy()
        K[:2] *= np.asarray(self.scale)[:, None]
        K[:2, 2] += np.asarray(self.offset)
        return replace(camera, intrinsics=K, width=width, height=height)


def image_fit(calibrated: tuple[int, int], video: tuple[int, int], placement: Placement) -> ImageFit:
    """The fit of a calibrated picture (width, height) to frames of another size.

    ``scale`` stretches both axes on their own, ``letterbox`` keeps the shape and centres the picture between bars; the crops
    cut pixels off the end, both sides, or the start of each axis. Raises InputError where that cannot be.
    """
    have, want = np.array(calibrated, dtype=float), np.array(video, dtype=float)
    if placement == "same":
        if calibrated != video:
            raise InputError("frames and calibration differ in size", got=f"{video} and {calibrated} px")
        return ImageFit("same", (1.0, 1.0), (0.0, 0.0))
    if placement in ("scale", "letterbox"):
        ratio = want / have if placement == "scale" else np.full(2, float((want / have).min()))
        # Pixel centres: the outer border, not the first pixel's centre, stays where it is.
        offset = (want - have * ratio) / 2 + (ratio - 1) / 2
        return ImageFit(placement, (float(ratio[0]), float(ratio[1])), (float(offset[0]), float(offset[1])))
    if (want > have).any():
        raise InputError(
            "frames larger than the calibrated picture are no crop of it", got=f"{video} and {calibrated} px"
        )
    lost = {"crop-start": have * 0, "crop-centre": np.floor((have - want) / 2), "crop-end": have - want}[placement]
    return ImageFit(placement, (1.0, 1.0), (-float(lost[0]), -float(lost[1])))


def rotated_quarter(camera: Camera) -> Camera:
    """The camera whose image is that of `camera` turned clockwise by 90 degrees."""
    K, turn = camera.intrinsics, np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned = np.array([[K[1, 1], 0.0, camera.height - 1 - K[1, 2]], [0.0, K[0, 0], K[0, 2]], [0.0, 0.0, 1.0]])
    k1, k2, p1, p2, *more = (*camera.distortion, 0.0, 0.0, 0.0, 0.0)[: max(4, len(camera.distortion))]
    return replace(
        camera,
        width=camera.height,
        height=camera.width,
        intrinsics=turned,
        # (p2, p1) is a vector of the image plane and turns with it.
        distortion=(k1, k2, p2, -p1, *more),
        rotation=turn @ camera.rotation,
        translation=turn @ camera.translation,
    )


def mirrored_principal_point(camera: Camera, along: Literal["", "x", "y"]) -> Camera:
    """The camera with its principal point mirrored at the middle of the picture, along an axis.

    What a calibration needs that was turned by a quarter with its numbers only swapped: a turn swaps the coordinates of the
    principal point *and* mirrors one of them, which one depends on the sense of the turn.
    """
    K = camera.intrinsics.copy()
    if along == "x":
        K[0, 2] = camera.width - 1 - K[0, 2]
    if along == "y":
        K[1, 2] = camera.height - 1 - K[1, 2]
    return replace(camera, intrinsics=K)
