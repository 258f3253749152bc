"""Motions of the 24-joint body: files in AMASS form, and resampling.

Whatever a file's axes are, a `Motion` is in SMPL's: y up.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from posekit.errors import FormatError, InputError, MissingFileError
from posekit.geometry.conventions import Y_UP_FROM_Z_UP
from posekit.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle

UpAxis = Literal["auto", "y", "z"]

RATE_KEYS = ("mocap_framerate", "mocap_frame_rate")
"""How the releases of AMASS spell the frame rate: SMPL-H first, SMPL-X second."""

HAND_ROTATIONS = {72: (22, 23), 156: (22, 37), 165: (25, 40)}
"""Numbers per frame -> which rotations stand for the left and the right hand (SMPL; index fingers of SMPL-H and SMPL-X)."""

NOT_MOTIONS = ("shape.npz", "_stagei.npz", "_shape.npz")
"""Endings of files that lie among the motions and hold none."""

_BODY_ROTATIONS = 22
_LOWEST_PELVIS = 0.02
"""A pelvis is never lower above the floor (m), so an axis along which it goes lower is not the vertical."""


@dataclass(frozen=True)
class Motion:
    """Poses over time in a world with y up.

    `pose` is axis-angle relative to the parent (row 0: world_from_body), in radians; `translation` is added after posing,
    in metres. `recorded` tells motion capture, whose heights mean something, from built-in gestures.
    """

    name: str
    fps: float
    pose: Float[np.ndarray, "T 24 3"]
    translation: Float[np.ndarray, "T 3"]
    recorded: bool = True

    def __len__(self) -> int:
        return len(self.pose)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last."""
        return (len(self) - 1) / self.fps


def motion_files(path: Path) -> list[Path]:
    """The motion files at a path: the file itself, or all `.npz` files below a folder except those that hold no motion.

    Raises MissingFileError or InputError where there is none.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise MissingFileError("motion file or folder not found", got=path)
    files = sorted(file for file in path.rglob("*.npz") if not file.name.endswith(NOT_MOTIONS))
    if not files:
        raise InputError("no motion in the folder", got=path, accepted="AMASS-format .npz files")
    return files


def load_motion(path: Path, *, up: UpAxis = "auto") -> Motion:
    """The motion of an AMASS-format file: SMPL-H (156 numbers per frame), SMPL-X (165) or SMPL (72).

    `up` is the vertical axis of the file; `auto` finds it out. Raises MissingFileError or FormatError.
    """
    path = Path(path)
    arrays = _read_archive(path)
    rate = next((key for key in RATE_KEYS if key in arrays), None)
    missing = [key for key in ("poses", "trans") if key not in arrays] + ([] if rate else [RATE_KEYS[0]])
    if missing:
        hint = "A shape.npz of AMASS holds no motion" if "betas" in arrays else None
        raise FormatError(f"motion {path} lacks {', '.join(missing)}", got=sorted(arrays), hint=hint)
    poses, translation = (_numbers(arrays, key, path) for key in ("poses", "trans"))
    if poses.ndim != 2 or poses.shape[1] not in HAND_ROTATIONS or len(poses) == 0:
        raise FormatError(
            f"motion {path}: poses has the wrong shape",
            got=poses.shape,
            accepted=[f"(frames, {count})" for count in HAND_ROTATIONS],
        )
    if translation.shape != (len(poses), 3):
        raise FormatError(f"motion {path}: trans must go with poses", got=translation.shape, accepted=(len(poses), 3))
    assert rate is not None
    fps = _numbers(arrays, rate, path)
    if fps.size != 1 or not float(fps.reshape(-1)[0]) > 0:
        raise FormatError(f"motion {path}: {rate} must be one positive number", got=fps.tolist())
    rotations = poses.reshape(len(poses), -1, 3)
    chosen = [*range(_BODY_ROTATIONS), *HAND_ROTATIONS[poses.shape[1]]]
    motion = Motion(path.stem, float(fps.reshape(-1)[0]), rotations[:, chosen].copy(), translation)
    axis = vertical_axis(motion) if up == "auto" else up
    return turned(motion, Y_UP_FROM_Z_UP) if axis == "z" else motion


def vertical_axis(motion: Motion) -> Literal["y", "z"]:
    """Which axis of a motion's world is the vertical.

    The pelvis stays above the floor along it; where that does not decide, the trunk is upright along it.
    """
    above = [bool(motion.translation[:, axis].min() > _LOWEST_PELVIS) for axis in (1, 2)]
    if above[0] != above[1]:
        return "y" if above[0] else "z"
    trunk = _matrices(motion.pose[:, 0])[:, :, 1].mean(axis=0)
    return "z" if trunk[2] > trunk[1] else "y"


def turned(motion: Motion, target_from_world: Float[np.ndarray, "3 3"]) -> Motion:
    """The motion in other world axes.

    The pelvis does not lie exactly at the origin of the body, so the path is shifted by a constant; paths are placed anew
    wherever a motion is used.
    """
    turned_root = target_from_world @ _matrices(motion.pose[:, 0])
    pose = motion.pose.copy()
    pose[:, 0] = axis_angle_from_matrix(torch.from_numpy(turned_root)).numpy()
    return replace(motion, pose=pose, translation=motion.translation @ target_from_world.T)


def resampled(motion: Motion, fps: float, frames: int, *, start: float = 0.0) -> Motion:
    """`frames` frames at `fps` from `start` seconds on, rotations interpolated along great circles.

    A motion that is too short is played to and fro.
    """
    times = start + np.arange(frames) / fps
    if motion.duration > 0:
        phase = np.mod(times, 2.0 * motion.duration)
        times = np.minimum(phase, 2.0 * motion.duration - phase)
    place = np.clip(times * motion.fps, 0.0, len(motion) - 1)
    before = np.minimum(place.astype(np.int64), max(len(motion) - 2, 0))
    after = np.minimum(before + 1, len(motion) - 1)
    share = place - before
    return replace(
        motion,
        fps=fps,
        pose=_slerp(motion.pose[before], motion.pose[after], share),
        translation=motion.translation[before] * (1 - share[:, None]) + motion.translation[after] * share[:, None],
    )


def choose_file(files: Sequence[Path], action: str, index: int) -> Path:
    """A motion file for an action: the one whose name tells the action, or else the next in turn."""
    named = [file for file in files if action.lower() in file.stem.lower().replace("_", "")]
    return (named or list(files))[index % len(named or files)]


def _slerp(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    a, b = (matrix_from_axis_angle(torch.from_numpy(np.ascontiguousarray(value))) for value in (first, second))
    step = axis_angle_from_matrix(a.mT @ b) * torch.from_numpy(share)[:, None, None]
    return np.asarray(axis_angle_from_matrix(a @ matrix_from_axis_angle(step)).numpy())


def _matrices(axis_angle: np.ndarray) -> np.ndarray:
    return np.asarray(matrix_from_axis_angle(torch.from_numpy(np.ascontiguousarray(axis_angle))).numpy())


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise MissingFileError("motion file not found", got=path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if key in ("poses", "trans", "betas", *RATE_KEYS)}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise FormatError(
            f"motion {path} is not a readable .npz archive ({error})", accepted="AMASS-format .npz files"
        ) from error


def _numbers(arrays: dict[str, np.ndarray], key: str, path: Path) -> np.ndarray:
    values = arrays[key]
    if values.dtype.kind not in "fiu":
        raise FormatError(f"motion {path}: {key} is no array of numbers", got=values.dtype)
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise FormatError(f"motion {path}: {key} holds values that are not finite")
    return values
