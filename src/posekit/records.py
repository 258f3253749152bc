"""The nouns that travel between packages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import Float

from posekit.geometry.lenses import Lens

DISTORTION_SLOTS = 8


@dataclass(frozen=True)
class Camera:
    """A calibrated camera as data sets and calibration files give it; `rotation` is camera_from_world, lengths in metres.

    `posed` is False where only the intrinsics are known; the pose is then the identity and means nothing.
    """

    name: str
    width: int
    height: int
    intrinsics: Float[np.ndarray, "3 3"]
    lens: Lens = "pinhole"
    distortion: tuple[float, ...] = ()
    rotation: Float[np.ndarray, "3 3"] = field(default_factory=lambda: np.eye(3))
    translation: Float[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3))
    session: str = ""
    posed: bool = True


@dataclass(frozen=True)
class Clip:
    """One sequence of a data set: what a row of the table `sequences` says."""

    name: str
    fps: float
    subject: str = ""
    action: str = ""
    trial: int = 0
    split: str = ""


def clip_columns(clips: Sequence[Clip]) -> dict[str, Any]:
    """Clips as the columns of an artifact's table `sequences`."""
    return {field.name: [getattr(clip, field.name) for clip in clips] for field in fields(Clip)}


def clips_from_columns(columns: dict[str, np.ndarray]) -> list[Clip]:
    """Clips from the columns of an artifact's table `sequences`; inverse of `clip_columns`."""
    return [
        Clip(
            name=str(columns["name"][i]),
            fps=float(columns["fps"][i]),
            subject=str(columns["subject"][i]),
            action=str(columns["action"][i]),
            trial=int(columns["trial"][i]),
            split=str(columns["split"][i]),
        )
        for i in range(len(columns["name"]))
    ]


def camera_columns(cameras: Sequence[Camera]) -> dict[str, Any]:
    """Cameras as the columns of an artifact's table `cameras`."""
    padded = [np.pad(np.asarray(c.distortion, dtype=float), (0, DISTORTION_SLOTS - len(c.distortion))) for c in cameras]
    return {
        "name": [camera.name for camera in cameras],
        "session": [camera.session for camera in cameras],
        "width": [camera.width for camera in cameras],
        "height": [camera.height for camera in cameras],
        "intrinsics": np.reshape([camera.intrinsics for camera in cameras], (-1, 3, 3)),
        "lens": [camera.lens for camera in cameras],
        "distortion": np.reshape(padded, (-1, DISTORTION_SLOTS)),
        "rotation": np.reshape([camera.rotation for camera in cameras], (-1, 3, 3)),
        "translation": np.reshape([camera.translation for camera in cameras], (-1, 3)),
        "posed": [camera.posed for camera in cameras],
    }


def cameras_from_columns(columns: dict[str, np.ndarray]) -> list[Camera]:
    """Cameras from the columns of an artifact's table `cameras`; inverse of `camera_columns`."""
    return [
        Camera(
            name=str(columns["name"][i]),
            width=int(columns["width"][i]),
            height=int(columns["height"][i]),
            intrinsics=np.asarray(columns["intrinsics"][i], dtype=np.float64),
            lens=str(columns["lens"][i]),  # type: ignore[arg-type]
            distortion=tuple(float(value) for value in columns["distortion"][i]),
            rotation=np.asarray(columns["rotation"][i], dtype=np.float64),
            translation=np.asarray(columns["translation"][i], dtype=np.float64),
            session=str(columns["session"][i]),
            posed=bool(columns["posed"][i]),
        )
        for i in range(len(columns["name"]))
    ]
