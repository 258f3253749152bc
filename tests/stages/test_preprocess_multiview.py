"""Own recordings become a data set: who is kept, which camera sees what, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import DATASET
from posekit.camera_stack import stack_cameras
from posekit.config.data import PreprocessMultiview
from posekit.datasets.crops import apply_affine, decode_image
from posekit.errors import DataError, FormatError, InputError, MissingFileError, OutputError
from posekit.geometry.triangulation import triangulate
from posekit.records import Camera, cameras_from_columns
from posekit.skeleton.catalog import BODY25B
from posekit.stages.preprocess_multiview import preprocess_multiview

FRAMES = 20
SIZE = (320, 240)

# Lateral and vertical place of each joint of someone who stands, metres; the person's left is positive.
PLACES = {
    "nose": (0, 1.60), "left_eye": (0.03, 1.63), "right_eye": (-0.03, 1.63), "left_ear": (0.07, 1.61),
    "right_ear": (-0.07, 1.61), "left_shoulder": (0.18, 1.42), "right_shoulder": (-0.18, 1.42),
    "left_elbow": (0.24, 1.15), "right_elbow": (-0.24, 1.15), "left_wrist": (0.27, 0.90), "right_wrist": (-0.27, 0.90),
    "left_hip": (0.10, 0.92), "right_hip": (-0.10, 0.92), "left_knee": (0.11, 0.50), "right_knee": (-0.11, 0.50),
    "left_ankle": (0.12, 0.08), "right_ankle": (-0.12, 0.08), "neck": (0, 1.46), "head_top": (0, 1.75),
    "left_big_toe": (0.14, 0.01), "left_small_toe": (0.17, 0.02), "left_heel": (0.12, 0.02),
    "right_big_toe": (-0.14, 0.01), "right_small_toe": (-0.17, 0.02), "right_heel": (-0.12, 0.02),
}  # fmt: skip


def rig(count: int = 3, size: tuple[int, int] = SIZE) -> list[Camera]:
    cameras = []
    for index in range(count):
        angle = 0.3 + 1.2 * index
        centre = np.array([4.5 * np.cos(angle), 4.5 * np.sin(angle), 1.4 + 0.2 * index])
        forward = np.array([0, 0, 0.9]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        width, height = size
        K = np.array([[0.9 * width, 0, 0.488 * width], [0, 0.9 * width, 0.515 * height], [0, 0, 1]])
        lens = (-0.05, 0.1, 1e-3, -1e-3, 0.0)
        name = f"cam{index + 1:02d}"
        cameras.append(Camera(name, width, height, K, "opencv", lens, rotation, -rotation @ centre))
    return cameras


def walker(start: tuple[float, float], step: tuple[float, float], seed: int) -> np.ndarray:
    """frames x joints x 3, z up."""
    rng = np.random.default_rng(seed)
    flat = np.array([PLACES[joint] for joint in BODY25B.joints])
    rest = np.column_stack([flat[:, 0], rng.normal(0, 0.03, len(flat)), flat[:, 1]])
    time = np.arange(FRAMES)[:, None, None]
    swing = rng.normal(0, 0.04, (len(flat), 3)) * np.sin(0.4 * time + rng.uniform(0, 6, (len(flat), 1)))
    return rest + swing + np.array([*start, 0.0]) + time * np.array([*step, 0.0])


def project(camera: Camera, person: np.ndarray) -> np.ndarray:
    points = torch.from_numpy(person.reshape(-1, 3))
    return stack_cameras([camera]).project(points)[0].numpy().reshape(*person.shape[:2], 2)


def write_video(path: Path, people: list[np.ndarray], size: tuple[int, int] = SIZE, frames: int = FRAMES) -> None:
    """A video in which every joint of everyone is a dot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "12"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for t in range(frames):
            image = np.full((size[1], size[0], 3), 90, dtype=np.uint8)
            for person in people:
                for x, y in person[t]:
                    cv2.circle(image, (round(float(x)), round(float(y))), 2, (255, 255, 255), -1)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        container.mux(stream.encode())


def write_keypoints(
    folder: Path, people: list[np.ndarray], seed: int, noise: float = 0.3, frames: int = FRAMES
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for t in range(frames):
        entries = []
        for number in rng.permutation(len(people)):
            pixels = people[number][t] + rng.normal(0, noise, people[number][t].shape)
            values = np.column_stack([pixels, np.full(len(pixels), 0.9)])
            entries.append({"person_id": [-1], "pose_keypoints_2d": values.ravel().tolist()})
        (folder / f"{folder.name}_{t:012d}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": entries}))


