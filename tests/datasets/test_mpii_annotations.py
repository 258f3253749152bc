from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from posekit.datasets.mpii_annotations import (
    HIDDEN,
    NONE,
    SEEN,
    Annotation,
    read_head_sizes,
    read_list,
    read_release,
    read_whole_list,
)
from posekit.errors import FormatError, MissingFileError

NOTHING = np.zeros((0, 0))


def structs(*records: dict[str, Any]) -> np.ndarray:
    array = np.empty((1, len(records)), dtype=[(name, object) for name in records[0]])
    for column, record in enumerate(records):
        for name, value in record.items():
            array[0, column][name] = value
    return array


def cells(*values: Any) -> np.ndarray:
    array = np.empty((1, len(values)), dtype=object)
    for column, value in enumerate(values):
        array[0, column] = value
    return array


def point(joint: float, x: float, y: float, visible: Any) -> dict[str, Any]:
    return {"x": x, "y": y, "id": joint, "is_visible": visible}


def person(points: Any, **more: Any) -> dict[str, Any]:
    return {
        "x1": 11.0,
        "y1": 21.0,
        "x2": 14.0,
        "y2": 25.0,
        "annopoints": points,
        "scale": 1.5,
        "objpos": {"x": 31.0, "y": 41.0},
        **more,
    }


def picture(name: str, people: Any, **more: Any) -> dict[str, Any]:
    return {"image": {"name": name}, "annorect": people, "vidx": 7.0, **more}


def save(path: Path, pictures: np.ndarray, training: list[int], single: np.ndarray | None = None) -> Path:
    release: dict[str, Any] = {"annolist": pictures, "img_train": np.array([training])}
    if single is not None:
        release["single_person"] = single
    scipy.io.savemat(path, {"RELEASE": release})
    return path


POINTS = structs(
    point(0, 5.0, 6.0, 1),
    point(1, 7.0, 8.0, 0),
    point(9, 9.0, 10.0, NOTHING),
    point(8, 1.0, 2.0, "1"),
    point(15, 3.0, 4.0, "0"),
)


def test_everything_that_collapses(tmp_path: Path) -> None:
    one = person({"point": POINTS})
    bare = {**person(NOTHING), "scale": NOTHING, "objpos": NOTHING, "x1": NOTHING}
    pictures = structs(
        picture("a.jpg", NOTHING),
        picture("b.jpg", structs(one)),
        picture("c.jpg", structs(one, bare)),
        picture("d.jpg", structs(person({"point": structs(point(3, 50.0, 60.0, np.uint8(1)))}))),
        picture("e.jpg", structs({"scale": 2.0, "objpos": {"x": 5.0, "y": 6.0}})),
        picture("f.jpg", structs(person("")), vidx=NOTHING),
    )
    path = save(
        tmp_path / "r.mat",
        pictures,
        [1, 1, 1, 1, 0, 1],
        cells(NOTHING, 1.0, np.array([[1.0], [2.0]]), NOTHING, 1.0, 1.0),
    )
    found = read_release(path)
    assert all(isinstance(entry, Annotation) for entry in found)
    people = {(entry.picture, entry.number): entry for entry in found if isinstance(entry, Annotation)}
    assert list(people) == [("b.jpg", 0), ("c.jpg", 0), ("c.jpg", 1), ("d.jpg", 0), ("e.jpg", 0), ("f.jpg", 0)]
    whole = people["b.jpg", 0]
    assert whole.position.tolist() == [30.0, 40.0] and whole.scale == 1.5 and whole.group == "video 7"
    assert whole.head_px == pytest.approx(0.6 * 5.0)
    assert whole.joints[[0, 1, 9, 8, 15]].tolist() == [
        [4.0, 5.0, SEEN],
        [6.0, 7.0, HIDDEN],
        [8.0, 9.0, SEEN],
        [0.0, 1.0, SEEN],
        [2.0, 3.0, HIDDEN],
    ]
    assert (whole.joints[:, 2] == NONE).sum() == 11 and np.isnan(whole.joints[2, :2]).all()
    missing = people["c.jpg", 1]
    assert np.isnan(missing.position).all() and np.isnan(missing.scale) and np.isnan(missing.head_px)
    assert not missing.joints[:, 2].any()
    assert people["d.jpg", 0].joints[3].tolist() == [49.0, 59.0, SEEN]
    assert not people["e.jpg", 0].training and np.isnan(people["e.jpg", 0].head_px)
    assert people["f.jpg", 0].group == "f.jpg"
    assert [entry.separate for entry in people.values()] == [True, True, True, False, True, True]


def test_a_release_of_one_picture(tmp_path: Path) -> None:
    only = structs(picture("a.jpg", structs(person({"point": structs(point(4, 2.0, 2.0, 1))}))))
    (found,) = read_release(save(tmp_path / "r.mat", only, [1], cells(np.array([[1.0], [2.0]]))))
    assert isinstance(found, Annotation) and found.separate and found.joints[4, 0] == 1.0
    (found,) = read_release(save(tmp_path / "r.mat", only, [1]))
    assert isinstance(found, Annotation) and found.separate is None


