"""Who is seen: random shapes, and bodies posed in the world of the studio (metres, z up, the floor at z = 0)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from posekit.body.model import BodyModel
from posekit.body.smpl_file import BodyData
from posekit.geometry.conventions import Y_UP_FROM_Z_UP
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.synthetic.anatomy import pose_from_angles
from posekit.synthetic.gestures import gesture
from posekit.synthetic.grounding import floor_under, planted_path
from posekit.synthetic.motion import Motion, choose_file, load_motion, resampled, turned
from posekit.synthetic.seeding import stream

MOST_UNUSUAL = 2.0
"""Shape coefficients are normal random numbers cut off here."""

SPACE = 0.45
"""The middle of a path is at most this far (m) from the middle of the room, along x and y."""

_GESTURE_RATE = 60.0
_BLOCK = 64

Z_UP_FROM_Y_UP = Y_UP_FROM_Z_UP.T


@dataclass(frozen=True)
class Take:
    """One body over time in the world. Parameters are exactly representable in single precision.

    `pose` is axis-angle relative to the parent (row 0: world_from_body); `translation` is added after posing; `seats` are
    blocks that the body sits on (minimum and maximum corner).
    """

    fps: float
    betas: Float[np.ndarray, " S"]
    pose: Float[np.ndarray, "T 24 3"]
    translation: Float[np.ndarray, "T 3"]
    seats: tuple[Float[np.ndarray, "2 3"], ...] = ()

    def __len__(self) -> int:
        return len(self.pose)


class Posed(NamedTuple):
    """A stretch of a take, in double precision."""

    vertices: Float[np.ndarray, "T V 3"]
    joints: Float[np.ndarray, "T 24 3"]


@dataclass(frozen=True)
class TakeRequest:
    """What is to be performed, by whom, for how long."""

    action: str
    subject: str
    trial: int
    frames: int
    fps: float
    motions: tuple[Path, ...] = ()


def random_betas(seed: int, subject: str, count: int) -> Float[np.ndarray, " S"]:
    """The shape of a subject."""
    drawn = stream(seed, "shape", subject).standard_normal(count)
    return np.clip(drawn, -MOST_UNUSUAL, MOST_UNUSUAL).astype(np.float32).astype(np.float64)


def perform(body: BodyData, request: TakeRequest, seed: int) -> Take:
    """A take of an action, from a motion file when there are any and from the built-in motions else."""
    betas = random_betas(seed, request.subject, body.shapedirs.shape[2])
    rng = stream(seed, "place", request.subject, request.action, request.trial)
    motion, seat = _recorded(request, rng) if request.motions else _gestured(body, betas, request, seed)
    heading = rng.uniform(0.0, 2.0 * np.pi) if motion.recorded else 0.0
    cosine, sine = np.cos(heading), np.sin(heading)
    about_up = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    world = turned(motion, about_up @ Z_UP_FROM_Y_UP)
    path = world.translation.copy()
    middle = 0.5 * (path[:, :2].min(axis=0) + path[:, :2].max(axis=0))
    path[:, :2] += rng.uniform(-SPACE, SPACE, 2) - middle
    take = Take(motion.fps, betas, _single(world.pose), _single(path))
    return _on_the_floor(body, take, recorded=motion.recorded, seat=seat)


def posed(body: BodyData, take: Take, frames: slice = slice(None)) -> Posed:
    """Vertices and joints of some frames of a take."""
    model = _double_model(body)
    pose, translation = torch.from_numpy(take.pose[frames]), torch.from_numpy(take.translation[frames])
    with torch.no_grad():
        result = model(torch.from_numpy(take.betas)[None].expand(len(pose), -1), pose, translation)
    return Posed(result.vertices.numpy(), result.joints.numpy())


@lru_cache(maxsize=2)
def _double_model(body: BodyData) -> BodyModel:
    return BodyModel(body, dtype=torch.float64)


def _recorded(request: TakeRequest, rng: np.random.Generator) -> tuple[Motion, bool]:
    motion = load_motion(choose_file(request.motions, request.action, int(rng.integers(1 << 16))))
    spare = motion.duration - (request.frames - 1) / request.fps
    start = rng.uniform(0.0, spare) if spare > 0 else 0.0
    return resampled(motion, request.fps, request.frames, start=start), False


def _gestured(body: BodyData, betas: np.ndarray, request: TakeRequest, seed: int) -> tuple[Motion, bool]:
    seconds = (request.frames - 1) / request.fps
    played = gesture(request.action, seconds, _GESTURE_RATE, seed, request.subject, request.trial)
    pose = pose_from_angles(played.angles)
    motion = Motion(request.action, _GESTURE_RATE, pose, planted_path(body, betas, pose), recorded=False)
    return resampled(motion, request.fps, request.frames), played.seat


def _on_the_floor(body: BodyData, take: Take, *, recorded: bool, seat: bool) -> Take:
    lowest, buttocks = [], []
    sitting = body.weights[:, 0] > 0.5
    for begin in range(0, len(take), _BLOCK):
        vertices = posed(body, take, slice(begin, begin + _BLOCK)).vertices
        lowest.append(vertices[..., 2].min(axis=1))
        buttocks.append(vertices[:, sitting].reshape(len(vertices), -1, 3)[..., 2].min(axis=1))
    floor = floor_under(np.concatenate(lowest), take.fps, recorded=recorded)
    translation = take.translation.copy()
    translation[:, 2] -= floor
    seats = (_seat(take, np.concatenate(buttocks) - floor),) if seat else ()
    return replace(take, translation=_single(translation), seats=seats)


def _seat(take: Take, height: np.ndarray) -> np.ndarray:
    """A block under the place where the body is lowest."""
    at = int(np.argmin(height))
    # The body's forward direction, in the world.
    turn = torch.from_numpy(take.pose[at, 0])
    forward = matrix_from_axis_angle(turn).numpy()[:2, 2]
    middle = take.translation[at, :2] - 0.03 * forward / np.linalg.norm(forward)
    top = max(0.1, float(height[at]) - 0.005)
    return np.array([[middle[0] - 0.2, middle[1] - 0.2, 0.0], [middle[0] + 0.2, middle[1] + 0.2, top]])


def _single(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)
