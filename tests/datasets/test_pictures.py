"""Own pictures and videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posekit.datasets.boxes import MOST_PEOPLE, Person
from posekit.datasets.pictures import find_media, find_pictures, find_videos, guessed_camera, number_people, overlap
from posekit.errors import MissingFileError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def person(x: float, number: int | None = None) -> Person:
    return Person(np.array([x, 0.0, x + 10.0, 20.0]), number=number)


def test_pictures_of_a_folder_and_below_in_natural_order(tmp_path: Path) -> None:
    touch(tmp_path, "a10.jpg", "a2.jpg", "sub/b.PNG", ".hidden.jpg", ".cache/c.jpg", "notes.txt", "v.mp4")
    found = find_pictures(tmp_path)
    assert found.names == ("a2.jpg", "a10.jpg", "sub/b.PNG")
    assert find_pictures(tmp_path / "a2.jpg").names == ("a2.jpg",)
    assert find_videos(tmp_path).names == ("v.mp4",)


def test_media_are_told_apart(tmp_path: Path) -> None:
    touch(tmp_path / "p", "a.jpg")
    touch(tmp_path / "v", "a.mp4")
    assert not find_media(tmp_path / "p").video
    assert find_media(tmp_path / "v").video
    assert find_media(tmp_path / "v" / "a.mp4").video
    assert not find_media(tmp_path / "p" / "a.jpg").video
    with pytest.raises(Exception, match="pictures and videos in one folder"):
        find_media(tmp_path)


def test_a_folder_of_frames_is_a_video(tmp_path: Path) -> None:
    found = find_videos(touch(tmp_path / "clip", "f1.jpg", "f2.jpg"))
    assert found.video and found.names == ("clip",)


def test_nothing_there_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    for find in (find_pictures, find_videos, find_media):
        with pytest.raises(MissingFileError):
            find(tmp_path)
        with pytest.raises(MissingFileError):
            find(tmp_path / "absent")
        with pytest.raises(MissingFileError):
            find(tmp_path / "notes.txt")


def test_guessed_cameras_have_no_pose() -> None:
    camera = guessed_camera("c", 400, 300)
    assert not camera.posed
    assert camera.intrinsics[0, 0] == 500.0
    assert camera.intrinsics[:2, 2].tolist() == [199.5, 149.5]


def test_overlap() -> None:
    assert overlap(np.array([0.0, 0, 2, 2]), np.array([0.0, 0, 2, 2])) == 1.0
    assert overlap(np.array([0.0, 0, 2, 2]), np.array([1.0, 0, 3, 2])) == pytest.approx(1 / 3)
    assert overlap(np.array([0.0, 0, 2, 2]), np.array([5.0, 0, 6, 2])) == 0.0
    assert overlap(np.array([0.0, 0, 0, 0]), np.array([0.0, 0, 0, 0])) == 0.0


def test_people_keep_their_numbers_while_they_move_and_change_places_in_the_list() -> None:
    walks = {t: [person(2.0 * t), person(100.0 - 2.0 * t)][:: 1 if t % 2 else -1] for t in range(10)}
    numbers = number_people(walks, 1)
    first = {t: numbers[t][0 if t % 2 else 1] for t in walks}
    assert len(set(first.values())) == 1
    assert all(sorted(given) == [0, 1] for given in numbers.values())


def test_someone_away_too_long_is_someone_else() -> None:
    assert number_people({0: [person(0)], 5: [person(0)], 50: [person(0)]}, 1) == {0: [0], 5: [0], 50: [1]}
    assert number_people({0: [person(0)], 50: [person(0)]}, 10) == {0: [0], 50: [0]}


def test_given_numbers_are_kept_and_not_given_twice() -> None:
    numbers = number_people({0: [person(0, 1), person(50), person(100)], 1: [person(0), person(50)]}, 1)
    assert numbers == {0: [1, 0, 2], 1: [3, 0]}


def test_numbers_end() -> None:
    crowd = {0: [person(20.0 * i) for i in range(MOST_PEOPLE + 2)]}
    assert number_people(crowd, 1)[0] == [*range(MOST_PEOPLE), -1, -1]
