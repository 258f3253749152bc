"""What the studio takes single pictures of: who stands where, and from where and how near they are seen."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from posekit.body.smpl_file import BodyData
from posekit.records import Camera
from posekit.synthetic.bodies import Take, TakeRequest, perform, posed
from posekit.synthetic.clothes import random_outfit
from posekit.synthetic.gestures import SCRIPTS
from posekit.synthetic.light import random_light
from posekit.synthetic.rig import looking
from posekit.synthetic.room import HALF_SIZE, HEIGHT, random_room
from posekit.synthetic.seeding import stream
from posekit.synthetic.snapshot import Block, Shot

_FACING = 0.7
"""Share of pictures in which the first person looks roughly towards the camera."""
_APART = (0.7, 1.3)
"""Metres between neighbours."""
_FROM_WALL = 0.25
_EVERY = 10
"""Enough of the vertices to frame a body by."""
_LENS = (0.7, 2.6)
"""Focal lengths over the longest side: fields of view from 71 to 22 degrees."""


@dataclass(frozen=True)
class ShotSettings:
    """Limits and shares; see the settings of `posekit synthesize coco`."""

    size: int = 400
    people: int = 2
    truncated: float = 0.2
    occluded: float = 0.2
    motions: tuple[Path, ...] = ()


def random_shot(body: BodyData, settings: ShotSettings, seed: int, name: str) -> Shot:
    """A shot that depends on the seed and the picture's name alone."""
    rng = stream(seed, "shot", name)
    width, height = _image_size(rng, settings.size)
    count = 1 + int(rng.binomial(settings.people - 1, 0.45)) if settings.people > 1 else 1
    takes = [_person(body, settings, seed, f"{name} {number}") for number in range(count)]
    takes, points = _arranged(body, takes, rng)
    camera = _camera(points, takes[0], (width, height), rng, truncated=rng.uniform() < settings.truncated)
    colour = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.1, 0.6), rng.uniform(0.25, 0.8))
    blocks = [Block(seat, (0.45, 0.42, 0.40)) for take in takes for seat in take.seats]
    if rng.uniform() < settings.occluded:
        blocks.append(Block(_obstacle(takes[0], camera, rng), colour))
    return Shot(
        camera=camera,
        room=random_room(seed, name),
        light=random_light(seed, name),
        people=tuple(takes),
        outfits=tuple(random_outfit(seed, f"{name} {number}") for number in range(count)),
        blocks=tuple(blocks),
    )


def _image_size(rng: np.random.Generator, longest: int) -> tuple[int, int]:
    long = round(longest * rng.uniform(0.75, 1.0))
    short = round(long * rng.uniform(0.62, 1.0))
    return (long, short) if rng.uniform() < 0.5 else (short, long)


def _person(body: BodyData, settings: ShotSettings, seed: int, who: str) -> Take:
    actions = sorted(SCRIPTS)
    action = actions[int(stream(seed, "action", who).integers(len(actions)))]
    request = TakeRequest(action, who, 1, 1, 10.0, settings.motions)
    return perform(body, request, seed)


def _arranged(
    body: BodyData, takes: Sequence[Take], rng: np.random.Generator
) -> tuple[list[Take], Float[np.ndarray, "N 3"]]:
    """Takes side by side, each turned its own way, and points all over their surfaces."""
    gaps = rng.uniform(*_APART, size=len(takes))
    along = np.cumsum(gaps) - gaps
    along -= along.mean()
    line = rng.uniform(0.0, 2.0 * np.pi)
    places = along[:, None] * [np.cos(line), np.sin(line)] + 0.15 * rng.standard_normal((len(takes), 2))
    turns = rng.uniform(0.0, 2.0 * np.pi) + 0.9 * rng.standard_normal(len(takes))
    moved = [_moved(body, take, place, turn) for take, place, turn in zip(takes, places, turns, strict=True)]
    return [take for take, _ in moved], np.concatenate([points for _, points in moved])


