"""Sequences of one or two people, filmed by a camera that is carried along, as in 3DPW."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from posekit.body.smpl_file import BodyData
from posekit.records import Camera
from posekit.synthetic.bodies import Take, TakeRequest, perform, posed
from posekit.synthetic.clothes import random_outfit
from posekit.synthetic.gestures import SCRIPTS
from posekit.synthetic.light import random_light
from posekit.synthetic.rig import looking
from posekit.synthetic.room import HALF_SIZE, random_room
from posekit.synthetic.seeding import stream
from posekit.synthetic.snapshot import Block, Shot

MOTION_FPS = 60.0
"""Poses are at twice the rate of the pictures."""

_FOCAL = 1.025
"""Focal length over the longer side of the pictures, that of 3DPW's telephone."""
_FROM_WALL = 0.3
_SEAT_COLOUR = (0.45, 0.42, 0.40)


@dataclass(frozen=True)
class Filming:
    """What a sequence is filmed by: pictures, height and width (px), and motions to take from."""

    frames: int
    width: int
    height: int
    people: int
    motions: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Film:
    """A filmed sequence: takes at 60 Hz (pictures show every second pose), and a camera for every picture."""

    name: str
    takes: tuple[Take, ...]
    cameras: tuple[Camera, ...]

    def shots(self, seed: int) -> Iterator[Shot]:
        """What each picture is taken of."""
        room, light = random_room(seed, self.name), random_light(seed, self.name)
        outfits = tuple(random_outfit(seed, f"{self.name} {person}") for person in range(len(self.takes)))
        blocks = tuple(Block(seat, _SEAT_COLOUR) for take in self.takes for seat in take.seats)
        for frame, camera in enumerate(self.cameras):
            people = tuple(self.at(person, frame) for person in range(len(self.takes)))
            yield Shot(camera, room, light, people, outfits, blocks)

    def at(self, person: int, frame: int) -> Take:
        """What a picture shows of a person: a take of one pose."""
        take = self.takes[person]
        row = slice(2 * frame, 2 * frame + 1)
        return replace(take, pose=take.pose[row], translation=take.translation[row])


def film(body: BodyData, filming: Filming, seed: int, name: str) -> Film:
    """A sequence that depends on the seed and its name alone."""
    rng = stream(seed, "film", name)
    line = rng.uniform(0.0, 2.0 * np.pi)
    takes = []
    for person in range(filming.people):
        actions = sorted(SCRIPTS)
        action = actions[int(stream(seed, "action", name, person).integers(len(actions)))]
        request = TakeRequest(action, f"{name} {person}", 1, 2 * filming.frames - 1, MOTION_FPS, filming.motions)
        aside = 0.55 * (2 * person - 1) * (filming.people > 1)
        takes.append(_moved(perform(body, request, seed), aside * np.array([np.cos(line), np.sin(line)])))
    return Film(name, tuple(takes), _carried(body, takes, filming, rng, line))


def _moved(take: Take, step: np.ndarray) -> Take:
    translation = take.translation.copy()
    translation[:, :2] += step
    seats = tuple(seat + np.array([*step, 0.0]) for seat in take.seats)
    return replace(take, translation=translation.astype(np.float32).astype(np.float64), seats=seats)


def _carried(
    body: BodyData, takes: list[Take], filming: Filming, rng: np.random.Generator, line: float
) -> tuple[Camera, ...]:
    """A camera that walks about the people, aims at the middle of them, and shakes a little."""
    points = np.concatenate([posed(body, take, slice(0, None, 2)).joints for take in takes], axis=1)
    # From the side that shows both, or from anywhere.
    begin = line + np.pi / 2 + rng.normal(0.0, 0.4) if len(takes) > 1 else rng.uniform(0.0, 2.0 * np.pi)
    around = begin + np.cumsum(rng.normal(0.01, 0.01, filming.frames))
    focal = _FOCAL * max(filming.width, filming.height)
    matrix = np.array([[focal, 0.0, filming.width / 2], [0.0, focal, filming.height / 2], [0.0, 0.0, 1.0]])
    cameras = []
    for frame in range(filming.frames):
        middle = 0.5 * (points[frame].min(axis=0) + points[frame].max(axis=0))
        direction = np.array([np.cos(around[frame]), np.sin(around[frame])])
        spread = np.linalg.norm(points[frame] - middle, axis=1).max()
        # The body ends beyond its joints, and pictures are narrow.
        distance = 2.6 * (spread + 0.15) * focal / max(filming.width, filming.height)
        room = (HALF_SIZE - _FROM_WALL - middle[:2] * np.sign(direction)) / np.maximum(np.abs(direction), 1e-9)
        place = np.array([*(middle[:2] + min(distance, room.min()) * direction), 1.5]) + rng.normal(0.0, 0.01, 3)
        rotation = looking(place, middle + rng.normal(0.0, 0.02, 3), roll=rng.normal(0.0, 0.02))
        cameras.append(
            Camera("", filming.width, filming.height, matrix, "pinhole", (), rotation, -rotation @ place, session="")
        )
    return tuple(cameras)
