"""Virtual cameras around bodies, and the room that bodies without a picture stand in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from posekit.geometry.cameras import Cameras
from posekit.render.rasterizer import RasterSettings, rasterize
from posekit.render.screen import screen_from_cameras
from posekit.render.topology import MeshTopology

FIELD_OF_VIEW = math.radians(28)
"""Of the shorter side of the image: a long lens, which hardly distorts a body."""

MARGIN = 1.1
"""Of the image around what it must show."""

TOP = np.array([250.0, 250.0, 252.0])
BOTTOM = np.array([226.0, 229.0, 235.0])
LINE = np.array([168.0, 174.0, 186.0])


def facing(
    left: Float[np.ndarray, "*batch 3"], right: Float[np.ndarray, "*batch 3"], up: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3"]:
    """Where people look on average, as a horizontal unit vector, from joints of their left and right side."""
    across = np.nan_to_num(left - right).reshape(-1, 3)
    forward = np.cross(across, up).mean(0)
    if np.linalg.norm(forward) < 1e-6:
        forward = np.cross(np.eye(3)[int(np.abs(up).argmin())], up)
    forward = forward - up * (forward @ up)
    return forward / np.linalg.norm(forward)


@dataclass(frozen=True)
class Room:
    """A level floor and the space that people fill above it; metres, any world with a known vertical."""

    up: Float[np.ndarray, "3"]
    front: Float[np.ndarray, "3"]
    """Horizontal unit vector that azimuth 0 looks against: the people's faces are seen from there."""
    center: Float[np.ndarray, "3"]
    floor: float
    """Height of the floor along `up`."""
    low: Float[np.ndarray, "3"]
    high: Float[np.ndarray, "3"]
    """Extent along (across, up, front), relative to the centre."""

    @staticmethod
    def around(points: Float[np.ndarray, "*batch 3"], up: Float[np.ndarray, "3"], front: np.ndarray) -> Room:
        """The room of everything that is finite among the points; ValueError when nothing is."""
        flat = points.reshape(-1, 3)
        flat = flat[np.isfinite(flat).all(1)].astype(np.float64)
        if not len(flat):
            raise ValueError("there is nothing to look at")
        axes = np.stack([np.cross(up, front), up, front])
        along = flat @ axes.T
        middle = (along.min(0) + along.max(0)) / 2
        return Room(up, front, middle @ axes, float(along[:, 1].min()), along.min(0) - middle, along.max(0) - middle)

    @cached_property
    def across(self) -> Float[np.ndarray, "3"]:
        """Horizontal unit vector to the left of people who face `front`."""
        return np.cross(self.up, self.front)

    @cached_property
    def corners(self) -> Float[np.ndarray, "8 3"]:
        """The corners of the extent."""
        choice = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(8, 3)
        local = np.where(choice == 1, self.high, self.low)
        return self.center + local @ np.stack([self.across, self.up, self.front])

    def camera(
        self, size: tuple[int, int], *, azimuth: float = 0.0, elevation: float = 0.12, distance: float | None = None
    ) -> Cameras:
        """A camera of (height, width) pixels, by default at the distance from which it just sees the room's extent.

        Azimuth 0 looks into the people's faces, a quarter turn (radians) at their left sides; elevation is the angle
        above the floor.
        """
        height, width = size
        rotation = self._rotation(azimuth, elevation)
        focal = _focal(size)
        K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
        away = self.distance(size, azimuth, elevation) if distance is None else distance
        translation = np.array([0, 0, away]) - rotation @ self.center
        return Cameras.checked(K, rotation, translation, image_size=[width, height])

    def distance(self, size: tuple[int, int], azimuth: float, elevation: float) -> float:
        """From the room's centre to a camera that just sees all of the extent, with a margin, in metres."""
        height, width = size
        local = (self.corners - self.center) @ self._rotation(azimuth, elevation).T
        half = np.array([width, height]) / 2 / MARGIN / _focal(size)
        return max(0.5, float((np.abs(local[:, :2]) / half - local[:, 2:]).max()))

    def turntable_distance(self, size: tuple[int, int], elevation: float) -> float:
        """The distance that is enough from all sides."""
        return max(self.distance(size, azimuth, elevation) for azimuth in np.linspace(0, 2 * math.pi, 24).tolist())

    def _rotation(self, azimuth: float, elevation: float) -> Float[np.ndarray, "3 3"]:
        horizontal = math.cos(azimuth) * self.front + math.sin(azimuth) * self.across
        forward = -(math.cos(elevation) * horizontal + math.sin(elevation) * self.up)
        # Seen from straight above, the vertical is no guide: people's faces then look down the picture.
        upright = self.up if abs(elevation) < 1.3 else -horizontal
        right = np.cross(forward, upright)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward])


