from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posekit.datasets.coco import PersonRules, Picture, open_release, read_annotations, read_picture, shared_camera
from posekit.errors import ConfigError, FormatError, MissingFileError
from posekit.skeleton.catalog import COCO17, COMMON14
from posekit.skeleton.mapping import joint_map

DENSE = {
    "dp_x": [10.0 * i for i in range(20)],
    "dp_y": [10.0 * i for i in range(20)],
    "dp_I": [float(1 + i % 8) for i in range(20)],
    "dp_U": [0.5] * 20,
    "dp_V": [0.25] * 20,
}


def annotation(identity: int, image: int = 9, **changes: Any) -> dict[str, Any]:
    points = [[30 + i, 20 + 2 * i, 2] for i in range(17)]
    return {
        "id": identity,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [20.5, 10.0, 50.0, 80.0],
        "area": 900.0,
        "segmentation": [[1, 1, 2, 2, 3, 1]],
        "keypoints": [value for point in points for value in point],
        "num_keypoints": 17,
        **DENSE,
        **changes,
    }


def write(path: Path, annotations: list[dict[str, Any]], images: list[int] | None = None) -> None:
    numbers = sorted({item["image_id"] for item in annotations}) if images is None else images
    records = [{"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "width": 100, "height": 120} for i in numbers]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"annotations": annotations, "images": records}), encoding="utf-8")


def picture(path: Path, size: tuple[int, int] = (100, 120)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8))


TRAIN = "annotations/densepose_coco_2014_train.json"


def read(raw: Path, people: str = "densepose", **rules: Any) -> Any:
    release = open_release(raw, people, ("train",))
    return read_annotations(raw, release.sets[0], PersonRules(people=people, **rules))  # type: ignore[arg-type]


def test_both_spellings_and_both_years(tmp_path: Path) -> None:
    for number, name in enumerate((TRAIN, "annotations/densepose_train2014.json", "densepose_train2014.json")):
        raw = tmp_path / str(number)
        write(raw / name, [annotation(1)])
        image = (
            "train2014/COCO_train2014_000000000009.jpg",
            "train2017/000000000009.jpg",
            "images/val2017/000000000009.jpg",
        )
        picture(raw / image[number])
        reading = read(raw)
        assert [p.file for p in reading.pictures] == [raw / image[number]]
        assert reading.missing == []


def test_labels_and_boxes_are_in_the_packages_pixels(tmp_path: Path) -> None:
    points = annotation(1)["keypoints"]
    points[0:3], points[3:6] = [0, 0, 0], [31, 22, 1]
    write(tmp_path / TRAIN, [annotation(1, keypoints=points)])
    person = read(tmp_path, hidden_confidence=0.5).pictures[0].people[0]
    assert person.bbox.tolist() == [20.0, 9.5, 70.0, 89.5]
    assert np.isnan(person.keypoints[0, :2]).all()
    assert person.keypoints[:3, 2].tolist() == [0.0, 0.5, 1.0]
    assert person.keypoints[2].tolist() == [32.0, 24.0, 1.0]
    assert person.dense is not None
    assert np.allclose(person.dense.pixels[4], [20.5 + 40 * 50 / 256 - 0.5, 10 + 40 * 80 / 256 - 0.5], atol=1e-4)


def without_joint(joint: str) -> list[int]:
    points = list(annotation(1)["keypoints"])
    at = 3 * COCO17.index(joint)
    points[at : at + 3] = [0, 0, 0]
    return points


def test_everything_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    people = [
        annotation(1),
        annotation(2, iscrowd=1),
        {key: value for key, value in annotation(3).items() if not key.startswith("dp_")},
        annotation(4, keypoints=without_joint("left_ankle")),
        annotation(5, keypoints=without_joint("nose")),
        annotation(6, bbox=[1, 1, 20, 30]),
        annotation(7, **{key: value[:9] for key, value in DENSE.items()}),
        annotation(8, dp_I=[1.0] * 20),
        annotation(9, bbox=[1, 2]),
        annotation(10, keypoints=[0] * 51, num_keypoints=0),
        annotation(11, dp_U=[0.1]),
        annotation(12, bbox=[1, 1, 0, 90]),
    ]
    write(tmp_path / TRAIN, people)
    reading = read(tmp_path)
    # The number of a person does not depend on who else is taken.
    assert [person.number for person in reading.pictures[0].people] == [0, 4]
    assert reading.counts == {
        "people_annotated": 12,
        "left_out_crowd": 1,
        "left_out_without_densepose": 1,
        "left_out_not_wholly_in_view": 1,
        "left_out_small_box": 2,
        "left_out_few_densepose_points": 2,
        "left_out_malformed": 2,
        "left_out_few_keypoints": 1,
    }
    lenient = read(
        tmp_path, keep_crowds=True, whole_body=False, min_keypoints=0, min_box_px=0.0, min_points=0, min_parts=0
    )
    assert [person.number for person in lenient.pictures[0].people] == [0, 1, 3, 4, 5, 6, 7, 9]


def test_everybody_with_key_points_may_have_points_from_the_other_file(tmp_path: Path) -> None:
    bare = [{k: v for k, v in annotation(i).items() if not k.startswith("dp_")} for i in (3, 1)]
    write(tmp_path / "annotations/person_keypoints_train2017.json", bare)
    write(tmp_path / TRAIN, [annotation(3)])
    release = open_release(tmp_path, "all", ("train",))
    assert [part.name for part in release.sets] == ["train2017"]
    people = read(tmp_path, "all").pictures[0].people
    assert [(person.number, person.dense is not None) for person in people] == [(0, False), (1, True)]


def test_pelvis_and_thorax_come_from_hips_and_shoulders() -> None:
    mapped = joint_map(COCO17, COMMON14, require_all=True)
    points = np.random.default_rng(0).normal(size=(17, 2))
    common = mapped.points(points)
    for name, sides in (("pelvis", ("left_hip", "right_hip")), ("thorax", ("left_shoulder", "right_shoulder"))):
        assert np.allclose(common[COMMON14.index(name)], points[list(COCO17.indices(*sides))].mean(axis=0))


def test_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="raw folder"):
        open_release(tmp_path / "absent", "all", ("train",))
    with pytest.raises(ConfigError, match="parts of COCO"):
        open_release(tmp_path, "all", ("test",))
    release = open_release(tmp_path, "densepose", ("train", "val"))
    assert len(release.problems) == 2
    assert "densepose_coco_2014_minival.json" in release.problems[1]
    assert len(open_release(tmp_path, "all", ("train",)).problems) == 1
    write(tmp_path / TRAIN, [annotation(1), annotation(2, image=10)], images=[9])
    reading = read(tmp_path)
    assert reading.missing == ["COCO_train2014_000000000009.jpg"]
    assert reading.pictures[0].file is None
    assert reading.counts["left_out_without_picture_record"] == 1
    with pytest.raises(MissingFileError, match="picture not found"):
        read_picture(reading.pictures[0])


def test_records_that_lack_something(tmp_path: Path) -> None:
    write(tmp_path / TRAIN, [annotation(1)])
    content = json.loads((tmp_path / TRAIN).read_text())
    del content["images"][0]["width"]
    (tmp_path / TRAIN).write_text(json.dumps(content))
    with pytest.raises(FormatError, match="an entry of images lacks something"):
        read(tmp_path)


def test_damaged_pictures(tmp_path: Path) -> None:
    file = tmp_path / "one.jpg"
    picture(file)
    whole = file.read_bytes()
    asked = Picture(9, file, 100, 120, ())
    assert read_picture(asked).shape == (120, 100, 3)
    with pytest.raises(FormatError, match="not of the size"):
        read_picture(Picture(9, file, 120, 100, ()))
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="cut short"):
        read_picture(asked)
    file.write_bytes(b"no picture \xff\xd9")
    with pytest.raises(FormatError, match="cannot be read"):
        read_picture(asked)


def test_the_camera_is_a_guess_and_says_so() -> None:
    assert not shared_camera().posed
