"""Objects cut out of photographs: how their edges are made, and their encoded bytes.

A cut-out has four channels, red, green, blue and opacity, and its colours are not multiplied by the opacity. All averaging is
done on multiplied colours, so that what lies around an object in its photograph never shows at its edge.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from posekit.errors import FormatError, InputError

_OPAQUE = 255
_CHANNELS = 4


def cut_out(
    picture: UInt8[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
    *,
    rim_px: int = 8,
    rim_opacity: float = 0.75,
    shrink: int = 2,
) -> UInt8[np.ndarray, "h w 4"]:
    """The object under a mask, cut to its box, with a softened border, at 1 / `shrink` of its size.

    The border is what an erosion by an ellipse of `rim_px` takes away (Sarandi et al. 2018: 8 px, opacity 0.75, half size).
    Raises InputError for an empty mask.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise InputError("an empty mask cuts nothing out", got=f"shape {mask.shape}")
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = mask[box].astype(np.uint8)
    opacity = inside * np.float32(_OPAQUE)
    if rim_px > 1:
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rim_px, rim_px))
        # Outside the box there is no object: its border is softened at the sides of the box, too.
        core = cv2.erode(inside, ellipse, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        opacity[core < inside] = min(_OPAQUE, round(rim_opacity * 256.0))
    layer = np.concatenate([picture[box] * (opacity / _OPAQUE)[..., None], opacity[..., None]], axis=2)
    return _plain(_block_means(layer.astype(np.float32), shrink))


def multiplied(cutout: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """A cut-out with its colours multiplied by its opacity."""
    layer = cutout.copy()
    opacity = cutout[..., 3:].astype(np.uint16)
    layer[..., :3] = (cutout[..., :3] * opacity + _OPAQUE // 2) // _OPAQUE
    return layer


def encode_cutout(cutout: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "N"]:
    """The bytes of a PNG file; FormatError where a cut-out cannot be one."""
    if cutout.ndim != 3 or cutout.shape[2] != _CHANNELS or not cutout.size:
        raise FormatError("a cut-out cannot be encoded", got=f"shape {cutout.shape}", accepted="height, width, 4")
    return np.asarray(cv2.imencode(".png", cv2.cvtColor(cutout, cv2.COLOR_RGBA2BGRA))[1]).reshape(-1)


def decode_cutout(encoded: UInt8[np.ndarray, "N"]) -> UInt8[np.ndarray, "h w 4"]:
    """The cut-out behind the bytes of a PNG file; FormatError where they are none or without opacity."""
    image = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if encoded.size else None
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != _CHANNELS:
        raise FormatError(
            "a cut-out cannot be read",
            got=f"{encoded.size} bytes" if image is None else f"{image.dtype} of shape {image.shape}",
            accepted="PNG with red, green, blue and opacity",
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA))


def _block_means(layer: Float[np.ndarray, "H W 4"], block: int) -> Float[np.ndarray, "h w 4"]:
    height, width = layer.shape[:2]
    # What a last, partial block lacks is as clear as everything around the object.
    padded = np.pad(layer, ((0, -height % block), (0, -width % block), (0, 0)))
    return np.asarray(
        padded.reshape(-(-height // block), block, -(-width // block), block, _CHANNELS).mean(axis=(1, 3))
    )


def _plain(layer: Float[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """Bytes of a layer of multiplied colours, not multiplied any more."""
    opacity = layer[..., 3:]
    colours = layer[..., :3] * _OPAQUE / np.maximum(opacity, 1e-6)
    return np.rint(np.concatenate([colours, opacity], axis=2).clip(0, _OPAQUE)).astype(np.uint8)
