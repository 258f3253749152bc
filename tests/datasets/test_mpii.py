from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io

from posekit.datasets.mpii import (
    RELEASE_FILE,
    PersonRules,
    Reading,
    open_release,
    published_box,
    read_people,
    read_picture,
)
from posekit.errors import ConfigError, FormatError, MissingFileError
from posekit.synthetic.mpii_writer import Noted, NotedPicture, write_annotations


def noted(x: float, joints: int = 16, **changes: Any) -> Noted:
    places = np.column_stack([x + np.arange(16.0), 10 + 2 * np.arange(16.0), np.where(np.arange(16) % 3, 2.0, 1.0)])
    places[joints:] = 0.0
    values: dict[str, Any] = {
        "head_box": np.array([x, 5.0, x + 6.0, 13.0]),
        "position": np.array([x, 20.0]),
        "scale": 0.25,
        "joints": places if joints else None,
    }
    return Noted(**{**values, **changes})


PICTURES = [
    NotedPicture("000000001.jpg", "train", 1, (noted(10.0), noted(90.0, position=None, scale=None), noted(60.0, 2))),
    NotedPicture("000000002.jpg", "train", 1, ()),
    NotedPicture("000000003.jpg", "train", 2, (noted(20.0),)),
    NotedPicture("000000004.jpg", "val", 3, (noted(30.0), noted(32.0))),
    NotedPicture("000000005.jpg", "test", 4, (noted(40.0),)),
]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    (folder / "images").mkdir(parents=True)
    write_annotations(folder, PICTURES)
    for picture in PICTURES:
        cv2.imwrite(str(folder / "images" / picture.name), np.zeros((60, 120, 3), np.uint8))
    return folder


def read(raw: Path, layout: str = "auto", parts: tuple[str, ...] = ("train", "val"), **rules: Any) -> list[Reading]:
    return read_people(open_release(raw, layout, parts), PersonRules(**rules))


def members(readings: list[Reading]) -> dict[str, list[tuple[int, int]]]:
    return {
        reading.part: [(picture.image_id, person.number) for picture in reading.pictures for person in picture.people]
        for reading in readings
    }


def test_the_release_goes_by_the_lists_beside_it(raw: Path) -> None:
    found = members(read(raw, parts=("train", "val", "test")))
    assert found == {"train": [(1, 0), (1, 2), (3, 0)], "val": [(4, 0), (4, 1)], "test": [(5, 0)]}
    listed = json.loads((raw / "annot/valid.json").read_text())
    (raw / "annot/valid.json").write_text(json.dumps(listed[:1]))
    readings = read(raw)
    # The other one in a picture of the validation list is for neither.
    assert members(readings) == {"train": [(1, 0), (1, 2), (3, 0)], "val": [(4, 0)]}


def test_without_lists_whole_videos_are_set_aside(raw: Path) -> None:
    for file in (raw / "annot").iterdir():
        file.unlink()
    assert "not the published split" in open_release(raw, "auto", ("train", "val")).split_rule
    videos = {1: [(1, 0), (1, 2)], 2: [(3, 0)], 3: [(4, 0), (4, 1)]}
    seen = set()
    for share in (0.0, 0.3, 0.5, 0.8, 0.999):
        found = members(read(raw, val_share=share))
        for people in videos.values():
            assert set(people) <= set(found["train"]) or set(people) <= set(found["val"])
        assert sorted(found["train"] + found["val"]) == [p for people in videos.values() for p in people]
        assert seen <= set(found["val"])
        seen = set(found["val"])
    assert not read(raw, val_share=0.0)[1].pictures


def test_lists_and_release_give_the_same_people(raw: Path) -> None:
    for one, other in zip(read(raw, "mat"), read(raw, "json"), strict=True):
        for a, b in zip(one.pictures, other.pictures, strict=True):
            assert (a.image_id, a.file) == (b.image_id, b.file)
            for p, q in zip(a.people, b.people, strict=True):
                assert np.array_equal(p.bbox, q.bbox) and np.array_equal(p.keypoints, q.keypoints, equal_nan=True)
                assert p.head_px == pytest.approx(q.head_px) if one.part == "val" else np.isnan(q.head_px)


