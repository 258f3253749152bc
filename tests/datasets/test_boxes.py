"""Boxes and key points from files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from posekit.datasets.boxes import EVERY_FRAME, fault_of, read_boxes, read_keypoints, whole_image
from posekit.errors import FormatError, MissingFileError


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def body18(x: float = 50.0) -> list[float]:
    points = np.stack([x + np.arange(18), 10.0 * np.arange(18), np.full(18, 0.9)], axis=1)
    points[17] = 0.0
    return points.ravel().tolist()


def test_json_boxes_of_all_forms(tmp_path: Path) -> None:
    path = write_json(
        tmp_path / "boxes.json",
        {
            "a.jpg": [1, 2, 3, 4],
            "sub/b.jpg": [[1, 2, 3, 4], [5, 6, 7, 8]],
            "c.jpg": [{"bbox": [10, 20, 30, 40], "score": 0.5}],
            "d.jpg": [],
        },
    )
    people = read_boxes(path)
    assert people.of("a.jpg")[EVERY_FRAME][0].bbox.tolist() == [1, 2, 3, 4]
    assert [p.bbox.tolist() for p in people.of("sub/b.jpg")[EVERY_FRAME]] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    # Corner, width and height cover whole pixels, whose centres are whole numbers.
    assert people.of("c.jpg")[EVERY_FRAME][0].bbox.tolist() == [9.5, 19.5, 39.5, 59.5]
    assert people.of("d.jpg") == {EVERY_FRAME: []}
    assert people.of("e.jpg") == {}
    assert people.unknown(["a.jpg", "sub/b.jpg", "c.jpg"]) == ["d.jpg"]


def test_names_match_by_path_name_or_stem_unless_ambiguous(tmp_path: Path) -> None:
    boxes = {"a/x.jpg": [0, 0, 1, 1], "b/x.jpg": [0, 0, 2, 2], "y": [0, 0, 3, 3]}
    people = read_boxes(write_json(tmp_path / "boxes.json", boxes))
    assert people.key_of("b/x.jpg") == "b/x.jpg"
    assert people.key_of("x.jpg") is None
    assert people.key_of("deep/y.png") == "y"


def test_csv_boxes_with_frames_and_people(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text("file,frame,x0,y0,x1,y1,person\nv.mp4,0,1,2,3,4,7\nv.mp4,5,1,2,3,4,\nw.mp4,,0,0,9,9,\n")
    people = read_boxes(path)
    assert people.of("v.mp4")[0][0].number == 7
    assert people.of("v.mp4")[5][0].number is None
    assert people.of("w.mp4")[EVERY_FRAME][0].bbox.tolist() == [0, 0, 9, 9]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,frame,x0\na,0,1\n", "lacks columns"),
        ("file,frame,x0,y0,x1,y1\na,0,1,2,three,4\n", "line 2"),
        ("file,frame,x0,y0,x1,y1\na,0,1,2\n", "line 2"),
        ("file,frame,x0,y0,x1,y1,person\na,0,1,2,3,4,256\n", "person 256"),
    ],
)
def test_damaged_csv_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(FormatError, match=said):
        read_boxes(path)


@pytest.mark.parametrize(
    "content", [[1, 2], {"a.jpg": [1, 2, 3]}, {"a.jpg": 5}, {"a.jpg": [{"box": [1]}]}, {"a.jpg": "no"}]
)
def test_damaged_json_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(FormatError):
        read_boxes(write_json(tmp_path / "boxes.json", content))


def test_missing_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_boxes(tmp_path / "no.json")
    with pytest.raises(MissingFileError):
        read_boxes(tmp_path / "no.csv")
    with pytest.raises(MissingFileError):
        read_keypoints(tmp_path / "no", None, 0.2, video=False)
    (tmp_path / "cut.json").write_text('{"a.jpg": [1,')
    with pytest.raises(FormatError, match="not JSON"):
        read_boxes(tmp_path / "cut.json")
    with pytest.raises(FormatError, match="no key points"):
        read_keypoints(write_json(tmp_path / "boxes.json", {"a.jpg": [0, 0, 1, 1]}), None, 0.2, video=False)


def coco(tmp_path: Path, **note: object) -> Path:
    keypoints = [20.0, 30.0, 2.0, 0.0, 0.0, 0.0] + [40.0, 50.0, 1.0] * 15
    person = {"image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40], "keypoints": keypoints, "iscrowd": 0}
    notes = [person | note, person | {"iscrowd": 1}, person | {"category_id": 2}]
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    return write_json(tmp_path / "coco.json", {"images": images, "annotations": notes})


def test_coco_gives_boxes_and_key_points_of_single_people(tmp_path: Path) -> None:
    path = coco(tmp_path)
    for people in (read_boxes(path), read_keypoints(path, None, 0.2, video=False)):
        assert people.skeleton is not None and people.skeleton.name == "coco17"
        (person,) = people.of("a.jpg")[EVERY_FRAME]
        assert person.bbox.tolist() == [9.5, 19.5, 39.5, 59.5]
        assert person.keypoints is not None
        assert person.keypoints[0].tolist() == [20, 30, 1]
        assert person.keypoints[1, 2] == 0
        assert person.keypoints[2].tolist() == [40, 50, 1]
        assert people.of("b.jpg") == {EVERY_FRAME: []}


def test_damaged_coco_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="COCO"):
        read_boxes(coco(tmp_path, image_id=9))
    with pytest.raises(FormatError, match="COCO"):
        read_boxes(coco(tmp_path, keypoints=[1, 2, 3]))


def test_openpose_files_of_pictures(tmp_path: Path) -> None:
    write_json(tmp_path / "op" / "beach_keypoints.json", {"people": [{"pose_keypoints_2d": body18()}]})
    write_json(tmp_path / "op" / "empty_keypoints.json", {"people": []})
    weak = np.array(body18()).reshape(18, 3) * [1, 1, 0.1]
    write_json(tmp_path / "op" / "weak_keypoints.json", {"people": [{"pose_keypoints_2d": weak.ravel().tolist()}]})
    (tmp_path / "op" / "zbroken_keypoints.json").write_text("{")
    people = read_keypoints(tmp_path / "op", None, 0.2, video=False)
    assert people.skeleton is not None and people.skeleton.name == "coco18"
    (person,) = people.of("photos/beach.jpg")[EVERY_FRAME]
    # The joint that was not detected does not count for the box.
    assert person.bbox.tolist() == [50, 0, 66, 160]
    assert people.of("empty.png") == {EVERY_FRAME: []}
    assert people.of("weak.png") == {EVERY_FRAME: []}
    assert people.without_box == 1
    assert len(people.damaged) == 1 and "zbroken" in people.damaged[0]


def test_openpose_files_of_videos(tmp_path: Path) -> None:
    for video in ("one", "two"):
        for frame in (0, 3):
            name = f"{video}_{frame:012d}_keypoints.json"
            write_json(
                tmp_path / "op" / f"{video}_json" / name, {"people": [{"pose_keypoints_2d": body18(10 + frame)}]}
            )
    people = read_keypoints(tmp_path / "op", "coco18", 0.2, video=True)
    assert sorted(people.of("one.mp4")) == sorted(people.of("two.mp4")) == [0, 3]
    alone = read_keypoints(tmp_path / "op" / "one_json", "coco18", 0.2, video=True)
    assert list(alone.frames) == ["one"]
    with pytest.raises(FormatError, match="body25"):
        read_keypoints(tmp_path / "op", "body25", 0.2, video=True)


def test_faults_of_boxes() -> None:
    assert fault_of(whole_image(40, 30).bbox, 40, 30) == ""
    assert fault_of(np.array([-50.0, -50.0, 5.0, 5.0]), 40, 30) == ""
    assert fault_of(np.array([5.0, 5.0, 5.0, 9.0]), 40, 30) == "boxes_without_area"
    assert fault_of(np.array([9.0, 5.0, 5.0, 9.0]), 40, 30) == "boxes_without_area"
    assert fault_of(np.array([0.0, 0.0, np.nan, 9.0]), 40, 30) == "boxes_without_area"
    assert fault_of(np.array([40.0, 0.0, 50.0, 9.0]), 40, 30) == "boxes_outside_the_image"
    assert fault_of(np.array([0.0, -9.0, 5.0, -1.0]), 40, 30) == "boxes_outside_the_image"
