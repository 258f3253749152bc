"""People over time, out of artifacts: whose joints, in which frames, in the world of the artifact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import POSES
from posekit.evaluation.keys import ALL_VIEWS, Keys
from posekit.evaluation.predictions import FitJoints
from posekit.records import cameras_from_columns


@dataclass(frozen=True)
class Selection:
    """Sequences (by number) and people to take; None means all."""

    sequence: int | None = None
    person: int | None = None

    def takes(self, sequence: int, person: int) -> bool:
        """Whether someone is among them."""
        return self.sequence in (None, sequence) and self.person in (None, person)


@dataclass(frozen=True)
class Rows:
    """The rows of a table that belong to one person (and one camera, or ALL_VIEWS), in the order of their frames."""

    sequence: int
    person: int
    camera: int
    rows: Int[np.ndarray, "T"]
    frames: Int[np.ndarray, "T"]


@dataclass(frozen=True)
class Track:
    """Joints of one person over time, metres, NaN where there is none."""

    sequence: int
    person: int
    camera: int
    frames: Int[np.ndarray, "T"]
    points: Float[np.ndarray, "T J 3"]
    confidence: Float[np.ndarray, "T J"]


def people(keys: Keys, usable: np.ndarray, selection: Selection) -> Iterator[Rows]:
    """Each person of a table by sequence, person and camera; the last row counts where a frame comes twice."""
    chosen = np.flatnonzero(usable)
    ordered = chosen[np.lexsort([column[chosen] for column in (keys.frame, keys.camera, keys.person, keys.sequence)])]
    identity = np.stack([keys.sequence, keys.person, keys.camera], axis=1)[ordered]
    starts = np.flatnonzero(np.any(np.diff(identity, axis=0, prepend=identity[:1] - 1), axis=1))
    for begin, end in pairwise([*starts, len(ordered)]):
        sequence, person, camera = (int(value) for value in identity[begin])
        if selection.takes(sequence, person):
            rows = ordered[begin:end]
            last = np.append(np.diff(keys.frame[rows]) > 0, True)
            yield Rows(sequence, person, camera, rows[last], keys.frame[rows[last]])


def label_tracks(labels: Artifact, selection: Selection) -> Iterator[Track]:
    """The joints of a joints3d artifact; frames that did not pass its filter and dropped joints are left out."""
    for person in people(Keys.read(labels, "poses"), labels.read("poses", "ok"), selection):
        points = labels.read("poses", "joints3d", person.rows).astype(np.float64)
        confidence = labels.read("poses", "confidence", person.rows).astype(np.float64)
        points[confidence <= 0] = np.nan
        yield Track(person.sequence, person.person, ALL_VIEWS, person.frames, points, confidence)


def fit_tracks(fits: Artifact, joints: FitJoints, selection: Selection) -> Iterator[Track]:
    """The joints of usable fits; those of weak-perspective fits are about their root, in metres."""
    for person in people(Keys.read(fits, "fits"), fits.read("fits", "ok"), selection):
        table = fits.table("fits", person.rows)
        points = joints.of(table)
        if is_weak(fits, person):
            shift, scale = table["translation"].astype(np.float64), table["scale"].astype(np.float64)
            points = (points - shift[:, None]) / scale[:, None, None]
        confidence = np.asarray(np.isfinite(points).all(axis=-1), dtype=np.float64)
        yield Track(person.sequence, person.person, person.camera, person.frames, points, confidence)


def pose_tracks(poses: Artifact, selection: Selection) -> Iterator[Track]:
    """The usable joints of a poses artifact, view by view: about the root, or in the frame of the view's camera."""
    for person in people(Keys.read(poses, "samples"), poses.read("samples", "ok"), selection):
        points = poses.read("samples", "joints3d", person.rows).astype(np.float64)
        confidence = poses.read("samples", "keypoints2d", person.rows)[..., 2].astype(np.float64)
        yield Track(person.sequence, person.person, person.camera, person.frames, points, confidence)


def truth_tracks(dataset: Artifact, selection: Selection) -> Iterator[Track]:
    """The true joints of a data set, from the first camera that sees each person, in the world if its pose is known."""
    cameras = cameras_from_columns(dataset.table("cameras"))
    keys = Keys.read(dataset, "samples")
    taken: set[tuple[int, int]] = set()
    for person in people(keys, np.ones(len(keys), dtype=bool), selection):
        if (person.sequence, person.person) in taken:
            continue
        points = dataset.read("samples", "joints3d", person.rows).astype(np.float64)
        there = np.isfinite(points).all(axis=-1)
        if not np.any(there):
            continue
        taken.add((person.sequence, person.person))
        camera = cameras[person.camera]
        world = (points - camera.translation) @ camera.rotation
        yield Track(
            person.sequence, person.person, ALL_VIEWS, person.frames, world, np.asarray(there, dtype=np.float64)
        )


def is_weak(fits: Artifact, person: Rows) -> bool:
    """Whether someone's fits are weak-perspective ones of a single view."""
    return person.camera != ALL_VIEWS and fits.has("fits", "crop_from_image")


def world_is_camera_frame(artifact: Artifact, camera: int = ALL_VIEWS) -> bool:
    """Whether the world of an artifact is the frame of one of its cameras, with no level and no floor."""
    if artifact.kind is POSES or (camera != ALL_VIEWS and artifact.has("fits", "crop_from_image")):
        return True
    posed = [camera for camera in cameras_from_columns(artifact.table("cameras")) if camera.posed]
    return not posed or any(
        np.array_equal(camera.rotation, np.eye(3)) and not camera.translation.any() for camera in posed
    )


def on_regular_grid(
    frames: Int[np.ndarray, "T"], fps: float
) -> tuple[Int[np.ndarray, "G"], Int[np.ndarray, "T"], float]:
    """Frame numbers at a constant step from the first to the last, where each given frame stands among them, and the rate."""
    step = int(np.gcd.reduce(np.diff(frames))) if len(frames) > 1 else 1
    grid = np.arange(frames[0], frames[-1] + 1, step)
    return grid, (frames - frames[0]) // step, fps / step
