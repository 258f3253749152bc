from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.config.results import Render
from posekit.datasets.media import open_frames
from posekit.errors import FormatError, InputError
from posekit.records import camera_columns, clip_columns
from posekit.render.video import VideoWriter
from posekit.skeleton.catalog import H36M17
from posekit.stages.render import render

GREY = 8
SHRINK = 4.0


def frame_image(height: int, width: int, frame: int) -> np.ndarray:
    image = np.full((height, width, 3), GREY, np.uint8)
    image[:8, :8] = 20 * (frame % 10)
    return image


@pytest.fixture
def filmed(recording):
    """The recording with small cameras, videos of its first sequence, labels and fits."""
    shrink = np.diag([1 / SHRINK, 1 / SHRINK, 1.0])
    recording.cameras = [
        replace(camera, width=250, height=252, intrinsics=shrink @ camera.intrinsics) for camera in recording.cameras
    ]
    raw = recording.root / "raw"
    for camera in recording.cameras:
        with VideoWriter(raw / f"{camera.name}.mp4", 50.0) as writer:
            for frame in range(26):
                writer.write(frame_image(camera.height, camera.width, frame))
    write_dataset(recording, raw)
    recording.write_labels()
    recording.write_fits()
    return recording


def write_dataset(recording, raw: Path | None, *, crops: bool = False) -> None:
    """As `Recording.write_dataset`, with videos or crops."""
    recording.write_dataset()
    header = Header("dataset", "test", skeleton=H36M17, facts={"raw_root": str(raw)} if raw else {})
    count, views = len(recording.joints), len(recording.cameras)
    keys = {name: np.repeat(values, views) for name, values in recording.keys.items()}
    rows = count * views
    samples = {
        **keys,
        "camera": np.tile(np.arange(views), count),
        "bbox": np.zeros((rows, 4)),
        "keypoints2d": np.full((rows, 17, 3), 60.0),
    }
    if crops:
        crop = cv2.imencode(".png", frame_image(96, 96, 1))[1]
        samples["image"] = [crop] * rows
        samples["crop_from_image"] = np.repeat([[[0.4, 0, -2.0], [0, 0.4, -2.0]]], rows, axis=0)
    with ArtifactWriter(recording.dataset, header) as writer:
        writer.append("cameras", camera_columns(recording.cameras))
        writer.append("sequences", clip_columns([*recording_clips()]))
        if raw is not None:
            videos = {
                "sequence": np.zeros(views, int),
                "camera": np.arange(views),
                "path": [f"{camera.name}.mp4" for camera in recording.cameras],
                "frames": np.full(views, 26),
            }
            writer.append("videos", videos)
        writer.append("samples", samples)


def recording_clips():
    from posekit.records import Clip

    return (
        Clip("S1 Directions", 50.0, "S1", "Directions", 1, "train"),
        Clip("S9 Walking 1", 50.0, "S9", "Walking", 2, "test"),
    )


def drawn(image: np.ndarray) -> np.ndarray:
    """Where a frame is no longer grey, leaving out the label and the codec's noise."""
    changed = np.abs(image.astype(int) - GREY).max(-1) > 25
    changed[:40, :200] = False
    return changed


def read(path: Path) -> list[np.ndarray]:
    with open_frames(path) as source:
        return [image for _, image in source.frames()]


def test_bodies_lie_on_their_joints_in_every_camera(filmed) -> None:
    report = render(Render(dataset=filmed.dataset, draw="mesh", opacity=1.0))
    videos = [path for path in report.outputs if path.suffix == ".mp4"]
    assert len(videos) == 3
    assert all(path.parent == filmed.root / "renders" / "toy" for path in report.outputs)
    for number, camera in enumerate(filmed.cameras):
        images = read(videos[number])
        assert len(images) == 6  # frames 0, 5, ... 25 of the recording
        assert images[0].shape == (252, 250, 3)
        for step in (0, 5):
            rows = np.flatnonzero((filmed.keys["sequence"] == 0) & (filmed.keys["frame"] == 5 * step))
            points = filmed.joints[rows].reshape(-1, 3) @ camera.rotation.T + camera.translation
            import torch

            from posekit.camera_stack import stack_cameras

            pixels = stack_cameras([camera])[0].project_camera(torch.from_numpy(points)).numpy()
            inside = ((pixels > 1) & (pixels < 249)).all(1)
            on_body = [drawn(images[step])[round(y), round(x)] for x, y in pixels[inside]]
            assert np.mean(on_body) > 0.85
            assert drawn(images[step]).mean() < 0.3


def test_the_rate_follows_the_frames_that_are_drawn(filmed) -> None:
    report = render(Render(dataset=filmed.dataset, draw="skeleton", camera=("54138969",)))
    with open_frames(report.outputs[0]) as source:
        assert source.fps == pytest.approx(10.0)


def test_images_are_named_by_the_frames_of_the_recording(filmed) -> None:
    report = render(Render(dataset=filmed.dataset, images=True, camera=("55011271",), frames=2, scale=0.5))
    assert [path.name for path in report.outputs[:2]] == ["000000.png", "000005.png"]
    assert cv2.imread(str(report.outputs[0])).shape == (126, 125, 3)


