"""Key point files: what is in them, what frame they belong to, and which joint order they have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from posekit.datasets.openpose import (
    KEYPOINT_ORDERS,
    detect_order,
    frame_numbers,
    read_keypoint_folder,
    require_order,
)
from posekit.errors import FormatError, InputError, MissingFileError
from posekit.skeleton.catalog import skeleton_by_name

STANDING = {
    "nose": (0, 160),
    "left_eye": (3, 163),
    "right_eye": (-3, 163),
    "left_ear": (7, 161),
    "right_ear": (-7, 161),
    "left_shoulder": (18, 142),
    "right_shoulder": (-18, 142),
    "left_elbow": (24, 115),
    "right_elbow": (-24, 115),
    "left_wrist": (27, 90),
    "right_wrist": (-27, 90),
    "left_hip": (10, 92),
    "right_hip": (-10, 92),
    "left_knee": (11, 50),
    "right_knee": (-11, 50),
    "left_ankle": (12, 8),
    "right_ankle": (-12, 8),
    "neck": (0, 146),
    "mid_shoulder": (0, 142),
    "mid_hip": (0, 92),
    "head_top": (0, 175),
    "left_big_toe": (16, 0),
    "left_small_toe": (19, 1),
    "left_heel": (12, 1),
    "right_big_toe": (-16, 0),
    "right_small_toe": (-19, 1),
    "right_heel": (-12, 1),
}


def person(order: str, seed: int = 0, jitter: float = 2.0) -> np.ndarray:
    """A standing person of 400 px in a joint order."""
    rng = np.random.default_rng(seed)
    points = np.array([STANDING[joint] for joint in skeleton_by_name(order).joints], dtype=float)
    points = (points + rng.normal(0, jitter, points.shape)) * [2.3, -2.3] + [500, 600]
    return np.column_stack([points, np.full(len(points), 0.9)])


def entry(keypoints: np.ndarray, **more: object) -> dict[str, object]:
    return {"pose_keypoints_2d": keypoints.ravel().tolist(), "face_keypoints_2d": [], **more}


def write(path: Path, *people: dict[str, object], version: float = 1.3) -> Path:
    path.write_text(json.dumps({"version": version, "people": list(people)}))
    return path


def test_people_come_back_with_or_without_ids(tmp_path: Path) -> None:
    first, second = person("body25", 1), person("body25", 2)
    write(tmp_path / "cam01_000000000000_keypoints.json", entry(first, person_id=[-1]), entry(second, person_id=[-1]))
    write(tmp_path / "cam01_000000000001_keypoints.json", entry(second), version=1.2)
    write(tmp_path / "cam01_000000000002_keypoints.json")
    folder = read_keypoint_folder(tmp_path)
    assert [len(folder.frames[i]) for i in range(3)] == [2, 1, 0]
    assert folder.people == 3
    np.testing.assert_allclose(folder.frames[0], [first, second])
    assert folder.frames[2].shape == (0, 25, 3)
    assert not folder.damaged


def test_joints_that_are_not_detected_are_zero(tmp_path: Path) -> None:
    points = person("coco18")
    points[3] = [np.nan, 4.0, 0.9]
    points[4, 2] = 0.0
    write(tmp_path / "a0.json", entry(points))
    found = read_keypoint_folder(tmp_path).frames[0][0]
    np.testing.assert_array_equal(found[3:5], 0.0)
    assert (found[:3] > 0).all()


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["cam01_000000000000_keypoints", "cam01_000000000012_keypoints"], [0, 12]),
        (["cam01.0000", "cam01.0012"], [0, 12]),
        (["cam01_000003", "cam01_000004"], [3, 4]),
        (["frame9", "frame10"], [9, 10]),
        (["0001_cam1", "0002_cam1"], [0, 1]),
        (["first", "second"], [0, 1]),
    ],
)
def test_frame_numbers_of_file_names(names: list[str], numbers: list[int]) -> None:
    assert frame_numbers([Path(f"{name}.json") for name in names]) == numbers


def test_files_are_taken_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        write(tmp_path / f"frame{number}.json", entry(person("coco18", number)))
    folder = read_keypoint_folder(tmp_path)
    assert list(folder.frames) == [1, 9, 10]
    np.testing.assert_allclose(folder.frames[10][0], person("coco18", 10))


def test_damaged_files_are_noted_and_the_rest_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "a_0.json", entry(person("body25")))
    whole = (tmp_path / "a_0.json").read_text()
    (tmp_path / "a_1.json").write_text(whole[: len(whole) // 2])
    (tmp_path / "a_2.json").write_text("[]")
    (tmp_path / "a_3.json").write_text(whole.replace("0.9", '"x"', 1))
    (tmp_path / "a_4.json").write_text('{"people": [{"person_id": [-1]}]}')
    folder = read_keypoint_folder(tmp_path)
    assert [path.name for path, _ in folder.damaged] == ["a_1.json", "a_2.json", "a_3.json", "a_4.json"]
    assert [len(folder.frames[i]) for i in range(5)] == [1, 0, 0, 0, 0]


def test_wrong_number_of_values(tmp_path: Path) -> None:
    write(tmp_path / "a_0.json", {"pose_keypoints_2d": [1.0] * 51})
    with pytest.raises(FormatError, match="got 51"):
        read_keypoint_folder(tmp_path)


def test_files_that_disagree_on_the_order(tmp_path: Path) -> None:
    write(tmp_path / "a_0.json", entry(person("body25")))
    write(tmp_path / "a_1.json", entry(person("coco18")))
    with pytest.raises(FormatError, match="disagree"):
        read_keypoint_folder(tmp_path)
    write(tmp_path / "a_1.json", entry(person("body25")), entry(person("coco18")))
    with pytest.raises(FormatError, match="different numbers of joints"):
        read_keypoint_folder(tmp_path)


def test_normalised_coordinates_are_refused(tmp_path: Path) -> None:
    points = person("body25")
    points[:, :2] /= 1000
    write(tmp_path / "a_0.json", entry(points))
    with pytest.raises(InputError, match="not pixels"):
        read_keypoint_folder(tmp_path)


def test_missing_folder_or_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="folder of key points not found"):
        read_keypoint_folder(tmp_path / "cam01")
    with pytest.raises(MissingFileError, match="no key points"):
        read_keypoint_folder(tmp_path)


@pytest.mark.parametrize("order", KEYPOINT_ORDERS)
@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_told_from_the_bones(order: str, seed: int) -> None:
    people = np.stack([person(order, seed * 10 + i, jitter=4.0) for i in range(3)])
    people[0, :6] = 0.0
    assert detect_order(people) == order


def test_the_order_of_people_turned_by_any_angle() -> None:
    for order in ("body25", "body25b"):
        for angle in np.linspace(0, 2 * np.pi, 7):
            points = person(order)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            points[:, :2] = (points[:, :2] - 500) @ turn.T * [0.3, 1.0] + 500
            assert detect_order(points[None]) == order


def test_orders_that_cannot_be_told() -> None:
    with pytest.raises(InputError, match="too little was detected"):
        detect_order(np.zeros((4, 25, 3)))
    noise = np.random.default_rng(0).uniform(1, 1000, (50, 25, 3))
    with pytest.raises(InputError, match=r"ambiguous.*--keypoint-order"):
        detect_order(noise)
    with pytest.raises(FormatError, match="got 17"):
        detect_order(np.ones((4, 17, 3)))


def test_a_named_order_must_fit() -> None:
    require_order(person("body25")[None], "body25b")
    with pytest.raises(FormatError, match="not coco18"):
        require_order(person("body25")[None], "coco18")


def test_the_real_recording_is_body_25b(shared_dir: Path) -> None:
    for folder in sorted((shared_dir / "real" / "balancing" / "openpose").iterdir()):
        detections = read_keypoint_folder(folder)
        assert sorted(detections.frames) == list(range(100))
        for people in detections.frames.values():
            assert detect_order(people) == "body25b"
