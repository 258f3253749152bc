from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from posekit.datasets.crops import square_crop
from posekit.datasets.densepose_annotations import uncompressed_mask
from posekit.errors import FormatError
from posekit.labeling.masks import (
    box_of_mask,
    box_overlaps,
    decode_counts,
    encode_counts,
    mask_box_overlap,
    mask_of_segmentation,
    match_people,
    uncropped,
)


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = [np.zeros((5, 7), bool), np.ones((5, 7), bool), np.zeros((1, 1), bool), np.ones((1, 1), bool)]
    for height, width in ((3, 4), (40, 31), (300, 500)):
        noise = rng.random((height, width)) < 0.5
        blob = cv2.GaussianBlur(rng.random((height, width)), (0, 0), max(1.0, height / 12)) > 0.5
        found += [noise, blob, blob & noise]
    large = np.zeros((1002, 1000), bool)
    large[1001, 999] = True  # one run of a million zeros
    return [*found, large]


@pytest.mark.parametrize("mask", masks(), ids=lambda mask: f"{mask.shape}-{mask.sum()}")
def test_run_lengths_are_those_of_pycocotools(mask: np.ndarray) -> None:
    counts = encode_counts(mask)
    theirs = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert counts.tobytes() == theirs["counts"]
    height, width = mask.shape
    assert (decode_counts(counts, height, width) == mask).all()
    assert (rle.decode({"size": [height, width], "counts": counts.tobytes()}) == mask).all()
    for form in ({"size": [height, width], "counts": counts.tobytes().decode()}, uncompressed_mask(mask)):
        assert (mask_of_segmentation(form, height, width) == mask).all()


@pytest.mark.parametrize("counts", [b"", b"1", b"0P", b"zzzzzz", b"\x00\xff", b"P" * 12, b"ooooooooo1", b"O2"])
def test_run_lengths_that_do_not_fill_the_image_are_refused(counts: bytes) -> None:
    with pytest.raises(FormatError, match="run lengths"):
        decode_counts(np.frombuffer(counts, np.uint8), 4, 4)


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [5, 4], "counts": [20]},
        {"size": [4, 4], "counts": [10]},
        {"size": [4, 4], "counts": [-4, 20]},
        {"size": [4, 4], "counts": [10**30]},
        {"size": [4, 4], "counts": ["16"]},
        {"size": [4, 4], "counts": None},
        {"counts": "1"},
        {},
        [[1, 2, 3]],
        [],
        None,
        7,
        [["a"] * 6],
        [[0, 0, 1e12, 0, 1e12, 1e12]],
        [[0, 0, float("nan"), 0, 4, 4]],
    ],
    ids=str,
)
def test_other_segmentations_are_refused(segmentation: Any) -> None:
    with pytest.raises(FormatError):
        mask_of_segmentation(segmentation, 4, 4)


def test_polygons_cover_the_pixels_inside() -> None:
    """COCO's corners: from 2 to 5 are the pixels 2, 3, 4."""
    mask = mask_of_segmentation([[2, 1, 5, 1, 5, 4, 2, 4], [7, 7, 9, 7, 9, 8, 7, 8]], 10, 12)
    wanted = np.zeros((10, 12), bool)
    wanted[1:4, 2:5] = wanted[7, 7:9] = True
    assert (mask == wanted).all()
    assert box_of_mask(wanted[:6]).tolist() == [1.5, 0.5, 4.5, 3.5]  # type: ignore[union-attr]


def test_overlaps_are_those_of_counted_pixels() -> None:
    rng = np.random.default_rng(1)
    low = rng.integers(0, 20, (6, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 15, (6, 2))], axis=1) - 0.5
    drawn = np.zeros((6, 40, 40), bool)
    for mask, (x0, y0, x1, y1) in zip(drawn, (boxes + 0.5).astype(int), strict=True):
        mask[y0:y1, x0:x1] = True
    counted = [[(a & b).sum() / (a | b).sum() for b in drawn] for a in drawn]
    np.testing.assert_allclose(box_overlaps(boxes, boxes), counted, atol=1e-12)
    assert mask_box_overlap(drawn[0], boxes[1]) == pytest.approx(counted[0][1])
    assert mask_box_overlap(np.zeros((4, 4), bool), boxes[0]) == 0.0
    assert box_of_mask(np.zeros((4, 4), bool)) is None
    nothing = np.array([[np.nan] * 4, [3.0, 3.0, 3.0, 9.0]])
    assert not box_overlaps(nothing, boxes).any()


def test_everybody_gets_the_detection_that_overlaps_most_and_nobody_shares_one() -> None:
    people = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [50, 50, 60, 60], [0, 20, 10, 30]], float)
    detections = np.array([[3, 0, 13, 10], [1, 0, 9, 10], [0, 20, 10, 22], [200, 200, 210, 210]], float)
    # Both of the first two overlap detection 0 most; it is the second person's.
    assert match_people(people[:1], detections[:1], 0.3).tolist() == [0]
    assert match_people(people, detections, 0.3).tolist() == [1, 0, -1, -1]
    assert match_people(people, detections, 0.0).tolist() == [1, 0, -1, 2]
    order = [3, 1, 0, 2]
    assert match_people(people[order], detections, 0.0).tolist() == [2, 0, 1, -1]
    assert match_people(people, np.zeros((0, 4)), 0.0).tolist() == [-1] * 4
    assert match_people(np.full((1, 4), np.nan), detections, 0.0).tolist() == [-1]


def test_a_mask_of_a_crop_lies_where_the_crop_was_cut() -> None:
    image = np.zeros((200, 240), np.uint8)
    cv2.ellipse(image, (130, 90), (30, 60), 20, 0, 360, 255, -1)
    box = box_of_mask(image > 0)
    assert box is not None
    for size, worst in ((256, 0.98), (64, 0.93)):
        crop_from_image = square_crop(box, size, 1.2)
        crop = cv2.warpAffine(image, crop_from_image, (size, size)) > 127
        back = uncropped(crop, crop_from_image, 200, 240)
        assert (back & (image > 0)).sum() / (back | (image > 0)).sum() > worst
    beyond = uncropped(np.ones((64, 64), bool), square_crop(box, 64, 1.0), 200, 240)
    side = (box[2:] - box[:2]).max()
    assert beyond.sum() == pytest.approx(side**2, rel=0.03)
