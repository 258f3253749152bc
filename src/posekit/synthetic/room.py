"""The room around the body: floor, walls, ceiling and some furniture, the same for all cameras of a session."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float

from posekit.camera_stack import stack_cameras
from posekit.records import Camera
from posekit.synthetic.clothes import Colour, linear
from posekit.synthetic.light import RoomLight
from posekit.synthetic.seeding import stream

HALF_SIZE = np.array([4.2, 6.4])
"""Half the room's extent along x and y, m: all cameras stand inside."""
HEIGHT = 3.1

FREE_RADIUS = 2.4
"""No furniture stands nearer to the middle of the room than this (m)."""

_COARSE = 8
"""Rays through the lens are found for every eighth pixel and interpolated: a background needs no more."""
_NOISE = 256
_NEAR = 0.05
_LIFT = 0.75


@dataclass(frozen=True)
class Box:
    """A block that stands in the room: minimum and maximum corner (m), and its colour (sRGB)."""

    low: Float[np.ndarray, "3"]
    high: Float[np.ndarray, "3"]
    colour: Colour


@dataclass(frozen=True)
class Room:
    """What the room looks like; `noise` is a random texture in [0, 1]."""

    floor: Colour
    joints: Colour
    walls: Colour
    skirting: Colour
    ceiling: Colour
    tile: Float[np.ndarray, "2"]
    planks: bool
    boxes: tuple[Box, ...]
    noise: Float[np.ndarray, "n n"]


def random_room(seed: int, subject: str) -> Room:
    """The room of a subject's session."""
    rng = stream(seed, "room", subject)
    planks = bool(rng.uniform() < 0.5)
    wood = rng.uniform(0.06, 0.11)
    floor = (
        _hsv(wood, rng.uniform(0.25, 0.5), rng.uniform(0.45, 0.7))
        if planks
        else _hsv(rng.uniform(), 0.08, rng.uniform(0.45, 0.7))
    )
    coarse = [
        cv2.resize(rng.uniform(size=(size, size)), (_NOISE, _NOISE), interpolation=cv2.INTER_CUBIC)
        for size in (8, 32, 128)
    ]
    noise = np.clip(0.5 * coarse[0] + 0.3 * coarse[1] + 0.2 * coarse[2], 0.0, 1.0)
    return Room(
        floor=floor,
        joints=tuple(0.72 * value for value in floor),  # type: ignore[arg-type]  # three values stay three
        walls=_hsv(rng.uniform(), rng.uniform(0.04, 0.22), rng.uniform(0.68, 0.9)),
        skirting=_hsv(rng.uniform(), 0.1, rng.uniform(0.25, 0.45)),
        ceiling=(0.86, 0.86, 0.85),
        tile=np.array([0.14, 1.2]) if planks else np.full(2, rng.uniform(0.4, 0.65)),
        planks=planks,
        boxes=tuple(_furniture(rng)),
        noise=noise,
    )


def background(room: Room, camera: Camera, light: RoomLight) -> Float[np.ndarray, "H W 3"]:
    """What a camera sees of the empty room, linear light."""
    origin, rays = _rays(camera)
    distance, axis, sign = _inside_of_room(origin, rays)
    # How much floor a pixel shows, on average over its two directions.
    footprint = distance / camera.intrinsics[0, 0] * np.sqrt(distance / origin[2])
    colours = _surfaces(room, origin + distance[:, None] * rays, axis, sign, footprint)
    normals = np.zeros_like(rays)
    np.put_along_axis(normals, axis[:, None], -sign[:, None], axis=1)
    for box in room.boxes:
        ahead = _rays_towards(box, camera)
        near, side_axis, side = _box_hit(box, origin, rays[ahead])
        hit = near < distance[ahead]
        near, side_axis, side, seen = near[hit], side_axis[hit], side[hit], ahead[hit]
        if not len(seen):
            continue
        distance[seen] = near
        x, y, z = (origin + near[:, None] * rays[seen]).T
        grain = 0.85 + 0.3 * _sampled(room.noise, x + z, y + 0.3 * z, 1.1)
        colours[seen] = np.array(linear(box.colour)) * grain[:, None]
        normals[seen] = 0.0
        normals[seen, side_axis] = side
    shaded = light.shade(torch.from_numpy(colours), torch.from_numpy(normals)).numpy()
    return np.ascontiguousarray(_LIFT * shaded.reshape(camera.height, camera.width, 3), dtype=np.float32)