def write_calibration(path: Path, cameras: list[Camera]) -> None:
    parts = [
        f'[{c.name}]\nname = "{c.name}"\nsize = [{c.width}, {c.height}]\nmatrix = {c.intrinsics.tolist()}\n'
        f"distortions = {list(c.distortion[:4])}\nrotation = {cv2.Rodrigues(c.rotation)[0].ravel().tolist()}\n"
        f"translation = {c.translation.tolist()}\n"
        for c in cameras
    ]
    path.write_text("\n".join(parts))


MAIN, OTHER = walker((0.1, -0.2), (0.01, 0.0), 1), walker((-0.9, 0.6), (0.0, 0.01), 2)


def write_recording(root: Path, people: tuple[np.ndarray, ...] = (MAIN,), hidden: tuple[int, ...] = ()) -> Path:
    """Three cameras; the last person is hidden from the cameras named."""
    for index, camera in enumerate(rig()):
        seen = [project(camera, person) for person in people]
        if index in hidden:
            seen = seen[:-1]
        write_video(root / "videos" / f"{camera.name}.mp4", seen)
        write_keypoints(root / "openpose" / camera.name, seen, seed=index)
    write_calibration(root / "rig.toml", rig())
    return root


@pytest.fixture(scope="module")
def one_person(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("one") / "walk")


@pytest.fixture(scope="module")
def two_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("two") / "walk", (MAIN, OTHER))


@pytest.fixture
def copy(one_person: Path, tmp_path: Path) -> Path:
    """A recording that a test may damage."""
    return Path(shutil.copytree(one_person, tmp_path / "walk"))


def settings(raw: Path, output: Path, **more: object) -> PreprocessMultiview:
    return PreprocessMultiview(raw=raw, output=output, **more)  # type: ignore[arg-type]


def keypoints_by_frame(dataset: Artifact, person: int, cameras: int) -> np.ndarray:
    table = dataset.table("samples")
    gathered = np.zeros((FRAMES, cameras, len(BODY25B), 3))
    chosen = table["person"] == person
    gathered[table["frame"][chosen], table["camera"][chosen]] = table["keypoints2d"][chosen]
    return gathered


def test_a_recording_becomes_a_data_set(one_person: Path, tmp_path: Path) -> None:
    report = preprocess_multiview(settings(one_person, tmp_path / "data.h5"))
    assert report.counts["samples"] == 3 * FRAMES
    assert report.counts["people_matched"] == 1
    assert report.metrics["reprojection_median_px"] < 1.0
    with Artifact(tmp_path / "data.h5", DATASET) as dataset:
        dataset.verify()
        assert dataset.skeleton == BODY25B
        assert dataset.header.facts["raw_root"] == str(one_person.resolve())
        assert dataset.table("sequences")["name"].tolist() == ["walk"]
        assert dataset.table("sequences")["fps"].tolist() == [30.0]
        videos = dataset.table("videos")
        assert videos["path"].tolist() == [f"videos/cam{i + 1:02d}.mp4" for i in range(3)]
        assert videos["frames"].tolist() == [FRAMES] * 3
        cameras = cameras_from_columns(dataset.table("cameras"))
        assert [camera.name for camera in cameras] == ["cam01", "cam02", "cam03"]
        keypoints = torch.from_numpy(keypoints_by_frame(dataset, 0, 3)).permute(0, 2, 1, 3)
        points = triangulate(stack_cameras(cameras), keypoints[..., :2], keypoints[..., 2]).points.numpy()
    assert np.median(np.linalg.norm(points - MAIN, axis=-1)) < 0.01


def test_crops_show_what_the_key_points_say(one_person: Path, tmp_path: Path) -> None:
    preprocess_multiview(settings(one_person, tmp_path / "data.h5", crop_size=192))
    with Artifact(tmp_path / "data.h5") as dataset:
        for row in (0, FRAMES + 7, 3 * FRAMES - 1):
            crop = decode_image(dataset.read_ragged("samples", "image", [row])[0])
            assert crop.shape == (192, 192, 3)
            crop_from_image = dataset.read("samples", "crop_from_image", [row])[0]
            seen = apply_affine(crop_from_image, dataset.read("samples", "keypoints2d", [row])[0, :, :2].astype(float))
            bright = [crop[round(y), round(x)].mean() for x, y in seen]
            assert np.median(bright) > 180