def _moved(body: BodyData, take: Take, place: np.ndarray, turn: float) -> tuple[Take, Float[np.ndarray, "N 3"]]:
    """A take of one frame, turned about its root and put at a place of the floor, and points of its surface there."""
    before = posed(body, take)
    root = before.joints[0, 0]
    about_up = Rotation.from_rotvec([0.0, 0.0, turn])
    pose, translation = take.pose.copy(), take.translation.copy()
    pose[0, 0] = (about_up * Rotation.from_rotvec(pose[0, 0])).as_rotvec()
    translation[0, :2] += place - root[:2]
    seats = []
    for seat in take.seats:
        middle, half = seat.mean(axis=0), 0.5 * (seat[1] - seat[0])
        middle[:2] = about_up.as_matrix()[:2, :2] @ (middle[:2] - root[:2]) + place
        seats.append(np.stack([middle - half, middle + half]))
    points = (before.vertices[0, ::_EVERY] - root) @ about_up.as_matrix().T + [*place, root[2]]
    return replace(take, pose=_single(pose), translation=_single(translation), seats=tuple(seats)), points


def _single(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)


def _camera(
    points: Float[np.ndarray, "N 3"], first: Take, size: tuple[int, int], rng: np.random.Generator, *, truncated: bool
) -> Camera:
    """A camera that sees everybody whole, or, when `truncated`, too near or aimed beside them."""
    middle = 0.5 * (points.min(axis=0) + points.max(axis=0))
    forward = Rotation.from_rotvec(first.pose[0, 0]).as_matrix()[:2, 2]
    around = np.arctan2(forward[1], forward[0])
    around += rng.normal(0.0, 0.6) if rng.uniform() < _FACING else rng.uniform(-np.pi, np.pi)
    direction = np.array([np.cos(around), np.sin(around)])
    room = HALF_SIZE - _FROM_WALL
    farthest = np.min((room - middle[:2] * np.sign(direction)) / np.maximum(np.abs(direction), 1e-9))
    distance = rng.uniform(min(2.6, 0.8 * farthest), min(5.0, farthest))
    lift = float(np.clip(rng.normal(1.4, 0.55), 0.25, HEIGHT - _FROM_WALL))
    place = np.array([*(middle[:2] + distance * direction), lift])
    rotation = looking(place, middle, roll=rng.normal(0.0, 0.05))
    seen = (points - place) @ rotation.T
    plane = seen[:, :2] / seen[:, 2:]
    extent = plane.max(axis=0) - plane.min(axis=0)
    # The focal length at which everybody just fills the frame.
    fits = float(np.min(np.array(size) / extent))
    share = rng.uniform(1.15, 1.9) if truncated else rng.uniform(0.45, 0.95)
    focal = float(np.clip(share * fits, _LENS[0] * max(size), _LENS[1] * max(size)))
    if not truncated:
        focal = min(focal, 0.97 * fits)
    centre = 0.5 * (plane.max(axis=0) + plane.min(axis=0)) * focal
    spare = 0.5 * (np.array(size) - extent * focal)
    shift = rng.uniform(-0.9, 0.9, 2) * np.abs(spare)
    # A crop of a larger picture would have its principal point beside the middle; so has this.
    point = 0.5 * (np.array(size) - 1) - centre + shift
    matrix = np.array([[focal, 0.0, point[0]], [0.0, focal, point[1]], [0.0, 0.0, 1.0]])
    return Camera("", size[0], size[1], matrix, "pinhole", (), rotation, -rotation @ place)


def _obstacle(take: Take, camera: Camera, rng: np.random.Generator) -> Float[np.ndarray, "2 3"]:
    """A block on the floor between a person and the camera."""
    place = -camera.rotation.T @ camera.translation
    at = take.translation[0, :2]
    to_camera = place[:2] - at
    middle = at + rng.uniform(0.3, 0.5) * to_camera
    aside = np.array([-to_camera[1], to_camera[0]]) / np.linalg.norm(to_camera)
    middle = middle + rng.uniform(-0.5, 0.5) * aside
    half = rng.uniform(0.12, 0.35, 2)
    top = min(rng.uniform(0.3, 1.1), max(0.3, place[2] - 0.2))
    return np.array([[*(middle - half), 0.0], [*(middle + half), top]])
