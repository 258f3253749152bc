"""Masks of people: run lengths, boxes, and who is whom."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from posekit.errors import FormatError
from posekit.labeling.masks import (
    box_of_mask,
    box_overlaps,
    decode_counts,
    encode_counts,
    mask_of_segmentation,
    match_people,
    uncropped,
)


def masks() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    blob = np.zeros((37, 53), dtype=bool)
    blob[5:20, 8:30] = True
    return [random.random((37, 53)) < 0.5, blob, np.zeros((37, 53), bool), np.ones((37, 53), bool)]


@pytest.mark.parametrize("number", range(4))
def test_run_lengths_are_coco_s_and_come_back_whole(number: int) -> None:
    mask = masks()[number]
    counts = encode_counts(mask)
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert counts.tobytes() == theirs
    assert np.array_equal(decode_counts(counts, *mask.shape), mask)


def test_broken_run_lengths_are_refused() -> None:
    mask = masks()[1]
    counts = encode_counts(mask)
    for broken in (counts[:-1], np.zeros(0, np.uint8)):
        with pytest.raises(FormatError):
            decode_counts(broken, *mask.shape)
    with pytest.raises(FormatError):
        decode_counts(counts, 36, 53)


def test_segmentations_of_both_kinds_are_coco_s() -> None:
    mask = masks()[0]
    coded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    as_text = {"size": list(mask.shape), "counts": coded["counts"].decode("ascii")}
    assert np.array_equal(mask_of_segmentation(as_text, *mask.shape), mask)
    polygon = [[8.0, 5.0, 30.0, 5.0, 30.0, 20.0, 8.0, 20.0]]
    expected = coco.decode(coco.merge(coco.frPyObjects(polygon, 37, 53))).astype(bool)
    assert np.array_equal(mask_of_segmentation(polygon, 37, 53), expected)
    with pytest.raises(FormatError):
        mask_of_segmentation("nothing", 37, 53)


def test_a_box_spans_the_pixels_of_its_mask() -> None:
    box = box_of_mask(masks()[1])
    assert box is not None
    assert (box[2] - box[0], box[3] - box[1]) in {(22.0, 15.0), (21.0, 14.0)}
    assert box_of_mask(masks()[2]) is None


def test_everybody_gets_the_detection_of_the_largest_overlap() -> None:
    people = np.array([[0.0, 0.0, 10.0, 10.0], [100.0, 0.0, 110.0, 10.0], [300.0, 0.0, 310.0, 10.0]])
    found = np.array([[101.0, 0.0, 111.0, 10.0], [5.0, 0.0, 15.0, 10.0], [1.0, 0.0, 11.0, 10.0]])
    assert match_people(people, found, 0.3).tolist() == [2, 0, -1]
    overlaps = box_overlaps(people, found)
    assert overlaps[0, 2] == pytest.approx(90 / 110)
    assert match_people(people, np.zeros((0, 4)), 0.3).tolist() == [-1, -1, -1]


def test_a_mask_of_a_crop_goes_back_to_its_place() -> None:
    whole = masks()[1]
    crop_from_image = np.array([[2.0, 0.0, -10.0], [0.0, 2.0, -6.0]])
    rows, columns = np.indices((60, 60))
    seen = whole[np.clip((rows + 6) // 2, 0, 36), np.clip((columns + 10) // 2, 0, 52)]
    back = uncropped(seen, crop_from_image, 37, 53)
    assert (back != whole).mean() < 0.05
