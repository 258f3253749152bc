from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from posekit.errors import FormatError, InputError, MissingFileError
from posekit.geometry.conventions import Y_UP_FROM_Z_UP
from posekit.geometry.rotations import geodesic_angle, matrix_from_axis_angle
from posekit.synthetic.motion import Motion, choose_file, load_motion, motion_files, resampled, turned, vertical_axis


def matrices(axis_angle: np.ndarray) -> torch.Tensor:
    return matrix_from_axis_angle(torch.from_numpy(np.ascontiguousarray(axis_angle)))


def angle_between(first: np.ndarray, second: np.ndarray) -> float:
    return float(geodesic_angle(matrices(first), matrices(second)).max())


def standing(frames: int = 20, fps: float = 30.0) -> Motion:
    """A body that stands upright (y up), turns, and moves its limbs."""
    times = np.arange(frames) / fps
    pose = np.zeros((frames, 24, 3))
    pose[:, 0, 1] = 0.8 * times
    pose[:, 1:, 0] = 0.3 * np.sin(2.0 * times)[:, None]
    translation = np.stack([0.5 * times, np.full(frames, 0.9), -0.2 * times], axis=1)
    return Motion("standing", fps, pose, translation)


def archive(path: Path, motion: Motion, numbers: int = 156, **changes: object) -> Path:
    hands = {72: (22, 23), 156: (22, 37), 165: (25, 40)}[numbers]
    poses = np.zeros((len(motion), numbers // 3, 3))
    poses[:, [*range(22), *hands]] = motion.pose
    arrays: dict[str, object] = {
        "poses": poses.reshape(len(motion), -1),
        "trans": motion.translation,
        "betas": np.zeros(16),
        "gender": np.array(b"female"),
        "mocap_framerate": np.array(motion.fps),
    } | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize("numbers", [72, 156, 165])
def test_loading_gives_back_what_was_written(tmp_path: Path, numbers: int) -> None:
    motion = standing()
    loaded = load_motion(archive(tmp_path / "walk.npz", motion, numbers))
    np.testing.assert_allclose(loaded.pose, motion.pose, atol=1e-12)
    np.testing.assert_allclose(loaded.translation, motion.translation)
    assert (loaded.name, loaded.fps, loaded.recorded) == ("walk", 30.0, True)


def test_both_spellings_of_the_frame_rate(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", standing(), mocap_framerate=None, mocap_frame_rate=np.array(120.000046))
    assert load_motion(path).fps == pytest.approx(120.000046)


def test_z_up_files_come_out_y_up(tmp_path: Path) -> None:
    motion = standing()
    z_up = turned(motion, Y_UP_FROM_Z_UP.T)
    assert vertical_axis(motion) == "y" and vertical_axis(z_up) == "z"
    loaded = load_motion(archive(tmp_path / "amass.npz", z_up))
    assert angle_between(loaded.pose, motion.pose) < 1e-9
    np.testing.assert_allclose(loaded.translation, motion.translation, atol=1e-12)


def test_the_up_axis_can_be_said(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", standing())
    said = load_motion(path, up="z")
    np.testing.assert_allclose(said.translation[:, 2], -0.9)


def test_real_clips_are_found_to_be_y_up(shared_dir: Path) -> None:
    for path in motion_files(shared_dir / "mocap"):
        with np.load(path) as archive:
            raw = archive["trans"].astype(np.float64)
        np.testing.assert_array_equal(load_motion(path).translation, raw, err_msg=path.name)


def test_resampling_at_the_same_rate_changes_nothing() -> None:
    motion = standing()
    same = resampled(motion, motion.fps, len(motion))
    assert angle_between(same.pose, motion.pose) < 1e-7
    np.testing.assert_allclose(same.translation, motion.translation, atol=1e-12)


def test_resampling_follows_great_circles() -> None:
    pose = np.zeros((2, 24, 3))
    pose[1] = [0.0, 1.2, 0.0]
    pose[:, 5] = [[2.9, 0.0, 0.0], [-2.9, 0.0, 0.0]]  # the short way leads over half a turn
    fine = resampled(Motion("turn", 10.0, pose, np.zeros((2, 3))), 40.0, 5)
    np.testing.assert_allclose(fine.pose[:, 0, 1], 1.2 * np.linspace(0, 1, 5), atol=1e-9)
    angles = np.linalg.norm(fine.pose[:, 5], axis=1)
    assert angles.min() > 2.89


def test_resampling_to_and_fro_is_continuous() -> None:
    motion = standing(10)
    long = resampled(motion, 90.0, 200, start=0.05)
    steps = np.linalg.norm(np.diff(long.translation, axis=0), axis=1)
    assert steps.max() < 1.05 * np.linalg.norm([0.5, 0.2]) / 90.0
    assert np.ptp(long.translation[:, 0]) == pytest.approx(0.5 * motion.duration, rel=0.05)


def test_a_single_frame_can_be_held() -> None:
    held = resampled(standing(1), 25.0, 4)
    assert held.pose.shape == (4, 24, 3)
    np.testing.assert_array_equal(held.pose, np.repeat(held.pose[:1], 4, axis=0))


def test_folders_skip_what_is_no_motion(tmp_path: Path) -> None:
    (tmp_path / "s1").mkdir()
    for name in ("s1/b.npz", "s1/shape.npz", "a.npz", "neutral_stagei.npz"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in motion_files(tmp_path)] == ["a.npz", "b.npz"]


def test_files_are_chosen_by_the_action_in_their_name() -> None:
    files = [Path("run.npz"), Path("slow_walking_3.npz"), Path("Walking.npz")]
    assert choose_file(files, "Walking", 0).name == "slow_walking_3.npz"
    assert choose_file(files, "Walking", 1).name == "Walking.npz"
    assert choose_file(files, "Eating", 4).name == "slow_walking_3.npz"


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="not found"):
        motion_files(tmp_path / "nowhere")
    with pytest.raises(MissingFileError, match="not found"):
        load_motion(tmp_path / "nowhere.npz")
    with pytest.raises(InputError, match="no motion in the folder"):
        motion_files(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poses": None}, "lacks poses"),
        ({"mocap_framerate": None}, "lacks mocap_framerate"),
        ({"poses": np.zeros((20, 150))}, "poses has the wrong shape"),
        ({"poses": np.zeros((0, 156))}, "poses has the wrong shape"),
        ({"trans": np.zeros((19, 3))}, "trans must go with poses"),
        ({"trans": np.full((20, 3), np.nan)}, "not finite"),
        ({"mocap_framerate": np.array(0.0)}, "one positive number"),
        ({"mocap_framerate": np.array([30.0, 30.0])}, "one positive number"),
        ({"trans": np.array(["x"] * 20)}, "no array of numbers"),
        ({"poses": None, "trans": None, "mocap_framerate": None}, "shape.npz of AMASS holds no motion"),
    ],
)
def test_broken_motions(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = archive(tmp_path / "broken.npz", standing(), **changes)
    with pytest.raises(FormatError, match=message):
        load_motion(path)


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    path = tmp_path / "text.npz"
    path.write_text("not a motion")
    with pytest.raises(FormatError, match="not a readable"):
        load_motion(path)
    np.savez(path, poses=np.array([{"a": 1}], dtype=object), trans=np.zeros((1, 3)), mocap_framerate=30.0)
    with pytest.raises(FormatError, match="not a readable"):
        load_motion(path)
