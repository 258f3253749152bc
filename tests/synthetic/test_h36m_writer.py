from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from cdflib import CDF

from posekit.camera_stack import stack_cameras
from posekit.errors import OutputError
from posekit.synthetic.h36m_writer import SequenceWriter
from posekit.synthetic.rig import rig

FRAMES = 4


def record(folder: Path, **options: object) -> tuple[np.ndarray, SequenceWriter]:
    cameras = rig("S1", 96, 0)
    joints = np.random.default_rng(0).uniform([-0.5, -0.5, 0.0], [0.5, 0.5, 1.8], (FRAMES, 32, 3))
    with SequenceWriter(folder, "Directions 1", cameras, 50.0, **options) as writer:
        for index, frame in enumerate(joints):
            writer.add_pose(frame)
            for camera, of in enumerate(cameras):
                if of.name not in options.get("without_video", ()):
                    writer.add_picture(camera, np.full((of.height, of.width, 3), 40 + 40 * index, np.uint8))
    return joints, writer


def pose(path: Path) -> np.ndarray:
    values = CDF(path).varget("Pose")
    assert values.dtype == np.float32 and values.shape[:2] == (1, FRAMES)
    return values[0].reshape(FRAMES, 32, -1).astype(np.float64)


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 50
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_poses_come_back_within_a_hundredth_of_a_millimetre(tmp_path: Path) -> None:
    joints, _ = record(tmp_path)
    features = tmp_path / "S1" / "MyPoseFeatures"
    assert np.abs(pose(features / "D3_Positions" / "Directions 1.cdf") - 1000 * joints).max() < 0.001
    for camera in rig("S1", 96, 0):
        seen = pose(features / "D3_Positions_mono" / f"Directions 1.{camera.name}.cdf")
        expected = joints @ camera.rotation.T + camera.translation
        assert np.abs(seen - 1000 * expected).max() < 0.001


def test_image_points_are_the_projections_of_the_camera_points(tmp_path: Path) -> None:
    record(tmp_path)
    features = tmp_path / "S1" / "MyPoseFeatures"
    cameras = rig("S1", 96, 0)
    for index, camera in enumerate(cameras):
        seen = pose(features / "D3_Positions_mono" / f"Directions 1.{camera.name}.cdf") / 1000
        projected = stack_cameras(cameras)[index].project_camera(torch.from_numpy(seen)).numpy()
        assert np.abs(pose(features / "D2_Positions" / f"Directions 1.{camera.name}.cdf") - projected).max() < 1e-4


def test_videos_have_the_frames_and_some_more(tmp_path: Path) -> None:
    _, writer = record(tmp_path, extra_frames=(0, 1, 2, 0), without_video=("60457274",))
    assert writer.video_frames == [4, 5, 6, 0]
    videos = tmp_path / "S1" / "Videos"
    for camera, count in zip(rig("S1", 96, 0), writer.video_frames, strict=True):
        path = videos / f"Directions 1.{camera.name}.mp4"
        assert path.exists() == bool(count)
        if count:
            frames = frames_of(path)
            assert len(frames) == count and frames[0].shape == (camera.height, camera.width, 3)
            tones = [frame.mean() for frame in frames]
            np.testing.assert_allclose(tones[:FRAMES], [40, 80, 120, 160], atol=4)
            np.testing.assert_allclose(tones[FRAMES:], 160, atol=4)


def test_same_input_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        record(tmp_path / name)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 4 + 4 + 4 + 1
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path


def test_failure_leaves_no_files(tmp_path: Path) -> None:
    cameras = rig("S1", 96, 0)
    with pytest.raises(RuntimeError, match="stop"), SequenceWriter(tmp_path, "Walking", cameras, 50.0) as writer:
        writer.add_pose(np.zeros((32, 3)))
        writer.add_picture(0, np.zeros((96, 96, 3), np.uint8))
        raise RuntimeError("stop")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "S1").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        record(tmp_path)
