"""Videos whose frames are not of the size that was calibrated: where the calibrated picture lies in them."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from posekit.datasets.calibration_images import PLACEMENTS, ImageFit, Placement, image_fit
from posekit.errors import InputError
from posekit.records import Camera

_SAME_SHAPE = 0.005
_DARK = 24.0
_BRIGHTER = 12.0
_HINT = "Say how the video was made from the calibrated picture: --frame-fit"


def candidate_fits(
    camera: Camera, frame: UInt8[np.ndarray, "H W 3"], setting: Placement | str = "auto"
) -> list[ImageFit]:
    """How the calibrated picture may lie in a frame, the likeliest first; one candidate where it can be told.

    Equal sizes and equal shapes need no guess. Otherwise dark bars that are exactly as wide as a centred picture leaves them
    mean a letterbox; without bars, a smaller frame was cut out, and where is for the key points to say. Raises InputError
    where neither can be.
    """
    calibrated, video = (camera.width, camera.height), (frame.shape[1], frame.shape[0])
    if calibrated == video:
        return [image_fit(calibrated, video, "same")]
    named = next((placement for placement in PLACEMENTS if placement == setting), None)
    if named is not None:
        return [image_fit(calibrated, video, named)]
    ratio_x, ratio_y = video[0] / calibrated[0], video[1] / calibrated[1]
    if abs(ratio_x / ratio_y - 1) < _SAME_SHAPE:
        return [image_fit(calibrated, video, "scale")]
    letterbox = image_fit(calibrated, video, "letterbox")
    if has_bars(frame, letterbox, calibrated):
        return [letterbox]
    if (video[0] > video[1]) == (calibrated[0] > calibrated[1]) and ratio_x <= 1 and ratio_y <= 1:
        crops: tuple[Placement, ...] = ("crop-centre", "crop-start", "crop-end")
        return [image_fit(calibrated, video, placement) for placement in crops]
    raise InputError(
        f"the frames of {camera.name} do not fit its calibration",
        got=f"{video[0]}x{video[1]} px",
        accepted=f"{calibrated[0]}x{calibrated[1]} px, the same shape, or a cut-out of it",
        hint=_HINT,
    )


def has_bars(frame: UInt8[np.ndarray, "H W 3"], fit: ImageFit, calibrated: tuple[int, int]) -> bool:
    """Whether a frame is dark where a letterbox leaves bars, and brighter right beside them."""
    grey = frame.mean(axis=2)
    for axis, length in enumerate(calibrated):
        begin = fit.offset[axis] + 0.5 - 0.5 * fit.scale[axis]
        end = begin + length * fit.scale[axis]
        lines = grey.mean(axis=axis)
        bars = [lines[: int(begin)], lines[int(np.ceil(end)) :]]
        beside = [lines[int(np.ceil(begin)) + 1 :][:8], lines[: int(end) - 1][-8:]]
        if any(len(bar) == 0 for bar in bars):
            continue
        dark = all(bar.mean() < _DARK for bar in bars)
        return dark and all(near.mean() > bar.mean() + _BRIGHTER for near, bar in zip(beside, bars, strict=True))
    return False