def _furniture(rng: np.random.Generator) -> list[Box]:
    """Some blocks along the walls: shelves, tables, crates."""
    boxes = []
    for _ in range(int(rng.integers(5, 9))):
        size = np.array(
            [rng.uniform(0.4, 1.6), rng.uniform(0.35, 0.7), rng.choice([0.45, 0.75, 1.1, 1.9]) * rng.uniform(0.9, 1.1)]
        )
        wall = int(rng.integers(4))
        if wall % 2:
            size[:2] = size[1::-1]
        along = rng.uniform(-0.85, 0.85)
        half = HALF_SIZE - 0.5 * size[:2] - 0.02
        middle = (
            np.array([along * half[0], (1 if wall else -1) * half[1]])
            if wall % 2 == 0
            else np.array([(1 if wall == 1 else -1) * half[0], along * half[1]])
        )
        if np.abs(middle - 0.5 * size[:2] * np.sign(middle)).max() < FREE_RADIUS:
            continue
        colour = _hsv(rng.uniform(), rng.uniform(0.1, 0.55), rng.uniform(0.25, 0.8))
        low = np.array([*(middle - 0.5 * size[:2]), 0.0])
        boxes.append(Box(low, low + size, colour))
    return boxes


def _rays(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The camera's centre, and the directions (world) that its pixels look along."""
    model = stack_cameras([camera])
    columns = np.arange(0, camera.width + _COARSE, _COARSE, dtype=float)
    rows = np.arange(0, camera.height + _COARSE, _COARSE, dtype=float)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1)
    plane = model.undistort(torch.from_numpy(grid.reshape(1, -1, 2))).numpy().reshape(*grid.shape)
    x, y = np.meshgrid(np.arange(camera.width, dtype=np.float32), np.arange(camera.height, dtype=np.float32))
    fine = cv2.remap(plane.astype(np.float32), x / _COARSE, y / _COARSE, cv2.INTER_LINEAR)
    rays = np.concatenate([fine, np.ones_like(fine[..., :1])], axis=-1) @ camera.rotation
    return -camera.rotation.T @ camera.translation, rays.reshape(-1, 3)


