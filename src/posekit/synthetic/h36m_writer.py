"""The raw layout of Human3.6M: one video and two CDF files for every camera, one CDF in the world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from cdflib.cdfwrite import CDF
from jaxtyping import Float, UInt8

from posekit.atomic import writing
from posekit.camera_stack import stack_cameras
from posekit.geometry.conventions import MILLIMETRES_PER_METRE
from posekit.records import Camera
from posekit.render.video import VideoWriter

_CDF_FLOAT = 44


class SequenceWriter:
    """Writes the files of one sequence while frames come in; used as a context manager.

    `extra_frames` says how often the last picture of each camera is repeated: in the release, videos may be a little longer
    than the poses. Cameras in `without_video` get poses but no video.
    """

    def __init__(
        self,
        root: Path,
        base: str,
        cameras: Sequence[Camera],
        fps: float,
        *,
        extra_frames: Sequence[int] = (),
        without_video: Sequence[str] = (),
    ) -> None:
        self._subject = root / cameras[0].session
        self._base = base
        self._cameras = list(cameras)
        self._rig = stack_cameras(cameras)
        self._extra = list(extra_frames) or [0] * len(cameras)
        self._joints: list[np.ndarray] = []
        self._last: list[np.ndarray | None] = [None] * len(cameras)
        self._videos = {
            index: VideoWriter(self._subject / "Videos" / f"{base}.{camera.name}.mp4", fps)
            for index, camera in enumerate(cameras)
            if camera.name not in without_video
        }

    def __enter__(self) -> SequenceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for index, video in self._videos.items():
            last = self._last[index]
            if kind is None and last is not None:
                for _ in range(self._extra[index]):
                    video.write(last)
            video.__exit__(kind, error, trace)
        if kind is None:
            self._write_poses()

    @property
    def video_frames(self) -> list[int]:
        """Frames of each camera's video once it is closed; 0 where there is none."""
        count = len(self._joints)
        return [count + extra if i in self._videos else 0 for i, extra in enumerate(self._extra)]

    def add_pose(self, joints: Float[np.ndarray, "32 3"]) -> None:
        """The joints of the next frame (world, m)."""
        self._joints.append(joints)

    def add_picture(self, camera: int, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """The next picture of a camera (RGB)."""
        self._videos[camera].write(image)
        self._last[camera] = image

    def _write_poses(self) -> None:
        world = np.stack(self._joints)
        points = torch.from_numpy(world)
        features = self._subject / "MyPoseFeatures"
        _write_cdf(features / "D3_Positions" / f"{self._base}.cdf", world * MILLIMETRES_PER_METRE)
        for index, camera in enumerate(self._cameras):
            model = self._rig[index]
            seen = model.camera_from_world(points).numpy() * MILLIMETRES_PER_METRE
            name = f"{self._base}.{camera.name}.cdf"
            _write_cdf(features / "D3_Positions_mono" / name, seen)
            _write_cdf(features / "D2_Positions" / name, model.project(points).numpy())


def _write_cdf(path: Path, values: Float[np.ndarray, "N 32 D"]) -> None:
    """One record of one variable `Pose`, float32, as the release has it."""
    rows = np.ascontiguousarray(values.reshape(1, len(values), -1), dtype=np.float32)
    specification = {
        "Variable": "Pose",
        "Data_Type": _CDF_FLOAT,
        "Num_Elements": 1,
        "Rec_Vary": True,
        "Var_Type": "zVariable",
        "Dim_Sizes": list(rows.shape[1:]),
        # The compressor would note the time of day.
        "Compress": 0,
    }
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = CDF(path, delete=True)
        file.write_var(specification, var_data=rows)
        file.close()
