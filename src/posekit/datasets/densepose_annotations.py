"""DensePose annotations of people (Gueler et al. 2018): points with part, u and v, and coarse masks, both in the box.

Positions here are in the package's pixels, the centre of the top-left pixel at (0, 0). The annotations of COCO count from
the corner of that pixel instead, so everything moves by half a pixel on the way in and on the way out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from pycocotools import mask as rle

from posekit.body.surface import COARSE_14, COARSE_14_NAMES, PART_COUNT, SurfaceAtlas
from posekit.errors import FormatError

HALF_PIXEL = 0.5
MASK_SIZE = 256
_LEAST_OF_POLYGON = 6
KEYS = ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")


@dataclass(frozen=True, eq=False)
class DensePoints:
    """Annotated points of one person: pixels of the image, part (1 to 24), and u, v of the part's chart."""

    pixels: Float32[np.ndarray, "N 2"]
    parts: Int[np.ndarray, " N"]
    uv: Float32[np.ndarray, "N 2"]

    def __len__(self) -> int:
        return len(self.parts)

    def vertices(self, atlas: SurfaceAtlas) -> Int[np.ndarray, " N"]:
        """For each point the vertex of the same part that is nearest in the chart."""
        u, v = self.uv.astype(np.float64).T
        return atlas.vertices_from_iuv(self.parts, u.copy(), v.copy())


def read_points(annotation: Mapping[str, Any], box_side: float) -> DensePoints | None:
    """The points of an annotation; None for people without. `box_side` is how many units the box measures (256 or 255).

    Points outside the 24 parts and with numbers that are not finite are left out. Raises FormatError for lists that do
    not go together.
    """
    if not all(annotation.get(key) for key in KEYS):
        return None
    try:
        x, y, part, u, v = np.array([annotation[key] for key in KEYS], dtype=np.float64)
        left, top, width, height = np.array(annotation["bbox"], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            "DensePose points that do not go together", got=f"annotation {annotation.get('id')}", accepted=KEYS
        ) from error
    pixels = np.stack([left + x * width / box_side, top + y * height / box_side], axis=1) - HALF_PIXEL
    good = np.isfinite(pixels).all(axis=1) & np.isfinite(u) & np.isfinite(v) & (part >= 1) & (part <= PART_COUNT)
    uv = np.stack([u, v], axis=1)[good]
    return DensePoints(
        pixels[good].astype(np.float32), np.rint(part[good]).astype(np.int64), uv.clip(0.0, 1.0).astype(np.float32)
    )


def write_points(
    pixels: Float[np.ndarray, "N 2"],
    parts: Int[np.ndarray, " N"],
    uv: Float[np.ndarray, "N 2"],
    bbox: Sequence[float],
    box_side: float = float(MASK_SIZE),
) -> dict[str, list[float]]:
    """The lists of an annotation; inverse of `read_points`. `bbox` is COCO's: left, top, width, height."""
    relative = (pixels + HALF_PIXEL - np.array(bbox[:2])) / np.array(bbox[2:]) * box_side
    columns = (relative[:, 0], relative[:, 1], parts.astype(float), uv[:, 0], uv[:, 1])
    return {key: [round(float(value), 6) for value in values] for key, values in zip(KEYS, columns, strict=True)}


def write_masks(parts: UInt8[np.ndarray, "H W"], bbox: Sequence[float]) -> list[Any]:
    """`dp_masks` of an image of part numbers (0: background): 14 encoded masks of the box, empty lists for unseen parts."""
    left, top, width, height = bbox
    # Centres of the grid's cells, in the pixels of the image.
    columns = left + (np.arange(MASK_SIZE) + 0.5) * width / MASK_SIZE - HALF_PIXEL
    rows = top + (np.arange(MASK_SIZE) + 0.5) * height / MASK_SIZE - HALF_PIXEL
    x = np.rint(columns).astype(int).clip(0, parts.shape[1] - 1)
    y = np.rint(rows).astype(int).clip(0, parts.shape[0] - 1)
    coarse = COARSE_14[parts[np.ix_(y, x)]]
    return [encode_mask(coarse == label) if (coarse == label).any() else [] for label in range(1, len(COARSE_14_NAMES))]


def read_masks(masks: Sequence[Any] | Mapping[str, Any]) -> UInt8[np.ndarray, "256 256"]:
    """Coarse labels (0: background) on the grid of the box; a single mask instead of a list means the foreground."""
    labels = np.zeros((MASK_SIZE, MASK_SIZE), np.uint8)
    listed = [masks] if isinstance(masks, Mapping) else masks
    for label, encoded in enumerate(listed, start=1):
        if encoded:
            labels[decode_mask(encoded, MASK_SIZE, MASK_SIZE) > 0] = label
    return labels


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A mask as compressed run lengths, as JSON takes them."""
    encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def uncompressed_mask(mask: np.ndarray) -> dict[str, Any]:
    """A mask as plain run lengths down the columns, as COCO stores crowds."""
    flat = mask.astype(bool).ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]]))
    if flat.size and flat[0]:
        counts = np.concatenate([[0], counts])
    return {"size": [int(side) for side in mask.shape], "counts": [int(count) for count in counts]}


def decode_mask(segmentation: Any, height: int, width: int) -> UInt8[np.ndarray, "H W"]:
    """0 and 1 of a segmentation: polygons, plain or compressed run lengths; FormatError for anything else."""
    try:
        if isinstance(segmentation, Mapping):
            plain = isinstance(segmentation["counts"], list)
            encoded = rle.frPyObjects(dict(segmentation), height, width) if plain else dict(segmentation)
        else:
            polygons = [
                np.asarray(polygon, dtype=np.float64).reshape(-1, 2).ravel().tolist() for polygon in segmentation
            ]
            if not polygons or min(map(len, polygons)) < _LEAST_OF_POLYGON:
                raise ValueError("no polygons")
            encoded = rle.merge(rle.frPyObjects(polygons, height, width))
        return np.asarray(rle.decode(encoded), dtype=np.uint8)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(
            "a segmentation that is neither polygons nor run lengths", got=str(segmentation)[:80]
        ) from error


def polygons_of(mask: np.ndarray) -> list[list[float]]:
    """Outlines of a mask in COCO's coordinates (the corner of the top-left pixel at (0, 0)); holes are filled."""
    doubled = np.repeat(np.repeat((mask > 0).astype(np.uint8), 2, axis=0), 2, axis=1)
    outlines, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    # Pixels of half the size: their centres lie a quarter of a pixel inside the true edge.
    return [((outline.reshape(-1, 2) + 0.5) / 2.0).ravel().tolist() for outline in outlines if len(outline) >= 3]