def test_points_that_are_none(tmp_path: Path) -> None:
    wrong = person({"point": structs(point(16, 2.0, 2.0, 1))})
    nan = person({"point": structs(point(4, float("nan"), 2.0, 1), point(5, 2.0, 2.0, 1))})
    pictures = structs(picture("a.jpg", structs(wrong, nan)))
    malformed, partly = read_release(save(tmp_path / "r.mat", pictures, [1]))
    assert malformed == "a.jpg"
    assert isinstance(partly, Annotation) and partly.number == 1
    assert np.flatnonzero(partly.joints[:, 2]).tolist() == [5]


def test_files_that_are_none(tmp_path: Path) -> None:
    path = save(tmp_path / "r.mat", structs(picture("a.jpg", structs(person({"point": POINTS})))), [1])
    content = path.read_bytes()
    for length in (0, 60, 200, len(content) // 2, len(content) - 40):
        path.write_bytes(content[:length])
        with pytest.raises(FormatError, match=r"r\.mat"):
            read_release(path)
    with pytest.raises(MissingFileError):
        read_release(tmp_path / "none.mat")
    scipy.io.savemat(path, {"other": 1})
    with pytest.raises(FormatError, match="no annotation file of MPII"):
        read_release(path)
    with pytest.raises(FormatError, match=r"2 in RELEASE\.img_train"):
        read_release(save(path, structs(picture("a.jpg", NOTHING)), [1, 0]))


def entry(**changes: Any) -> dict[str, Any]:
    joints = [[float(10 + i), float(20 + i)] for i in range(16)]
    joints[3] = [-1.0, -1.0]
    flags = [int(i != 3) for i in range(16)]
    return {"image": "1.jpg", "center": [31.0, 41.0], "scale": 1.5, "joints": joints, "joints_vis": flags, **changes}


def test_lists_count_pixels_from_one_too(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    entries = [entry(), entry(), entry(image="2.jpg", joints=[[1, 2]]), entry(scale=None), {"image": "3.jpg"}]
    test = {name: value for name, value in entry().items() if not name.startswith("joints")}
    path.write_text(json.dumps([*entries, test]))
    first, second, *malformed, bare = read_list(path, training=True)
    assert malformed == ["2.jpg", "1.jpg", "3.jpg"]
    assert isinstance(first, Annotation) and isinstance(second, Annotation) and isinstance(bare, Annotation)
    assert (first.number, second.number) == (0, 1)
    assert first.position.tolist() == [30.0, 40.0] and first.joints[2].tolist() == [11.0, 21.0, SEEN]
    assert np.isnan(first.joints[3, :2]).all() and first.joints[3, 2] == NONE
    assert np.isnan(first.head_px) and not bare.joints[:, 2].any()
    for text in ('{"a": 1}', "[1]", "[{", ""):
        path.write_text(text)
        with pytest.raises(FormatError, match=r"train\.json"):
            read_list(path, training=True)


def test_the_list_of_pose_machines(tmp_path: Path) -> None:
    joints = [[float(i), 1.0, 1.0] for i in range(16)]
    joints[4], joints[5] = [0.0, 0.0, 0.0], [3.0, 4.0, 0.0]
    one = {
        "img_paths": "1.jpg",
        "isValidation": 0.0,
        "objpos": [2.0, 3.0],
        "scale_provided": 1.0,
        "joint_self": joints,
        "people_index": 2.0,
    }
    path = tmp_path / "mpii_annotations.json"
    path.write_text(json.dumps({"root": [one, {**one, "isValidation": 1.0, "joint_self": [[1, 2, 3]]}]}))
    (first,), malformed = read_whole_list(path)
    assert isinstance(first, Annotation) and first.number == 1 and malformed == ["1.jpg"]
    assert first.joints[:, 2].tolist() == [SEEN] * 4 + [NONE, HIDDEN] + [SEEN] * 10
    assert first.joints[5, :2].tolist() == [2.0, 3.0]


def test_head_sizes(tmp_path: Path) -> None:
    boxes = np.zeros((2, 2, 3))
    boxes[0], boxes[1] = [[10, 20, 5], [30, 40, 5]], [[13, 28, 5], [34, 46, 5]]
    path = tmp_path / "gt_valid.mat"
    scipy.io.savemat(path, {"headboxes_src": boxes})
    sizes = read_head_sizes(path, 3)
    assert sizes[:2] == pytest.approx([3.0, 6.0]) and np.isnan(sizes[2])
    with pytest.raises(FormatError, match="does not belong to the list"):
        read_head_sizes(path, 4)
    scipy.io.savemat(path, {"other": boxes})
    with pytest.raises(FormatError, match="no file of head boxes"):
        read_head_sizes(path, 3)
