"""Square crops of people: their affine maps, pixels and encoded bytes.

Pixels follow the package's convention, the centre of the top-left pixel is (0, 0): a square of side `s` around `c` covers
``c - s/2`` to ``c + s/2``, and its crop of `n` pixels covers -1/2 to n - 1/2.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from posekit.errors import FormatError

_LEAST_SIDE = 1.0


def box_of_points(points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "4"] | None:
    """x0, y0, x1, y1 of the finite points; None where fewer than two are finite."""
    finite = points[np.isfinite(points).all(axis=1)]
    if len(finite) < 2:
        return None
    return np.concatenate([finite.min(axis=0), finite.max(axis=0)]).astype(np.float64)


def square_crop(box: Float[np.ndarray, "4"], size: int, margin: float) -> Float[np.ndarray, "2 3"]:
    """crop_from_image for a square of `margin` times the longer side of the box, around its centre."""
    centre = (box[:2] + box[2:]) / 2.0
    side = max(float((box[2:] - box[:2]).max()) * margin, _LEAST_SIDE)
    scale = size / side
    offset = (size - 1) / 2.0 - scale * centre
    return np.array([[scale, 0.0, offset[0]], [0.0, scale, offset[1]]], dtype=np.float64)


def inverse_affine(target_from_source: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """source_from_target of an affine map (image_from_crop of crop_from_image)."""
    linear = np.linalg.inv(target_from_source[:, :2])
    return np.concatenate([linear, -linear @ target_from_source[:, 2:]], axis=1)


def apply_affine(
    target_from_source: Float[np.ndarray, "2 3"], points: Float[np.ndarray, "*batch 2"]
) -> Float[np.ndarray, "*batch 2"]:
    """Points through an affine map."""
    return points @ target_from_source[:, :2].T + target_from_source[:, 2]


def crop_image(
    image: UInt8[np.ndarray, "H W 3"], crop_from_image: Float[np.ndarray, "2 3"], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """The square crop; black outside the image.

    Where the crop shrinks the image, whole blocks of pixels are averaged first, so that fine texture does not alias.
    """
    scale = math.sqrt(abs(float(np.linalg.det(crop_from_image[:, :2]))))
    block = max(1, round(1.0 / scale))
    source, crop_from_source = image, crop_from_image
    if block > 1:
        source, image_from_source = _shrunk(image, _needed(image, crop_from_image, size, block), block)
        crop_from_source = _chain(crop_from_image, image_from_source)
    if source.size == 0:
        return np.zeros((size, size, 3), dtype=np.uint8)
    return cv2.warpAffine(source, crop_from_source, (size, size), flags=cv2.INTER_LINEAR)


def encode_image(
    image: UInt8[np.ndarray, "H W 3"], kind: Literal["jpeg", "png"] = "jpeg", quality: int = 95
) -> UInt8[np.ndarray, "N"]:
    """The bytes of a JPEG or PNG file of an RGB image."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if kind == "jpeg" else []
    done, encoded = cv2.imencode(".jpg" if kind == "jpeg" else ".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise FormatError("the image cannot be encoded", got=f"shape {image.shape}")
    return encoded.reshape(-1)


def decode_image(encoded: UInt8[np.ndarray, "N"]) -> UInt8[np.ndarray, "H W 3"]:
    """The RGB image behind the bytes of an image file; FormatError where they are none."""
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    if image is None:
        raise FormatError("an encoded image cannot be read", got=f"{encoded.size} bytes", accepted="JPEG or PNG")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _needed(image: np.ndarray, crop_from_image: np.ndarray, size: int, block: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the part of the image that the crop sees, with a block to spare."""
    edge = size - 0.5
    corners = np.array([[-0.5, -0.5], [edge, -0.5], [edge, edge], [-0.5, edge]])
    seen = apply_affine(inverse_affine(crop_from_image), corners)
    height, width = image.shape[:2]
    low = np.clip(np.floor(seen.min(axis=0)) - block, 0, (width, height)).astype(int)
    high = np.clip(np.ceil(seen.max(axis=0)) + 1 + block, 0, (width, height)).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _shrunk(image: np.ndarray, part: tuple[int, int, int, int], block: int) -> tuple[np.ndarray, np.ndarray]:
    """A part of the image with blocks of pixels averaged, and image_from_shrunk."""
    x0, y0, x1, y1 = part
    region = image[y0:y1, x0:x1]
    # What a last, partial block lacks lies outside the image or the crop: black, as everything there.
    down, right = -(y1 - y0) % block, -(x1 - x0) % block
    if region.size and (down or right):
        region = cv2.copyMakeBorder(region, 0, down, 0, right, cv2.BORDER_CONSTANT)
    if region.size:
        region = cv2.resize(region, (region.shape[1] // block, region.shape[0] // block), interpolation=cv2.INTER_AREA)
    half = (block - 1) / 2.0
    return region, np.array([[block, 0.0, x0 + half], [0.0, block, y0 + half]])


def _chain(c_from_b: np.ndarray, b_from_a: np.ndarray) -> np.ndarray:
    linear = c_from_b[:, :2] @ b_from_a[:, :2]
    return np.concatenate([linear, c_from_b[:, :2] @ b_from_a[:, 2:] + c_from_b[:, 2:]], axis=1)