def _inside_of_room(origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low = np.array([*-HALF_SIZE, 0.0])
    high = np.array([*HALF_SIZE, HEIGHT])
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.where(rays > 0, (high - origin) / rays, (low - origin) / rays)
    far = np.where(np.isfinite(far), far, np.inf)
    axis = far.argmin(axis=-1)
    distance = np.take_along_axis(far, axis[..., None], axis=-1)[..., 0]
    return distance, axis, np.sign(np.take_along_axis(rays, axis[..., None], axis=-1)[..., 0])


def _rays_towards(box: Box, camera: Camera) -> np.ndarray:
    """The pixels, counted row by row, that may see a box: all of them where that is not easily told."""
    corners = np.stack(np.meshgrid(*np.stack([box.low, box.high], axis=1)), axis=-1).reshape(-1, 3)
    seen = (corners @ camera.rotation.T + camera.translation) @ camera.intrinsics.T
    if camera.lens == "pinhole" and seen[:, 2].max() <= 0:
        return np.zeros(0, np.int64)
    if camera.lens != "pinhole" or seen[:, 2].min() < _NEAR:
        return np.arange(camera.width * camera.height)
    pixels = seen[:, :2] / seen[:, 2:]
    size = (camera.width, camera.height)
    x0, y0 = np.floor(pixels.min(axis=0)).clip(0, size).astype(int)
    x1, y1 = (np.ceil(pixels.max(axis=0)) + 1).clip(0, size).astype(int)
    return (np.arange(y0, y1)[:, None] * camera.width + np.arange(x0, x1)).ravel()


def _box_hit(box: Box, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (box.low - origin) / rays, (box.high - origin) / rays
    near, far = np.fmin(first, second), np.fmax(first, second)
    axis = near.argmax(axis=-1)
    entry = np.take_along_axis(near, axis[..., None], axis=-1)[..., 0]
    hit = (entry < far.min(axis=-1)) & (entry > 0)
    side = -np.sign(np.take_along_axis(rays, axis[..., None], axis=-1)[..., 0])
    return np.where(hit, entry, np.inf), axis, side


def _surfaces(room: Room, points: np.ndarray, axis: np.ndarray, sign: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Colours (linear light) of floor, walls and ceiling."""
    x, y, z = np.moveaxis(points, -1, 0)
    on_floor, on_ceiling = (axis == 2) & (sign < 0), (axis == 2) & (sign > 0)
    along = np.where(axis == 0, y, x)
    mottled = 0.9 + 0.2 * _sampled(room.noise, along, z, 0.35)
    lifted = 0.88 + 0.12 * np.clip(z / HEIGHT, 0.0, 1.0)
    walls = np.array(linear(room.walls)) * (mottled * lifted)[..., None]
    walls = np.where((z < 0.1)[..., None], np.array(linear(room.skirting)), walls)
    # The lamps hang below the ceiling and light it too.
    colours = np.where(on_ceiling[..., None], 2.8 * np.array(linear(room.ceiling)), walls)
    colours = np.where(on_floor[..., None], _floor(room, x, y, footprint), colours)
    return colours * _corner_darkening(points, axis)[..., None]


def _floor(room: Room, x: np.ndarray, y: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    column = np.floor(x / room.tile[0])
    shifted = y + 0.37 * column * room.tile[1] if room.planks else y
    row = np.floor(shifted / room.tile[1])
    inside = np.minimum(x / room.tile[0] - column, 1.0 - (x / room.tile[0] - column)) * room.tile[0]
    inside = np.minimum(
        inside, np.minimum(shifted / room.tile[1] - row, 1 - (shifted / room.tile[1] - row)) * room.tile[1]
    )
    tone = 0.86 + 0.28 * np.mod(np.sin(column * 12.9898 + row * 78.233) * 43758.5453, 1.0)
    if not room.planks:
        tone = 0.93 + 0.5 * (tone - 0.86)
    grain = 0.82 + 0.36 * _sampled(room.noise, 6.0 * x, y, 0.25)
    # Thin joints fade into the tiles where pixels grow wider than they are.
    blur = np.maximum(0.004, footprint)
    weight = 1.0 - (0.008 / (0.004 + blur))[..., None] * np.clip(1.0 - (inside - 0.003) / blur, 0.0, 1.0)[..., None]
    return (tone * grain)[..., None] * (
        weight * np.array(linear(room.floor)) + (1 - weight) * np.array(linear(room.joints))
    )


def _corner_darkening(points: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Corners get less light."""
    gaps = np.stack(
        [
            np.where(axis == 0, np.inf, HALF_SIZE[0] - np.abs(points[..., 0])),
            np.where(axis == 1, np.inf, HALF_SIZE[1] - np.abs(points[..., 1])),
            np.where(axis == 2, np.inf, np.minimum(points[..., 2], HEIGHT - points[..., 2])),
        ]
    )
    return 1.0 - 0.35 * np.exp(-np.clip(gaps.min(axis=0), 0.0, None) / 0.35)


def _sampled(noise: np.ndarray, u: np.ndarray, v: np.ndarray, per_metre: float) -> np.ndarray:
    """The noise at places, continued endlessly by mirroring, so that it has no seams; `per_metre` images of it."""
    size = len(noise) - 1
    # OpenCV wants pictures, and none with a side beyond 32767.
    padded = np.pad(np.stack([u, v]) * per_metre * size, ((0, 0), (0, -len(u) % 1024))).reshape(2, -1, 1024)
    columns, rows = np.abs(np.mod(padded, 2 * size) - size).astype(np.float32)
    values = cv2.remap(noise.astype(np.float32), columns, rows, cv2.INTER_LINEAR)
    return np.asarray(values.reshape(-1)[: len(u)])


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