def test_a_second_run_does_nothing_and_says_the_same(one_person: Path, tmp_path: Path) -> None:
    config = settings(one_person, tmp_path / "data.h5", crops=False)
    first = preprocess_multiview(config)
    before = config.output.stat().st_mtime_ns
    second = preprocess_multiview(config)
    assert second.skipped
    assert (second.counts, second.notes) == (first.counts, first.notes)
    assert config.output.stat().st_mtime_ns == before
    assert not preprocess_multiview(config.model_copy(update={"min_confidence": 0.3})).skipped


def test_the_same_input_gives_the_same_bytes(two_people: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("a.h5", "b.h5"):
        preprocess_multiview(settings(two_people, tmp_path / name))
        with Artifact(tmp_path / name) as dataset:
            digests.append(dataset.digest)
    assert digests[0] == digests[1]


def test_a_killed_run_goes_on(one_person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from posekit.stages import preprocess_multiview as stage

    config = settings(one_person, tmp_path / "data.h5")
    opened: list[int] = []
    real = stage._write_shard

    def dying(*arguments: object) -> None:
        opened.append(arguments[3])  # type: ignore[arg-type]
        if len(opened) == 3:
            raise KeyboardInterrupt
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "_write_shard", dying)
    with pytest.raises(KeyboardInterrupt):
        preprocess_multiview(config)
    assert not config.output.exists()
    preprocess_multiview(config)
    assert opened == [0, 1, 2, 2]
    with Artifact(config.output) as dataset:
        dataset.verify()
        assert dataset.rows("samples") == 3 * FRAMES


def test_two_people_keep_their_numbers(two_people: Path, tmp_path: Path) -> None:
    report = preprocess_multiview(settings(two_people, tmp_path / "data.h5", max_people=2, crops=False))
    assert report.counts["samples"] == 2 * 3 * FRAMES
    with Artifact(tmp_path / "data.h5") as dataset:
        cameras = cameras_from_columns(dataset.table("cameras"))
        means = []
        for person in range(2):
            keypoints = keypoints_by_frame(dataset, person, 3)
            for index, camera in enumerate(cameras):
                truth = [project(camera, walk) for walk in (MAIN, OTHER)]
                away = [np.linalg.norm(keypoints[:, index, :, :2] - pixels, axis=-1).mean() for pixels in truth]
                means.append(int(np.argmin(away)))
                assert min(away) < 1.0
    assert means in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])


def test_people_beyond_the_number_asked_for_are_counted(two_people: Path, tmp_path: Path) -> None:
    report = preprocess_multiview(settings(two_people, tmp_path / "data.h5", crops=False))
    assert report.counts["samples"] == 3 * FRAMES
    assert report.counts["people_not_kept"] == 1
    assert any("--max-people" in note for note in report.notes)


def test_a_person_seen_by_one_camera_only_is_left_out_and_reported(tmp_path: Path) -> None:
    raw = write_recording(tmp_path / "walk", (MAIN, OTHER), hidden=(0, 2))
    report = preprocess_multiview(settings(raw, tmp_path / "data.h5", max_people=5, crops=False))
    assert report.counts["people_matched"] == 1
    assert report.counts["detections_in_one_camera_only"] == FRAMES
    assert any(f"cam02 {FRAMES}" in note for note in report.notes)


def test_no_one_is_seen_by_two_cameras(copy: Path, tmp_path: Path) -> None:
    for camera in ("cam01", "cam02"):
        for path in (copy / "openpose" / camera).iterdir():
            path.write_text('{"version": 1.3, "people": []}')
    with pytest.raises(DataError, match="no person is seen by two cameras"):
        preprocess_multiview(settings(copy, tmp_path / "data.h5"))
    for path in (copy / "openpose" / "cam03").iterdir():
        path.write_text('{"version": 1.3, "people": []}')
    with pytest.raises(DataError, match="hold no people"):
        preprocess_multiview(settings(copy, tmp_path / "data.h5"))


def test_intrinsics_alone_are_enough(copy: Path, tmp_path: Path) -> None:
    text = (copy / "rig.toml").read_text().splitlines()
    (copy / "rig.toml").write_text("\n".join(line for line in text if not line.startswith(("rotation", "translation"))))
    report = preprocess_multiview(settings(copy, tmp_path / "data.h5", crops=False))
    assert report.counts["samples"] == 3 * FRAMES
    assert any("no poses" in note for note in report.notes)
    with Artifact(tmp_path / "data.h5") as dataset:
        assert not dataset.table("cameras")["posed"].any()