def test_rules(raw: Path) -> None:
    assert members(read(raw, people="single"))["val"] == []
    assert members(read(raw, people="single"))["train"] == [(1, 0), (1, 2), (3, 0)]
    with pytest.raises(ConfigError, match="separated"):
        read(raw, "json", people="single")
    fewer = read(raw, min_keypoints=3)[0]
    assert members([fewer])["train"] == [(1, 0), (3, 0)] and fewer.counts["left_out_few_keypoints"] == 1
    assert fewer.counts["left_out_without_box"] == 1
    bounds = read(raw, boxes="keypoints")[0]
    assert members([bounds])["train"] == [(1, 0), (1, 1), (1, 2), (3, 0)]
    assert bounds.pictures[0].people[0].bbox.tolist() == [10.0, 10.0, 25.0, 40.0]
    confidence = read(raw, hidden_confidence=0.25)[0].pictures[0].people[0].keypoints[:, 2]
    unsaid = [8, 9]
    assert confidence[[1, 2, 4]].tolist() == [1, 1, 1] and confidence[[0, 3, 6]].tolist() == [0.25] * 3
    assert confidence[unsaid].tolist() == [1, 1]


def test_boxes_are_those_of_published_code() -> None:
    """Hourglass: the centre 15 * scale lower, a square of 200 * 1.25 * scale; here in pixels from zero, before the 1.25."""
    position, scale = np.array([99.0, 49.0]), 2.0
    centre, enlarged = np.array([100.0, 50.0 + 15.0 * scale]) - 1.0, 1.25 * scale
    box = published_box(position, scale)
    assert box is not None
    assert np.allclose((box[:2] + box[2:]) / 2, centre) and 1.25 * (box[2] - box[0]) == pytest.approx(200.0 * enlarged)
    for nowhere, size in (([np.nan, 1.0], 1.0), ([-2.0, -2.0], 1.0), ([5.0, 5.0], np.nan), ([5.0, 5.0], -1.0)):
        assert published_box(np.array(nowhere), size) is None


def test_missing_files(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="raw folder of MPII"):
        open_release(tmp_path / "none", "auto", ("train",))
    with pytest.raises(ConfigError, match="parts of MPII"):
        open_release(raw, "auto", ("validation",))
    (raw / "images/000000003.jpg").unlink()
    assert read(raw)[0].missing == ["000000003.jpg"]
    (raw / "annot/gt_valid.mat").unlink()
    assert "gt_valid.mat" in open_release(raw, "json", ("val",)).problems[0]
    assert open_release(raw, "mat", ("val",)).problems == ()
    (raw / RELEASE_FILE).unlink()
    assert open_release(raw, "auto", ("train",)).layout == "json"
    assert open_release(raw, "mat", ("train",)).problems == (f"missing: {RELEASE_FILE}",)
    (raw / "annot/train.json").unlink()
    assert open_release(raw, "auto", ("train", "val")).problems[0] == "missing: train.json"


def test_pictures_without_a_number_and_without_content(raw: Path) -> None:
    listed = json.loads((raw / "annot/train.json").read_text())
    listed[0]["image"] = "photo.jpg"
    (raw / "annot/train.json").write_text(json.dumps(listed))
    assert read(raw, "json")[0].counts["left_out_malformed"] == 1
    (raw / "images/000000004.jpg").write_bytes(b"")
    with pytest.raises(FormatError, match="cut short"):
        read_picture(read(raw)[1].pictures[0])


def test_the_written_release_has_what_is_odd_in_the_real_one(raw: Path) -> None:
    release = scipy.io.loadmat(raw / RELEASE_FILE, struct_as_record=False, squeeze_me=True)["RELEASE"]
    three, nobody, one, two, hidden = release.annolist
    assert len(three.annorect) == 3 and nobody.annorect.size == 0 and len(two.annorect) == 2
    assert not isinstance(one.annorect, np.ndarray) and not hasattr(hidden.annorect, "annopoints")
    assert three.annorect[1].objpos.size == 0
    visible = {p.id: p.is_visible for p in three.annorect[0].annopoints.point}
    assert visible[8].size == 0 and visible[9].size == 0 and visible[1] == 1 and visible[0] == 0
    assert {p.is_visible for p in two.annorect[1].annopoints.point if p.id not in (8, 9)} == {"0", "1"}
    assert release.single_person[2] == 1 and release.single_person[3].size == 0
