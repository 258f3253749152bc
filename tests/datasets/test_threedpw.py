"""The sequence files of 3DPW: what is read of them, what is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from posekit.body.model import BodyModel
from posekit.body.smpl_file import load_body
from posekit.datasets.stills import read_still
from posekit.datasets.threedpw import (
    SequenceFile,
    detected_box,
    missing_pictures,
    open_release,
    read_sequence,
    seen_joints,
)
from posekit.errors import FormatError, MissingFileError, UnsafeFileError
from posekit.synthetic.python2_pickle import python2_pickle

FRAMES = 3


def content(people: int = 2, **changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    cameras = np.tile(np.eye(4), (FRAMES, 1, 1))
    cameras[:, :3, :3] = Rotation.random(FRAMES, random_state=1).as_matrix()
    cameras[:, :3, 3] = random.normal(size=(FRAMES, 3))
    detections = [random.uniform(10, 90, (FRAMES, 3, 18)) for _ in range(people)]
    for found in detections:
        found[:, 2] = 0.9
        found[1] = 0.0
    return {
        "sequence": "toy_00",
        "genders": ["m", "f"][:people],
        "betas": [random.normal(size=10), np.pad(random.normal(size=10), (0, 290))][:people],
        "poses": [0.3 * random.normal(size=(FRAMES, 72)) for _ in range(people)],
        "trans": [random.normal(size=(FRAMES, 3)) for _ in range(people)],
        "jointPositions": [random.normal(size=(FRAMES, 72)) for _ in range(people)],
        "poses2d": detections,
        "campose_valid": [np.array([1, 1, 0]), np.array([1, 0, 1])][:people],
        "cam_poses": cameras,
        "cam_intrinsics": np.array([[200.0, 0, 50], [0, 200, 80], [0, 0, 1]]),
        "img_frame_ids": np.arange(FRAMES),
        "texture_maps": [np.zeros((2, 2, 3), np.uint8)] * people,
    } | changes


def written(folder: Path, values: object = None) -> SequenceFile:
    path = folder / "sequenceFiles" / "test" / "toy_00.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(python2_pickle(content() if values is None else values))
    return SequenceFile("toy_00", "test", path)


def test_two_people_with_ten_and_three_hundred_shape_numbers(tmp_path: Path) -> None:
    values = content()
    sequence = read_sequence(written(tmp_path, values))
    assert len(sequence) == FRAMES
    assert sequence.size() == (100, 160)
    assert [track.gender for track in sequence.tracks] == ["male", "female"]
    for person, track in enumerate(sequence.tracks):
        np.testing.assert_array_equal(track.betas, values["betas"][person][:10])
        np.testing.assert_array_equal(track.pose.reshape(FRAMES, 72), values["poses"][person])
        np.testing.assert_array_equal(track.detections, values["poses2d"][person].transpose(0, 2, 1))
        np.testing.assert_array_equal(track.valid, values["campose_valid"][person] == 1)
        assert track.detected().tolist() == [18, 0, 18]


def test_one_person_and_the_spellings_of_the_readme(tmp_path: Path) -> None:
    values = content(people=1)
    values["poses2D"], values["gender"] = values.pop("poses2d"), values.pop("genders")
    del values["jointPositions"]
    (track,) = read_sequence(written(tmp_path, values)).tracks
    assert track.gender == "male"
    assert track.joints is None


def test_files_of_python_3_with_byte_keys_are_read_too(tmp_path: Path) -> None:
    file = written(tmp_path)
    values = content()
    for protocol in (2, 4):
        file.path.write_bytes(pickle.dumps({key.encode(): value for key, value in values.items()}, protocol=protocol))
        sequence = read_sequence(file)
        np.testing.assert_array_equal(sequence.camera_from_world, values["cam_poses"])


def test_bodies_in_the_frame_of_the_camera_are_those_of_the_world_seen_by_it(tmp_path: Path) -> None:
    sequence = read_sequence(written(tmp_path))
    model = BodyModel(load_body(), dtype=torch.float64)
    for track in sequence.tracks:
        betas = torch.from_numpy(track.betas)[None].expand(FRAMES, -1)
        pelvis = model.rest_joints(betas)[0, 0].numpy()
        world = model(betas, torch.from_numpy(track.pose), torch.from_numpy(track.translation)).vertices.numpy()
        pose, translation = sequence.in_camera(track, pelvis)
        seen = model(betas, torch.from_numpy(pose), torch.from_numpy(translation)).vertices.numpy()
        matrices = sequence.camera_from_world
        np.testing.assert_allclose(
            seen, world @ matrices[:, :3, :3].transpose(0, 2, 1) + matrices[:, None, :3, 3], atol=1e-6
        )


def test_a_camera_that_is_not_finite_is_never_trusted(tmp_path: Path) -> None:
    values = content()
    values["cam_poses"][0, 1, 2] = np.nan
    sequence = read_sequence(written(tmp_path, values))
    assert np.isfinite(sequence.camera_from_world).all()
    assert [track.valid.tolist() for track in sequence.tracks] == [[False, True, False], [False, False, True]]


class _Call:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.system, (f"touch {self.target}",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    file, target = written(tmp_path), tmp_path / "ran"
    file.path.write_bytes(pickle.dumps(content() | {"genders": _Call(target)}, protocol=2))
    with pytest.raises(UnsafeFileError, match=r"toy_00\.pkl asks for \w+\.system, which could run code"):
        read_sequence(file)
    assert not target.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poses": [np.zeros((FRAMES, 71))] * 2}, "poses of person 0 has the wrong shape"),
        ({"trans": [np.zeros((FRAMES - 1, 3))] * 2}, "trans of person 0"),
        ({"trans": [np.full((FRAMES, 3), np.nan)] * 2}, "not finite"),
        ({"betas": [np.zeros(4)] * 2}, "too few"),
        ({"betas": [np.zeros(10)]}, "an entry for each person"),
        ({"genders": ["m"]}, "an entry for each person"),
        ({"genders": ["m", "?"]}, "a gender is not known"),
        ({"cam_intrinsics": "none"}, "no array of numbers"),
        ({"poses": 3}, "no list"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_sequence(written(tmp_path, content(**changes)))


def test_a_missing_key_and_another_kind_of_pickle_are_named(tmp_path: Path) -> None:
    values = content()
    del values["cam_poses"]
    with pytest.raises(FormatError, match="lacks cam_poses"):
        read_sequence(written(tmp_path, values))
    with pytest.raises(FormatError, match="no sequence of 3DPW"):
        read_sequence(written(tmp_path, [1, 2]))


def test_what_was_detected() -> None:
    found = np.zeros((18, 3))
    assert detected_box(found, (100, 160)) is None
    found[:4] = [[10, 20, 0.9], [30, 60, 0.2], [20, 40, 0.5], [4e8, -4e8, 0.05]]
    np.testing.assert_array_equal(detected_box(found, (100, 160)), [10, 20, 30, 60])
    seen = seen_joints(found, (100, 160))
    assert np.isnan(seen[3:, :2]).all()
    assert (seen[3:, 2] == 0).all()
    np.testing.assert_array_equal(seen[:3], found[:3])


def test_folders_and_missing_pictures(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="synthesize 3dpw"):
        open_release(tmp_path, ["test"])
    file = written(tmp_path)
    late = tmp_path / "sequenceFiles" / "val"
    late.mkdir()
    (late / "toy_01.pkl").write_bytes(file.path.read_bytes())
    release = open_release(tmp_path, ["train", "validation", "test"])
    assert [(found.name, found.split) for found in release.files] == [("toy_01", ""), ("toy_00", "test")]
    assert release.problems == ("missing: sequenceFiles/train/*.pkl",)
    sequence = read_sequence(file)
    assert missing_pictures(release, sequence) == ["imageFiles/toy_00/"]
    release.folder("toy_00").mkdir(parents=True)
    release.image("toy_00", 1).write_bytes(b"")
    assert missing_pictures(release, sequence) == [f"imageFiles/toy_00/image_0000{frame}.jpg" for frame in (0, 2)]
    with pytest.raises(FormatError, match="cut short"):
        read_still(release.image("toy_00", 1))
    with pytest.raises(MissingFileError, match="picture not found"):
        read_still(release.image("toy_00", 0))
