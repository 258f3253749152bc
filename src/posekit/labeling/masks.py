"""Masks of people: run lengths as COCO packs them, where a mask lies, and which detection shows which person.

Pixels follow the package's convention: the centre of the top-left pixel is (0, 0), so a box around pixels 2 to 5 goes from
1.5 to 5.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from posekit.datasets.densepose_annotations import decode_mask, encode_mask
from posekit.errors import FormatError

Mask = Bool[np.ndarray, "H W"]

_FIRST_LETTER = 48
_LETTERS = 64
_BITS = 5
_MORE = 0x20
_NEGATIVE = 0x10
_LONGEST = 7
"""Letters of one number: 35 bits, more than any run of an image has."""

_FARTHEST = 1e5
"""Corners of polygons farther out than this (px) are no annotation; drawing them would take for ever."""


def encode_counts(mask: Mask) -> UInt8[np.ndarray, "N"]:
    """The compressed run lengths of a mask (what COCO calls `counts`), as bytes."""
    return np.frombuffer(str(encode_mask(mask)["counts"]).encode("ascii"), dtype=np.uint8)


def decode_counts(counts: UInt8[np.ndarray, "N"], height: int, width: int) -> Mask:
    """The mask of compressed run lengths; FormatError where they are malformed or do not fill the image.

    Files may hold anything, and pycocotools 2.0 reads beyond its memory where runs are too short, so nothing of it is used.
    """
    return _mask_of_runs(_run_lengths(np.asarray(counts, dtype=np.uint8)), height, width)


def mask_of_segmentation(segmentation: Any, height: int, width: int) -> Mask:
    """The mask of a COCO segmentation: polygons, plain run lengths or compressed ones.

    Raises FormatError for anything else, and for run lengths of an image of another size.
    """
    if not isinstance(segmentation, Mapping):
        _check_polygons(segmentation)
        return decode_mask(segmentation, height, width) > 0
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, Sequence) or list(size) != [height, width]:
        raise FormatError("run lengths of an image of another size", got=size, accepted=[height, width])
    if isinstance(counts, str | bytes):
        letters = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
        return decode_counts(np.frombuffer(letters, dtype=np.uint8), height, width)
    if not isinstance(counts, Sequence) or not all(isinstance(count, int) for count in counts):
        raise FormatError("run lengths that are no numbers", got=str(counts)[:80])
    if max(counts, default=0) > height * width:
        raise FormatError("run lengths that do not fill the image", got=max(counts), accepted=height * width)
    return _mask_of_runs(np.asarray(counts, dtype=np.int64), height, width)


def _check_polygons(polygons: Any) -> None:
    try:
        corners = [np.asarray(polygon, dtype=np.float64).ravel() for polygon in polygons]
    except (TypeError, ValueError) as error:
        raise FormatError("a segmentation that is neither polygons nor run lengths", got=str(polygons)[:80]) from error
    if not all((np.abs(values) < _FARTHEST).all() for values in corners):  # NaN is not less, either
        raise FormatError("polygons far outside the image", got=str(polygons)[:80])


def _run_lengths(letters: UInt8[np.ndarray, "N"]) -> Int[np.ndarray, "R"]:
    """Runs of zeros and ones in turns: letters of 5 bits and a flag for more; from the third on as differences.

    Written from the format of pycocotools' `rleFrString`.
    """
    if not len(letters):
        return np.zeros(0, dtype=np.int64)
    bits = letters.astype(np.int64) - _FIRST_LETTER
    last = (bits & _MORE) == 0
    ends = np.flatnonzero(last)
    begins = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - begins + 1
    if (bits < 0).any() or (bits >= _LETTERS).any() or not last[-1] or lengths.max() > _LONGEST:
        raise FormatError("malformed run lengths", got=letters[:40].tobytes())
    shifts = _BITS * (np.arange(len(bits)) - np.repeat(begins, lengths))
    numbers = np.add.reduceat((bits & (_MORE - 1)) << shifts, begins)
    numbers -= np.where(bits[ends] & _NEGATIVE, 1 << (_BITS * lengths), 0)
    runs = numbers.copy()
    # Each run is noted relative to the one before the last; the first three are not.
    runs[1::2] = np.cumsum(numbers[1::2])
    runs[2::2] = np.cumsum(numbers[2::2])
    return runs


def _mask_of_runs(runs: Int[np.ndarray, "R"], height: int, width: int) -> Mask:
    if (runs < 0).any() or (runs > height * width).any() or int(runs.sum()) != height * width:
        raise FormatError("run lengths that do not fill the image", got=int(runs.sum()), accepted=height * width)
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def box_of_mask(mask: Mask) -> Float[np.ndarray, "4"] | None:
    """x0, y0, x1, y1 around the pixels of a mask, at their outer edges; None for an empty one."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return np.array([columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5])


def box_overlaps(first: Float[np.ndarray, "N 4"], second: Float[np.ndarray, "M 4"]) -> Float[np.ndarray, "N M"]:
    """Intersection over union of every box with every other; 0 for boxes that are not finite or have no area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def mask_box_overlap(mask: Mask, box: Float[np.ndarray, "4"]) -> float:
    """Intersection over union of the box around a mask and another box; 0 for an empty mask."""
    own = box_of_mask(mask)
    return 0.0 if own is None else float(box_overlaps(own[None], np.asarray(box, dtype=np.float64)[None])[0, 0])


def match_people(
    people: Float[np.ndarray, "P 4"], boxes: Float[np.ndarray, "N 4"], least: float
) -> Int[np.ndarray, "P"]:
    """For each person's box the detection that overlaps it most (intersection over union), or -1.

    The pairs that overlap most are made first, and no detection serves two people. Overlaps below `least`, and none at all,
    make no pair.
    """
    overlaps = box_overlaps(np.asarray(people, dtype=np.float64), np.asarray(boxes, dtype=np.float64))
    chosen = np.full(len(people), -1, dtype=np.int64)
    while overlaps.size:
        person, box = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        if overlaps[person, box] <= 0 or overlaps[person, box] < least:
            break
        chosen[person] = box
        overlaps[person, :] = overlaps[:, box] = 0.0
    return chosen


def uncropped(
    mask: Bool[np.ndarray, "h w"], crop_from_image: Float[np.ndarray, "2 3"], height: int, width: int
) -> Mask:
    """A mask of a crop in the pixels of the original image; nothing outside the crop.

    The edge is interpolated between the pixels of the crop and cut at one half.
    """
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    soft = cv2.warpAffine(
        mask.astype(np.float32), np.asarray(crop_from_image, np.float64), (width, height), flags=flags
    )
    return np.asarray(soft >= 0.5)
