"""Four calibrated cameras like those of Human3.6M, a little different for every subject. All numbers are invented."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from posekit.geometry.conventions import METRES_PER_MILLIMETRE, MILLIMETRES_PER_METRE
from posekit.geometry.rotations import matrix_from_euler
from posekit.records import Camera
from posekit.synthetic.seeding import stream

FULL_WIDTH = 1000
"""Image width (px) at which the lenses below are stated."""

LOOK_AT = np.array([0.0, 0.0, 0.9])
"""What all cameras look at (m, the world of the studio)."""

_TALLEST = 1002
_TALL_SUBJECTS = ("S4", "S7", "S10")
"""Subjects all of whose images are as tall as that."""

_MOVED = 0.06
"""Cameras are set up anew for each subject: standard deviation of their places, m."""
_AIMED = 0.04
_ROLLED = 0.006


@dataclass(frozen=True)
class Station:
    """One camera as it is meant to stand: place (m), lens at full width, and height of its image there."""

    name: str
    place: tuple[float, float, float]
    focal: tuple[float, float]
    centre: tuple[float, float]
    distortion: tuple[float, float, float, float, float]
    full_height: int


STATIONS: tuple[Station, ...] = (
    Station("54138969", (1.85, 4.65, 1.62), (1148.0, 1146.5), (509.0, 511.0), (-0.201, 0.241, -0.0041, -0.0011, -0.0013), 1002),
    Station("55011271", (1.95, -4.80, 1.58), (1151.5, 1150.0), (505.5, 504.0), (-0.197, 0.234, 0.0052, -0.0022, -0.0012), 1000),
    Station("58860488", (-1.75, 4.90, 1.53), (1147.0, 1147.5), (514.0, 498.5), (-0.205, 0.249, -0.0017, -0.0009, 0.0011), 1000),
    Station("60457274", (-1.65, -4.20, 1.56), (1144.0, 1143.0), (511.5, 499.0), (-0.194, 0.222, -0.0075, -0.0015, -0.0008), 1002),
)  # fmt: skip


@dataclass(frozen=True)
class Extrinsics:
    """A pose as Human3.6M states it: three angles with R = Rx Ry Rz, and the camera's centre in mm."""

    angles: tuple[float, float, float]
    centre_mm: tuple[float, float, float]

    def rotation(self) -> Float[np.ndarray, "3 3"]:
        """camera_from_world."""
        return matrix_from_euler("xyz", torch.tensor(self.angles, dtype=torch.float64)).numpy()


def subject_extrinsics(station: Station, subject: str, seed: int) -> Extrinsics:
    """Where a camera stands for a subject."""
    rng = stream(seed, "camera", station.name, subject)
    place = np.array(station.place) + _MOVED * rng.standard_normal(3) * [1.0, 1.0, 0.3]
    aim = LOOK_AT + _AIMED * rng.standard_normal(3)
    rotation = looking(place, aim, roll=_ROLLED * rng.standard_normal())
    angles = (
        np.arctan2(-rotation[1, 2], rotation[2, 2]),
        np.arcsin(np.clip(rotation[0, 2], -1.0, 1.0)),
        np.arctan2(-rotation[0, 1], rotation[0, 0]),
    )
    x, y, z = (round(float(value) * MILLIMETRES_PER_METRE, 6) for value in place)
    return Extrinsics((float(angles[0]), float(angles[1]), float(angles[2])), (x, y, z))


def looking(place: Float[np.ndarray, "3"], aim: Float[np.ndarray, "3"], roll: float = 0.0) -> Float[np.ndarray, "3 3"]:
    """camera_from_world of a camera at `place` that looks at `aim`, upright in a world with z up but for `roll` (rad)."""
    forward = (aim - place) / np.linalg.norm(aim - place)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    level = np.stack([right, np.cross(forward, right), forward])
    cosine, sine = np.cos(roll), np.sin(roll)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]]) @ level


def rig(subject: str, width: int, seed: int) -> list[Camera]:
    """The four cameras of a subject, for images of about `width` pixels.

    Width and heights are even, as the video codec wants them.
    """
    return [_camera(station, subject, width, seed) for station in STATIONS]


def _camera(station: Station, subject: str, width: int, seed: int) -> Camera:
    pose = subject_extrinsics(station, subject, seed)
    rotation = pose.rotation()
    centre = np.array(pose.centre_mm) * METRES_PER_MILLIMETRE
    fx, fy, cx, cy = scaled_lens(station, width)
    return Camera(
        name=station.name,
        width=even(width),
        height=image_height(station, subject, width),
        intrinsics=np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]),
        lens="human36m",
        distortion=station.distortion,
        rotation=rotation,
        translation=-rotation @ centre,
        session=subject,
    )


def image_height(station: Station, subject: str, width: int) -> int:
    """Height of the images of a camera, for images of about `width` pixels."""
    full = _TALLEST if subject in _TALL_SUBJECTS else station.full_height
    return even(round(full * even(width) / FULL_WIDTH))


def scaled_lens(station: Station, width: int) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy for images of another width; pixel centres are at whole numbers."""
    scale = even(width) / FULL_WIDTH
    (fx, fy), (cx, cy) = station.focal, station.centre
    return (
        round(fx * scale, 9),
        round(fy * scale, 9),
        round((cx + 0.5) * scale - 0.5, 9),
        round((cy + 0.5) * scale - 0.5, 9),
    )


def even(size: int) -> int:
    """The even number at or above a size."""
    return size + size % 2