def test_check_says_what_is_missing_before_any_work(copy: Path, tmp_path: Path) -> None:
    assert "nothing is missing" in preprocess_multiview(settings(copy, tmp_path / "data.h5", check=True)).notes
    assert "would read 3" in preprocess_multiview(settings(copy, tmp_path / "data.h5", dry_run=True)).notes[0]
    shutil.rmtree(copy / "openpose" / "cam02")
    (copy / "rig.toml").unlink()
    with pytest.raises(MissingFileError, match="no key points for cam02") as caught:
        preprocess_multiview(settings(copy, tmp_path / "data.h5", check=True))
    assert "no calibration found" in str(caught.value)
    assert not (tmp_path / "data.h5").exists()


def _no_videos(raw: Path) -> None:
    shutil.rmtree(raw / "videos")


def _no_keypoints(raw: Path) -> None:
    shutil.rmtree(raw / "openpose")


def _too_few_cameras(raw: Path) -> None:
    write_calibration(raw / "rig.toml", rig(2))


def _no_rotation(raw: Path) -> None:
    cameras = rig()
    text = (raw / "rig.toml").read_text()
    vector = str(cv2.Rodrigues(cameras[0].rotation)[0].ravel().tolist())
    (raw / "rig.toml").write_text(text.replace(vector, str((cameras[0].rotation * 1.1).ravel().tolist())))


def _one_video(raw: Path) -> None:
    for name in ("cam02", "cam03"):
        (raw / "videos" / f"{name}.mp4").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_videos, "no videos"),
        (_no_keypoints, "no folder of key points"),
        (_too_few_cameras, "2 cameras for 3 videos"),
        (_no_rotation, "cam01 is not a rotation"),
        (_one_video, "several views are needed"),
    ],
)
def test_what_is_no_recording(copy: Path, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copy)
    with pytest.raises(InputError, match=message):
        preprocess_multiview(settings(copy, tmp_path / "data.h5"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="folder of the recording not found"):
        preprocess_multiview(settings(tmp_path / "nothing", tmp_path / "data.h5"))


def test_videos_of_different_length_are_cut_to_the_shortest(copy: Path, tmp_path: Path) -> None:
    write_video(copy / "videos" / "cam02.mp4", [project(rig()[1], MAIN)], frames=FRAMES - 2)
    report = preprocess_multiview(settings(copy, tmp_path / "data.h5", crops=False))
    assert report.counts["frames"] == FRAMES - 2
    assert report.counts["frames_beyond_the_shortest_video"] == 4
    assert report.counts["samples"] == 3 * (FRAMES - 2)
    assert any("differ in length" in note for note in report.notes)


def test_videos_of_very_different_length_are_refused(copy: Path, tmp_path: Path) -> None:
    write_video(copy / "videos" / "cam02.mp4", [project(rig()[1], MAIN)], frames=FRAMES // 2)
    with pytest.raises(FormatError, match=r"differ too much in length.*cam02 10"):
        preprocess_multiview(settings(copy, tmp_path / "data.h5"))
    report = preprocess_multiview(settings(copy, tmp_path / "data.h5", max_length_difference=0.6, crops=False))
    assert report.counts["samples"] == 3 * FRAMES // 2


def test_a_truncated_video(copy: Path, tmp_path: Path) -> None:
    video = copy / "videos" / "cam01.mp4"
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 3])
    with pytest.raises(FormatError, match="cam01"):
        preprocess_multiview(settings(copy, tmp_path / "data.h5"))


def test_damaged_key_point_files_are_counted(copy: Path, tmp_path: Path) -> None:
    files = sorted((copy / "openpose" / "cam01").iterdir())
    files[3].write_text(files[3].read_text()[:100])
    files[5].unlink()
    report = preprocess_multiview(settings(copy, tmp_path / "data.h5", crops=False))
    assert report.counts["damaged_keypoint_files"] == 1
    assert report.counts["frames_without_keypoint_file"] == 1
    assert report.counts["samples"] == 3 * FRAMES - 2
    assert any(files[3].name in note for note in report.notes)


def test_key_points_of_the_wrong_order_are_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not coco18"):
        preprocess_multiview(settings(copy, tmp_path / "data.h5", keypoint_order="coco18"))


