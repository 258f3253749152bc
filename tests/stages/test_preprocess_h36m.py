from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import DATASET
from posekit.camera_stack import stack_cameras
from posekit.config.data import PreprocessH36M
from posekit.datasets.crops import apply_affine, decode_image
from posekit.errors import DataError, MissingFileError, OutputError
from posekit.records import cameras_from_columns, clips_from_columns
from posekit.skeleton.catalog import H36M17
from posekit.stages.preprocess_h36m import preprocess_h36m

CAMERA = "54138969"


@pytest.fixture(scope="module")
def h36m_raw() -> ModuleType:
    path = Path(__file__).parents[1] / "datasets" / "h36m_raw.py"
    spec = importlib.util.spec_from_file_location("h36m_raw", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def raw(tmp_path: Path, h36m_raw: ModuleType):
    """Two subjects; the videos have two frames more than the poses have rows."""
    made = h36m_raw.RawH36M(tmp_path / "raw files", frames=12, rows=10)
    made.truth = {base: made.add(subject, base) for subject, base in (("S1", "Directions 1"), ("S9", "Photo"))}
    return made


def settings(raw, tmp_path: Path, **changes: Any) -> PreprocessH36M:
    values = {"raw": raw.root, "output": tmp_path / "my data" / "h36m.h5", "train_stride": 1, "test_stride": 5}
    return PreprocessH36M(**{**values, "crop_size": 64, **changes})


def videos(raw, subject: str = "S1", base: str = "Directions 1", camera: str = CAMERA) -> Path:
    return raw.root / subject / "Videos" / f"{base}.{camera}.mp4"


def cdf(raw, kind: str, camera: str = CAMERA) -> Path:
    return raw.root / "S1" / "MyPoseFeatures" / kind / f"Directions 1.{camera}.cdf"


def digest(path: Path) -> str:
    with Artifact(path, DATASET) as artifact:
        artifact.verify()
        return artifact.digest


def test_everything_comes_back(raw, tmp_path: Path, h36m_raw: ModuleType) -> None:
    config = settings(raw, tmp_path)
    report = preprocess_h36m(config)
    assert (report.skipped, report.outputs) == (False, (config.output,))
    assert report.counts["samples"] == 4 * 10 + 4 * 2
    assert report.counts["frames_without_pose"] == 8 * 2
    assert "recordings_broken" not in report.counts
    assert report.metrics["projection_worst_px"] < 1e-3
    with Artifact(config.output, DATASET) as artifact:
        artifact.verify()
        assert artifact.skeleton == H36M17
        facts = artifact.header.facts
        assert (facts["keypoints"], facts["protocol"]) == ("ground truth", "all")
        assert Path(facts["raw_root"]) == raw.root.resolve()
        clips = clips_from_columns(artifact.table("sequences"))
        assert [(c.name, c.subject, c.action, c.trial, c.split, c.fps) for c in clips] == [
            ("S1 Directions 1", "S1", "Directions", 1, "train", 50.0),
            ("S9 Photo", "S9", "Photo", 2, "test", 50.0),
        ]
        cameras = cameras_from_columns(artifact.table("cameras"))
        assert [(c.session, c.name, c.height) for c in cameras[:4]] == [
            ("S1", name, size[1]) for name, size in zip(h36m_raw.CAMERAS, h36m_raw.SIZES, strict=True)
        ]
        samples, table = artifact.table("samples"), artifact.table("videos")
        assert list(table["path"][:2]) == [f"S1/Videos/Directions 1.{name}.mp4" for name in h36m_raw.CAMERAS[:2]]
        assert (table["frames"] == 12).all()
        order = list(zip(samples["sequence"], samples["camera"], samples["frame"], strict=True))
        assert order == sorted(order)
        assert [frame for sequence, camera, frame in order if (sequence, camera) == (1, 4)] == [0, 5]
        check_geometry(raw, h36m_raw, samples, clips, cameras)
        check_crops(h36m_raw, artifact, samples)


def check_geometry(raw, h36m_raw: ModuleType, samples: dict[str, np.ndarray], clips: list, cameras: list) -> None:
    rig = stack_cameras(cameras)
    raw17 = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
    for row in range(len(samples["frame"])):
        camera = rig[int(samples["camera"][row])]
        base = clips[samples["sequence"][row]].name.split(" ", 1)[1]
        world = h36m_raw.np.asarray(raw.truth[base][samples["frame"][row]][raw17]) / 1000
        points = camera.intrinsics.new_tensor(world)
        np.testing.assert_allclose(samples["joints3d"][row], camera.camera_from_world(points).numpy(), atol=1e-5)
        np.testing.assert_allclose(samples["keypoints2d"][row, :, :2], camera.project(points).numpy(), atol=0.01)
        assert (samples["keypoints2d"][row, :, 2] == 1).all()


def check_crops(h36m_raw: ModuleType, artifact: Artifact, samples: dict[str, np.ndarray]) -> None:
    for row, encoded in enumerate(artifact.read_ragged("samples", "image")):
        crop = decode_image(encoded)
        assert crop.shape == (64, 64, 3)
        box = apply_affine(samples["crop_from_image"][row], samples["bbox"][row].reshape(2, 2).astype(float))
        assert ((box > 0) & (box < 63)).all()
        middle = np.rint(box.mean(axis=0)).astype(int)
        assert np.abs(box.mean(axis=0) - 31.5).max() < 1e-3
        shown = crop[middle[1] - 3 : middle[1] + 3, middle[0] - 3 : middle[0] + 3].mean()
        assert abs(shown - h36m_raw.level(int(samples["frame"][row]))) < 2


def test_second_run_is_skipped_and_says_the_same(raw, tmp_path: Path) -> None:
    shutil.copy(videos(raw), tmp_path / "short.mp4")
    videos(raw).write_bytes(b"broken")
    config = settings(raw, tmp_path)
    first = preprocess_h36m(config)
    changed = config.output.stat().st_mtime_ns
    second = preprocess_h36m(config)
    assert second.skipped
    assert config.output.stat().st_mtime_ns == changed
    assert (second.counts, second.notes, second.metrics) == (first.counts, first.notes, first.metrics)
    before = digest(config.output)
    assert not preprocess_h36m(settings(raw, tmp_path, force=True)).skipped
    assert digest(config.output) == before
    assert not preprocess_h36m(settings(raw, tmp_path, jpeg_quality=50)).skipped
    shutil.copy(tmp_path / "short.mp4", videos(raw))
    report = preprocess_h36m(config)
    assert not report.skipped
    assert "recordings_broken" not in report.counts


def test_dry_run_and_check_write_nothing(raw, tmp_path: Path) -> None:
    assert "8 recordings" in preprocess_h36m(settings(raw, tmp_path, dry_run=True)).notes[0]
    report = preprocess_h36m(settings(raw, tmp_path, check=True))
    assert report.counts["recordings"] == 8
    assert not (tmp_path / "my data").exists()
    videos(raw).unlink()
    videos(raw, camera="55011271").rename(videos(raw, camera="x"))
    with pytest.raises(MissingFileError) as error:
        preprocess_h36m(settings(raw, tmp_path, check=True))
    assert f"missing: S1/Videos/Directions 1.{CAMERA}.mp4" in str(error.value)
    assert "misnamed: S1/Videos/Directions 1.x.mp4" in str(error.value)


def test_what_is_broken_is_named_and_the_rest_goes_on(raw, tmp_path: Path, h36m_raw: ModuleType) -> None:
    videos(raw, camera="55011271").unlink()
    h36m_raw.write_cdf(cdf(raw, "D3_Positions_mono", "58860488"), np.zeros((1, 10, 64)))
    cdf(raw, "D2_Positions", "60457274").write_bytes(b"garbage")
    report = preprocess_h36m(settings(raw, tmp_path))
    assert report.counts["samples"] == 10 + 8
    assert report.counts["recordings_broken"] == 2
    assert report.counts["missing_or_misnamed_files"] == 1
    text = " ".join(report.notes)
    assert "missing: S1/Videos/Directions 1.55011271.mp4" in text
    assert "(1, 10, 64)" in text
    assert "(1, frames, 96)" in text
    assert "Directions 1.60457274" in text
    assert len(report.tables[0].rows) == 3


@pytest.mark.parametrize("crops", [True, False])
def test_truncated_video_gives_the_frames_it_has(raw, tmp_path: Path, h36m_raw: ModuleType, crops: bool) -> None:
    h36m_raw.write_video(videos(raw), 12, (100, 102), faststart=True)
    data = videos(raw).read_bytes()
    videos(raw).write_bytes(data[:-300])
    config = settings(raw, tmp_path, crops=crops)
    report = preprocess_h36m(config)
    with Artifact(config.output, DATASET) as artifact:
        assert artifact.has("samples", "image") == crops
        kept = int((artifact.read("samples", "camera") == 0).sum())
        assert artifact.read("videos", "frames")[0] < 12
    assert 0 < kept < 10
    assert report.counts["frames_unreadable"] == 10 - kept
    assert report.counts["recordings_broken"] == 1
    assert any("of 12 frames can be read" in note for note in report.notes)


def test_a_camera_without_any_video_that_opens(raw, tmp_path: Path) -> None:
    videos(raw).write_bytes(b"broken")
    config = settings(raw, tmp_path, subjects=("S1",))
    report = preprocess_h36m(config)
    assert report.counts["samples"] == 30
    assert report.counts["recordings_broken"] == 1
    with Artifact(config.output, DATASET) as artifact:
        assert CAMERA not in artifact.read("cameras", "name")
        assert sorted(set(artifact.read("samples", "camera"))) == [0, 1, 2]


def test_joints_that_are_not_finite(raw, tmp_path: Path, h36m_raw: ModuleType) -> None:
    flat = np.full((1, 10, 64), 50.0)
    flat[0, :, 1::2] += np.arange(32)
    flat[0, 3, 6:8] = np.nan
    flat[0, 5] = np.nan
    h36m_raw.write_cdf(cdf(raw, "D2_Positions"), flat)
    config = settings(raw, tmp_path)
    report = preprocess_h36m(config)
    assert report.counts["frames_without_keypoints"] == 1
    assert report.counts["nan_joints"] == 1
    with Artifact(config.output, DATASET) as artifact:
        samples = artifact.table("samples")
    rows = samples["camera"] == 0
    assert list(samples["frame"][rows]) == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    keypoints = samples["keypoints2d"][rows][3]
    assert np.isnan(keypoints[3, :2]).all()
    assert keypoints[3, 2] == 0
    assert any("do not project" in note and "px" in note for note in report.notes)


def test_more_poses_than_frames(raw, tmp_path: Path, h36m_raw: ModuleType) -> None:
    h36m_raw.write_video(videos(raw), 6, (100, 102))
    config = settings(raw, tmp_path)
    report = preprocess_h36m(config)
    assert report.counts["poses_without_frame"] == 4
    assert "recordings_broken" not in report.counts
    with Artifact(config.output, DATASET) as artifact:
        assert (artifact.read("samples", "camera") == 0).sum() == 6


def test_frames_of_another_size_are_refused(raw, tmp_path: Path, h36m_raw: ModuleType) -> None:
    raw.add("S1", "Directions")
    h36m_raw.write_video(videos(raw, base="Directions"), 12, (80, 80))
    report = preprocess_h36m(settings(raw, tmp_path, subjects=("S1",)))
    assert report.counts["samples"] == 70
    assert any("differ in size" in note and "80x80" in note for note in report.notes)


def test_extracted_frames(raw, tmp_path: Path, h36m_raw: ModuleType) -> None:
    for name, size in zip(h36m_raw.CAMERAS, h36m_raw.SIZES, strict=True):
        h36m_raw.write_frames(f"{raw.root}/images/S1_Directions_1.{name}_{{:06d}}.jpg", range(0, 10, 5), size)
    config = settings(raw, tmp_path, layout="frames", subjects=("S1",))
    report = preprocess_h36m(config)
    assert (report.counts["samples"], report.counts["frames_not_extracted"]) == (8, 4 * 4)
    with Artifact(config.output, DATASET) as artifact:
        assert list(artifact.read("samples", "frame")) == [0, 5] * 4
        assert artifact.header.facts["first_frame_number"] == 1
        assert artifact.read("videos", "path")[0] == f"images/S1_Directions_1.{CAMERA}_*"
        check_crops(h36m_raw, artifact, artifact.table("samples"))
    frame = raw.root / "images" / f"S1_Directions_1.{CAMERA}_000006.jpg"
    frame.write_bytes(b"broken")
    report = preprocess_h36m(config)
    assert (report.counts["samples"], report.counts["frames_unreadable"]) == (7, 1)
    assert any(frame.name in note for note in report.notes)


def test_boxes_of_the_release(raw, tmp_path: Path) -> None:
    path = raw.root / "S1" / "MySegmentsMat" / "ground_truth_bb" / f"Directions 1.{CAMERA}.mat"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("#refs#")
        references = file.create_dataset("Masks", (4, 1), dtype=h5py.ref_dtype)
        for row in range(4):
            mask = np.zeros((100, 102), dtype=np.uint8)  # stored as width, height
            mask[20:60, 10:90] = 1
            references[row, 0] = group.create_dataset(str(row), data=mask).ref
    config = settings(raw, tmp_path)
    preprocess_h36m(config)
    with Artifact(config.output, DATASET) as artifact:
        boxes = artifact.read("samples", "bbox")[:10]
    np.testing.assert_array_equal(boxes[:4], [[19.5, 9.5, 59.5, 89.5]] * 4)
    assert not (boxes[4:] == boxes[0]).any()
    preprocess_h36m(settings(raw, tmp_path, boxes="keypoints"))
    with Artifact(config.output, DATASET) as artifact:
        assert not (artifact.read("samples", "bbox")[:4] == boxes[0]).any()
    path.write_bytes(b"broken")
    report = preprocess_h36m(config)
    assert report.counts["samples"] == 48
    assert any("boxes are taken from the key points" in note for note in report.notes)


def test_nothing_to_read_is_an_error(raw, tmp_path: Path) -> None:
    for video in (raw.root / "S1/Videos").iterdir():
        video.write_bytes(b"broken")
    config = settings(raw, tmp_path, subjects=("S1",))
    with pytest.raises(DataError, match="no sample"):
        preprocess_h36m(config)
    assert not config.output.exists()
    (raw.root / "metadata.xml").unlink()
    with pytest.raises(MissingFileError, match=r"metadata\.xml.*--check"):
        preprocess_h36m(config)


def test_output_that_cannot_be_written(raw, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        preprocess_h36m(settings(raw, tmp_path, output=tmp_path / "file" / "h36m.h5"))


KILLED = """
import os, signal, sys
import posekit.stages.preprocess_h36m as stage
from posekit.config.data import PreprocessH36M
calls, encode = 0, stage.encode_image
def encode_or_die(*arguments):
    global calls
    calls += 1
    if calls == 25:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(*arguments)
stage.encode_image = encode_or_die
stage.preprocess_h36m(PreprocessH36M.model_validate_json(sys.argv[1]))
"""


def test_a_killed_run_resumes_where_it_was(raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = settings(raw, tmp_path, output=tmp_path / "whole.h5")
    preprocess_h36m(whole)
    config = settings(raw, tmp_path)
    killed = subprocess.run([sys.executable, "-c", KILLED, config.model_dump_json()], capture_output=True, timeout=100)
    assert killed.returncode == -9, killed.stderr
    assert not config.output.exists()
    parts = config.output.with_name(config.output.name + ".parts")
    assert sorted(part.name for part in parts.glob("*.h5")) == ["000000.h5", "000001.h5"]
    opened: list[Path] = []
    import posekit.stages.preprocess_h36m as stage

    read = stage.read_poses
    monkeypatch.setattr(stage, "read_poses", lambda d2, d3: opened.append(d2) or read(d2, d3))
    report = preprocess_h36m(config)
    assert len(opened) == 6
    assert report.counts["samples"] == 48
    assert digest(config.output) == digest(whole.output)
    assert not parts.exists()


MEASURED = """
import json, sys
from posekit.config.data import PreprocessH36M
from posekit.stages.preprocess_h36m import preprocess_h36m
peak = lambda: int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) / 1024
peaks = [peak()]
for text in sys.argv[1:]:
    preprocess_h36m(PreprocessH36M.model_validate_json(text))
    peaks.append(peak())
print(json.dumps(peaks))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_length(tmp_path: Path, h36m_raw: ModuleType) -> None:
    configs = []
    for frames in (100, 3000):
        made = h36m_raw.RawH36M(tmp_path / str(frames), frames=frames, rows=frames)
        made.add("S1", "Directions 1", cameras=(0,))
        config = settings(made, tmp_path, output=tmp_path / f"{frames}.h5", crop_size=256)
        configs.append(config.model_dump_json())
    done = subprocess.run([sys.executable, "-c", MEASURED, *configs], capture_output=True, timeout=200, check=True)
    imports, short, long = json.loads(done.stdout)
    assert long < 500
    # What imports cost differs from build to build of the libraries; the stage answers for the rest.
    assert long - imports < 150
    assert long - short < 40