def _focal(size: tuple[int, int]) -> float:
    return min(size) / 2 / math.tan(FIELD_OF_VIEW / 2)


def empty_room(room: Room, camera: Cameras, *, cell: float = 0.5) -> UInt8[np.ndarray, "H W 3"]:
    """A light background with the floor's grid of `cell` metres, fading with the distance from the people."""
    width, height = (int(value) for value in camera.image_size.tolist())
    shade = np.linspace(0, 1, height)[:, None, None]
    image = np.broadcast_to(TOP + (BOTTOM - TOP) * shade, (height, width, 3)).astype(np.uint8).copy()
    reach = cell * math.ceil((max(np.abs(room.low).max(), np.abs(room.high).max()) + 1.5) / cell)
    foot = room.center + room.up * (room.floor - room.center @ room.up)
    ticks = np.arange(-reach, reach + cell / 2, cell)
    fine = np.linspace(-reach, reach, 4 * (len(ticks) - 1) + 1)
    for major, minor in ((room.across, room.front), (room.front, room.across)):
        lines = foot + ticks[:, None, None] * major + fine[None, :, None] * minor
        screen = screen_from_cameras(camera, torch.from_numpy(lines.reshape(-1, 3))).view(len(ticks), -1, 3).numpy()
        away = np.linalg.norm(lines - foot, axis=-1) / reach
        for points, distance in zip(screen, away, strict=True):
            _draw_fading_line(image, points, distance)
    return image


def cast_shadow(
    image: UInt8[np.ndarray, "H W 3"],
    vertices: Float[Tensor, "P V 3"],
    topology: MeshTopology,
    room: Room,
    camera: Cameras,
) -> None:
    """Darkens the floor, in place, where the bodies stand between it and a light from above."""
    height, width = image.shape[:2]
    up = torch.from_numpy(room.up).to(vertices)
    drop = (vertices @ up - room.floor)[..., None]
    light = torch.nn.functional.normalize(up - torch.from_numpy(0.25 * room.across - 0.2 * room.front).to(up), dim=0)
    flat = vertices - drop * light / (light @ up)
    small = (max(1, height // 2), max(1, width // 2))
    screen = screen_from_cameras(camera.to(dtype=vertices.dtype), flat) * vertices.new_tensor([0.5, 0.5, 1])
    # A closed surface covers the same with the half of its faces that look one way.
    settings = RasterSettings(cull_backfaces=not bool(topology.edge_open.any()))
    covered = rasterize(screen.float(), topology.to(screen.device), small, settings).mask.any(0).cpu().numpy()
    if not covered.any():
        return
    radius = max(1.0, min(small) / 90)
    shadow = cv2.resize(cv2.GaussianBlur(covered.astype(np.float32), (0, 0), radius), (width, height))
    rows, columns = (np.flatnonzero((shadow > 1e-3).any(axis)) for axis in (1, 0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    image[part] = np.rint(image[part] * (1 - 0.22 * shadow[part][..., None])).astype(np.uint8)


def _draw_fading_line(image: np.ndarray, points: np.ndarray, distance: np.ndarray) -> None:
    height, width = image.shape[:2]
    limit = 4.0 * max(height, width)
    usable = (points[:, 2] > 0.1) & (np.abs(points[:, :2]) < limit).all(1) & np.isfinite(points).all(1)
    fixed = np.rint(np.where(usable[:, None], points[:, :2], 0) * 16).astype(np.int32)
    row = np.clip(np.where(usable, points[:, 1], 0), 0, height - 1)[:, None] / max(1, height - 1)
    back = TOP + (BOTTOM - TOP) * row
    strength = np.maximum(0.0, 1 - distance) ** 0.8
    color = (back + strength[:, None] * (LINE - back)).tolist()
    weight = max(1, round(min(height, width) / 500))
    for k in np.flatnonzero(usable[:-1] & usable[1:] & (strength[:-1] > 0.02)):
        cv2.line(image, fixed[k], fixed[k + 1], color[k], weight, cv2.LINE_AA, 4)