def test_folders_and_numbers_as_pose2sim_has_them(copy: Path, tmp_path: Path) -> None:
    (copy / "openpose").rename(copy / "pose")
    for folder in list((copy / "pose").iterdir()):
        for t, path in enumerate(sorted(folder.iterdir())):
            path.rename(folder / f"{folder.name}_{t + 1:06d}.json")
        folder.rename(copy / "pose" / f"{folder.name}_json")
    (copy / "calibration").mkdir()
    (copy / "rig.toml").rename(copy / "calibration" / "Calib_rig.toml")
    (copy / "Config.toml").write_text("[project]\n")
    report = preprocess_multiview(settings(copy, tmp_path / "data.h5", crops=False))
    assert report.counts["samples"] == 3 * FRAMES
    assert any("numbered from 1" in note for note in report.notes)


def test_a_read_only_folder(one_person: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        preprocess_multiview(settings(one_person, blocked / "data.h5"))


def test_letterboxed_videos_and_a_calibration_turned_without_its_principal_points(tmp_path: Path) -> None:
    """One camera was framed after the calibration; principal points are off to one side and came mirrored."""
    raw, cameras = tmp_path / "walk", rig(4)
    for index, camera in enumerate(cameras):
        seen = project(camera, MAIN)
        if index == 1:
            scale, bar = 300 / 320, (240 - 240 * 300 / 320) / 2
            framed = (seen + 0.5) * scale - 0.5 + np.array([0, bar])
            write_video(raw / "videos" / "cam02.mp4", [framed], size=(300, 240))
            _blacken(raw / "videos" / "cam02.mp4", round(bar))
        else:
            write_video(raw / "videos" / f"{camera.name}.mp4", [seen])
        write_keypoints(raw / "openpose" / camera.name, [seen], seed=index)
    given = []
    for camera, axis in zip(cameras, (0, 1, 1, 1), strict=True):
        K = camera.intrinsics.copy()
        K[axis, 2] = SIZE[axis] - 1 - K[axis, 2]
        given.append(replace(camera, intrinsics=K))
    write_calibration(raw / "rig.toml", given)
    report = preprocess_multiview(settings(raw, tmp_path / "data.h5", crops=False))
    assert report.metrics["reprojection_median_px"] < 1.0
    with Artifact(tmp_path / "data.h5") as dataset:
        facts = dataset.header.facts
        assert facts["frame_fits"] == {"cam01": "same", "cam02": "letterbox", "cam03": "same", "cam04": "same"}
        assert facts["mirrored_principal_points"] == {"cam01": "x", "cam02": "y", "cam03": "y", "cam04": "y"}
        assert facts["keypoint_pixels"] == "calibration"
        found = cameras_from_columns(dataset.table("cameras"))
        assert (found[1].width, found[1].height) == (300, 240)
        keypoints = keypoints_by_frame(dataset, 0, 4)
    np.testing.assert_allclose(project(found[1], MAIN), keypoints[:, 1, :, :2], atol=2.5)
    kept = preprocess_multiview(settings(raw, tmp_path / "given.h5", crops=False, principal_points="given"))
    assert kept.metrics["reprojection_median_px"] > 2.0


def _blacken(path: Path, rows: int) -> None:
    """Black bars at the top and bottom of a video, as a letterbox has them."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "12"})
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuv420p"
        for image in frames:
            image[:rows] = image[len(image) - rows :] = 0
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        container.mux(stream.encode())


def test_the_real_recording(shared_dir: Path, tmp_path: Path) -> None:
    raw = shared_dir / "real" / "balancing"
    report = preprocess_multiview(settings(raw, tmp_path / "data.h5", crops=False))
    assert report.counts["samples"] == 400
    with Artifact(tmp_path / "data.h5") as dataset:
        assert dataset.skeleton == BODY25B
        cameras = cameras_from_columns(dataset.table("cameras"))
        assert [(camera.width, camera.height) for camera in cameras] == [(1080, 1920)] * 2 + [(1088, 1920)] * 2
        assert dataset.header.facts["frame_fits"]["cam01"] == "letterbox"
        table = dataset.table("samples")
    keypoints = np.zeros((100, 4, 25, 3))
    keypoints[table["frame"], table["camera"]] = table["keypoints2d"]
    seen = torch.from_numpy(keypoints).permute(0, 2, 1, 3)
    weights = torch.where(seen[..., 2] > 0.3, seen[..., 2], 0.0)
    result = triangulate(stack_cameras(cameras), seen[..., :2], weights)
    assert float(result.error_px[weights > 0].nanmedian()) < 6.0
    heights = result.points[..., 2].numpy()
    # Upright on the beam, head top about a man's height above the toes.
    head, toe = BODY25B.index("head_top"), BODY25B.index("left_big_toe")
    assert 1.4 < np.nanmedian(heights[:, head] - heights[:, toe]) < 1.95
