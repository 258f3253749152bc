"""Own pictures and videos as data sets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import DATASET
from posekit.config.prediction import PreprocessImages, PreprocessVideo
from posekit.datasets.crops import decode_image
from posekit.errors import ConfigError, DataError, InputError, MissingFileError, OutputError
from posekit.records import cameras_from_columns
from posekit.registration.bodies import bodies_of
from posekit.registration.labels import LabelReader, LabelSource
from posekit.render.video import VideoWriter
from posekit.stages import picture_rows
from posekit.stages.preprocess_pictures import preprocess_images, preprocess_video


def draw(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A smooth picture, so that JPEG keeps it."""
    noise = np.random.default_rng(seed).integers(0, 255, (4, 4, 3)).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def write_picture(path: Path, width: int = 60, height: int = 40, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = draw(width, height, seed)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return image


def write_video(path: Path, frames: int = 12, size: tuple[int, int] = (64, 48)) -> None:
    with VideoWriter(path, 10.0) as writer:
        for seed in range(frames):
            writer.write(draw(*size, seed=seed))


def images(tmp_path: Path, **settings: Any) -> PreprocessImages:
    defaults = {"raw": tmp_path / "my pictures", "output": tmp_path / "data" / "mine.h5", "crop_size": 32}
    return PreprocessImages(**(defaults | settings))


def videos(tmp_path: Path, **settings: Any) -> PreprocessVideo:
    defaults = {"raw": tmp_path / "my videos", "output": tmp_path / "data" / "mine.h5", "crop_size": 32}
    return PreprocessVideo(**(defaults | settings))


def openpose_person(x: float, y: float = 5.0) -> dict[str, Any]:
    points = np.stack([x + np.arange(18) % 5, y + np.arange(18), np.full(18, 0.9)], axis=1)
    return {"pose_keypoints_2d": points.ravel().tolist()}


def test_pictures_whole_with_a_broken_one_between(tmp_path: Path) -> None:
    config = images(tmp_path)
    whole = write_picture(config.raw / "a.png", 60, 40)
    (config.raw / "b.jpg").write_bytes(b"no picture")
    (config.raw / "empty.jpg").write_bytes(b"")
    write_picture(config.raw / "deeper" / "c d.png", 30, 90)
    report = preprocess_images(config)
    assert report.counts["samples"] == 2
    assert report.counts["pictures_unreadable"] == 2
    assert any("b.jpg" in note and "empty.jpg" in note for note in report.notes)
    with Artifact(config.output, DATASET) as artifact:
        artifact.verify()
        names = artifact.read("sequences", "name")
        assert names[artifact.read("samples", "sequence")].tolist() == ["a.png", "deeper/c d.png"]
        assert artifact.read("samples", "bbox").tolist() == [[-0.5, -0.5, 59.5, 39.5], [-0.5, -0.5, 29.5, 89.5]]
        (camera,) = cameras_from_columns(artifact.table("cameras"))
        assert (camera.width, camera.height, camera.posed) == (60, 90, False)
        assert "guessed" in artifact.header.facts["intrinsics"]
        assert artifact.read("videos", "path")[0] == "a.png"
        # The crop's middle is the picture's middle, its width 1.2 times the picture's.
        crop = decode_image(artifact.read_ragged("samples", "image")[0])
        assert np.abs(crop[16, 16].astype(int) - whole[20, 31]).max() < 20
        assert artifact.read("samples", "crop_from_image")[0, 0, 0] == pytest.approx(32 / 72)


def test_the_labels_crop_is_the_stored_crop(tmp_path: Path) -> None:
    config = images(tmp_path)
    write_picture(config.raw / "a.png", 60, 40)
    preprocess_images(config)
    with Artifact(config.output, DATASET) as artifact:
        cameras = cameras_from_columns(artifact.table("cameras"))
        reader = LabelReader(LabelSource(artifact, cameras, None, None, ("pelvis",), True))
        bodies = bodies_of(artifact, joint_views=False, usable=np.ones(1, bool), stride=1)
        units_from_image = reader.read(bodies)[1][0, 0]
        crop_from_image = artifact.read("samples", "crop_from_image")[0]
    # u = (2 x + 1) / S - 1 leads from px of the crop to normalised units.
    expected = crop_from_image * (2 / 32)
    expected[:, 2] += 1 / 32 - 1
    np.testing.assert_allclose(units_from_image, expected, atol=1e-9)


def test_boxes_from_files_and_what_cannot_be_used(tmp_path: Path) -> None:
    config = images(tmp_path, boxes=tmp_path / "boxes.json")
    write_picture(config.raw / "a.png")
    write_picture(config.raw / "b.png")
    boxes = {"a.png": [[10, 10, 20, 30], [5, 5, 5, 9], [70, 0, 80, 9], [-5, -5, 9, 9]], "lost.png": [0, 0, 9, 9]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    report = preprocess_images(config)
    assert report.counts["samples"] == 2
    assert report.counts["boxes_without_area"] == 1
    assert report.counts["boxes_outside_the_image"] == 1
    assert report.counts["pictures_without_people"] == 1
    assert report.counts["names_without_a_file"] == 1
    with Artifact(config.output, DATASET) as artifact:
        assert artifact.read("samples", "person").tolist() == [0, 3]
        assert artifact.read("samples", "bbox")[1].tolist() == [-5, -5, 9, 9]
        assert not artifact.read("samples", "keypoints2d").any()
    again = preprocess_images(config)
    assert again.skipped and again.counts == report.counts
    (tmp_path / "boxes.json").write_text(json.dumps({"a.png": [10, 10, 20, 30]}))
    assert not preprocess_images(config).skipped


def test_key_points_of_pictures(tmp_path: Path) -> None:
    config = images(tmp_path, keypoints=tmp_path / "op")
    write_picture(config.raw / "a.png")
    (tmp_path / "op").mkdir()
    people = {"people": [openpose_person(10.0), openpose_person(30.0)]}
    (tmp_path / "op" / "a_keypoints.json").write_text(json.dumps(people))
    preprocess_images(config)
    with Artifact(config.output, DATASET) as artifact:
        assert artifact.skeleton.name == "coco18"
        assert artifact.read("samples", "bbox").tolist() == [[10, 5, 14, 22], [30, 5, 34, 22]]
        assert artifact.read("samples", "keypoints2d")[1, 1].tolist() == pytest.approx([31, 6, 0.9])


def test_one_picture_is_enough(tmp_path: Path) -> None:
    config = images(tmp_path, raw=tmp_path / "alone.png")
    write_picture(config.raw)
    assert preprocess_images(config).counts["samples"] == 1


def test_videos_by_stride(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_rows, "_FRAMES_AT_ONCE", 3)
    config = videos(tmp_path, stride=2)
    write_video(config.raw / "one.mp4", 12, (64, 48))
    write_video(config.raw / "two.mp4", 5, (48, 64))
    (config.raw / "broken.mp4").write_bytes(b"no video")
    report = preprocess_video(config)
    assert report.counts["samples"] == 6 + 3
    assert report.counts["videos_unreadable"] == 1
    assert "broken.mp4" in report.notes[-1]
    with Artifact(config.output, DATASET) as artifact:
        assert artifact.read("samples", "frame").tolist() == [0, 2, 4, 6, 8, 10, 0, 2, 4]
        assert artifact.read("samples", "sequence").tolist() == [0] * 6 + [1] * 3
        assert artifact.read("samples", "camera").tolist() == [0] * 6 + [1] * 3
        assert artifact.read("sequences", "name").tolist() == ["one.mp4", "two.mp4"]
        assert artifact.read("sequences", "fps").tolist() == [10.0, 10.0]
        assert artifact.read("cameras", "width").tolist() == [64, 48]
        assert artifact.read("videos", "frames").tolist() == [12, 5]
        crop = decode_image(artifact.read_ragged("samples", "image", [4])[0])
    assert np.abs(crop[16, 16].astype(int) - draw(64, 48, 8)[24, 32]).max() < 40


def test_people_of_videos(tmp_path: Path) -> None:
    config = videos(tmp_path, keypoints=tmp_path / "op")
    write_video(config.raw / "one.mp4", 4)
    (tmp_path / "op").mkdir()
    for number in range(4):  # numbered from 1, as some tools do
        people = [openpose_person(10.0 + number), openpose_person(40.0)][:: -1 if number == 2 else 1]
        content = {"people": [] if number == 1 else people}
        (tmp_path / "op" / f"one_{number + 1:012d}_keypoints.json").write_text(json.dumps(content))
    report = preprocess_video(config)
    assert report.counts["frames_without_people"] == 1
    with Artifact(config.output, DATASET) as artifact:
        assert artifact.read("samples", "frame").tolist() == [0, 0, 2, 2, 3, 3]
        first = artifact.read("samples", "bbox")[:, 0] < 30
        people = artifact.read("samples", "person")
    assert len(set(people[first])) == len(set(people[~first])) == 1


def test_a_folder_of_frames_is_a_video(tmp_path: Path) -> None:
    config = videos(tmp_path, fps=5.0)
    for number in range(3):
        write_picture(config.raw / f"f{number}.png", seed=number)
    assert preprocess_video(config).counts["samples"] == 3
    with Artifact(config.output, DATASET) as artifact:
        assert artifact.read("videos", "path").tolist() == ["my videos"]
        assert artifact.read("sequences", "fps").tolist() == [5.0]
        assert artifact.header.facts["raw_root"] == str(tmp_path.resolve())


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_rows, "_PICTURES_AT_ONCE", 2)
    config = images(tmp_path)
    for number in range(6):
        write_picture(config.raw / f"{number}.png", seed=number)
    read, real = [], picture_rows.read_image

    def dies(path: Path) -> np.ndarray:
        read.append(path.name)
        if path.name == "4.png" and len(read) < 6:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(picture_rows, "read_image", dies)
    with pytest.raises(KeyboardInterrupt):
        preprocess_images(config)
    assert not config.output.exists()
    read.clear()
    read += [""] * 9
    assert preprocess_images(config).counts["samples"] == 6
    assert sorted(read[9:]) == ["4.png", "5.png"]
    assert not list(config.output.parent.glob("*.parts"))


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    config = images(tmp_path)
    config.raw.mkdir()
    with pytest.raises(MissingFileError, match="no pictures"):
        preprocess_images(config)
    with pytest.raises(MissingFileError, match="no videos"):
        preprocess_video(videos(tmp_path, raw=config.raw))
    (config.raw / "a.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="no one to be seen"):
        preprocess_images(config)
    assert not config.output.exists()
    assert not list(tmp_path.glob("data/*"))
    with pytest.raises(ConfigError, match="one place"):
        preprocess_images(images(tmp_path, boxes=tmp_path / "b.json", keypoints=tmp_path / "k"))


def test_check_lists_everything(tmp_path: Path) -> None:
    config = images(tmp_path, check=True, boxes=tmp_path / "boxes.json")
    write_picture(config.raw / "a.png")
    (tmp_path / "boxes.json").write_text(json.dumps({"a.png": [0, 0, 9, 9]}))
    assert "nothing is missing" in preprocess_images(config).notes[0]
    (config.raw / "b.jpg").write_bytes(b"x")
    (tmp_path / "boxes.json").write_text(json.dumps({"lost.png": [0, 0, 9, 9]}))
    with pytest.raises(InputError, match="2 problems") as raised:
        preprocess_images(config)
    assert "b.jpg" in str(raised.value) and "lost.png" in str(raised.value)
    assert not config.output.exists()


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    config = images(tmp_path, dry_run=True)
    write_picture(config.raw / "a.png")
    assert "1 pictures" in preprocess_images(config).notes[0]
    assert not config.output.parent.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_output_error(tmp_path: Path) -> None:
    config = images(tmp_path)
    write_picture(config.raw / "a.png")
    config.output.parent.mkdir(mode=0o500)
    with pytest.raises(OutputError):
        preprocess_images(config)


def test_an_output_that_cannot_be_is_an_output_error(tmp_path: Path) -> None:
    write_picture(tmp_path / "my pictures" / "a.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        preprocess_images(images(tmp_path, output=tmp_path / "file" / "mine.h5"))