def test_unchanged_pictures_are_not_drawn_again(filmed) -> None:
    settings = Render(dataset=filmed.dataset, camera=("54138969",), frames=1)
    first = render(settings)
    stamp = first.outputs[0].stat().st_mtime_ns
    again = render(settings)
    assert again.skipped
    assert again.outputs == first.outputs
    assert first.outputs[0].stat().st_mtime_ns == stamp
    first.outputs[0].unlink()
    assert not render(settings).skipped
    assert not render(settings.model_copy(update={"opacity": 0.5})).skipped
    assert not render(settings.model_copy(update={"force": True})).skipped


def test_dry_run_writes_nothing(filmed) -> None:
    report = render(Render(dataset=filmed.dataset, dry_run=True))
    assert report.notes
    assert not (filmed.root / "renders").exists()


@pytest.mark.parametrize("kind", ["side", "turntable"])
def test_views_show_the_bodies_on_a_light_background(filmed, kind) -> None:
    report = render(Render(dataset=filmed.dataset, kind=kind, draw="both", frames=2, scale=0.4, images=True))
    image = cv2.imread(str(report.outputs[0]))
    dark = (image.max(-1) < 200)[30:]
    assert 0.005 < dark.mean() < 0.4
    columns = np.flatnonzero(dark.any(0))
    assert columns[0] > 0  # the camera sees everyone
    assert columns[-1] < image.shape[1] - 1
    manifest = json.loads((filmed.root / "renders" / "toy" / f"{kind}.json").read_text())
    assert set(manifest["files"]) == {str(p.relative_to(filmed.root / "renders" / "toy")) for p in report.outputs}


def test_labels_alone_are_enough_for_views(filmed) -> None:
    (filmed.root / "fits" / "toy.h5").unlink()
    report = render(Render(dataset=filmed.dataset, kind="side", frames=1, scale=0.3))
    assert report.outputs[0].suffix == ".mp4"


def test_a_turntable_of_one_moment_turns_all_the_way(filmed, monkeypatch) -> None:
    monkeypatch.setattr("posekit.stages.render.TURN_FRAMES", 12)
    report = render(Render(dataset=filmed.dataset, kind="turntable", frames=1, scale=0.1))
    images = read(report.outputs[0])
    assert len(images) == 12
    differences = [np.abs(images[0].astype(int) - image).mean() for image in images]
    assert min(differences[1:]) > 1


def test_frames_keep_an_even_pace_where_a_fit_failed(filmed) -> None:
    usable = filmed.keys["frame"] != 10
    filmed.write_fits(ok=usable)
    report = render(Render(dataset=filmed.dataset, draw="mesh", camera=("54138969",), opacity=1.0))
    images = read(report.outputs[0])
    assert len(images) == 6
    assert [bool(drawn(image).any()) for image in images] == [True, True, False, True, True, True]


def test_key_points_are_drawn_where_there_is_nothing_else(filmed) -> None:
    (filmed.root / "fits" / "toy.h5").unlink()
    (filmed.root / "labels" / "toy.joints3d.h5").unlink()
    report = render(Render(dataset=filmed.dataset, camera=("54138969",), frames=1, images=True))
    assert any("2D key points" in note for note in report.notes)
    image = cv2.imread(str(report.outputs[0]))
    assert drawn(image)[60, 60]
    with pytest.raises(InputError, match="nothing to show as side"):
        render(Render(dataset=filmed.dataset, kind="side"))


def test_crops_stand_in_for_missing_frames(filmed) -> None:
    write_dataset(filmed, None, crops=True)
    filmed.write_labels()
    filmed.write_fits()
    report = render(Render(dataset=filmed.dataset, camera=("54138969",), frames=2, images=True))
    assert cv2.imread(str(report.outputs[0])).shape == (96, 96, 3)
    assert any("--raw" in note for note in report.notes)


def test_without_frames_and_crops_it_says_how_to_go_on(filmed) -> None:
    write_dataset(filmed, None)
    filmed.write_labels()
    filmed.write_fits()
    with pytest.raises(InputError, match="--raw"):
        render(Render(dataset=filmed.dataset))


def test_a_truncated_video_leaves_no_film_behind(filmed) -> None:
    path = filmed.root / "raw" / "54138969.mp4"
    with VideoWriter(path, 50.0) as writer:
        for frame in range(12):
            writer.write(frame_image(252, 250, frame))
    with pytest.raises(FormatError, match="12"):
        render(Render(dataset=filmed.dataset, camera=("54138969",)))
    assert not list((filmed.root / "renders").rglob("*.mp4"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sequence": "S7 Eating"}, "S9 Walking 1"),
        ({"camera": ("cam99",)}, "54138969"),
        ({"raw": Path("nowhere")}, "nowhere"),
    ],
)
def test_wrong_names_are_answered_with_the_right_ones(filmed, wrong, message) -> None:
    with pytest.raises(InputError, match=message):
        render(Render(dataset=filmed.dataset, **wrong))


def test_bodies_need_fits(filmed) -> None:
    (filmed.root / "fits" / "toy.h5").unlink()
    with pytest.raises(InputError, match="posekit register"):
        render(Render(dataset=filmed.dataset, draw="mesh"))


def test_artifacts_of_another_data_set_are_refused(filmed) -> None:
    write_dataset(filmed, filmed.root / "raw", crops=True)
    with pytest.raises(InputError, match="was not made from"):
        render(Render(dataset=filmed.dataset))
