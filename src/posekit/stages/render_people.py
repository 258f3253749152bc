"""The people of one sequence that `posekit render` draws: bodies from fits, joints from labels, frame by frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.camera_stack import stack_cameras
from posekit.evaluation.keys import ALL_VIEWS, Keys
from posekit.evaluation.predictions import FitJoints, check_same_body
from posekit.geometry.cameras import Cameras
from posekit.records import Camera, cameras_from_columns
from posekit.registration.posing import crop_pixels, posed_bodies
from posekit.render.screen import screen_from_cameras
from posekit.skeleton.skeleton import Skeleton

APART = 1.2
"""Metres between people whose fits know no place in the world."""


@dataclass(frozen=True)
class SeenBodies:
    """Bodies in one image: see `posekit.render.overlay.MeshPainter.paint`."""

    people: Sequence[int]
    screen: Float[Tensor, "P V 3"]
    camera_vertices: Float[Tensor, "P V 3"]
    perspective: bool


@dataclass(frozen=True)
class SeenJoints:
    """Joints in one image, in pixels of the original frame; NaN: not there."""

    people: Sequence[int]
    pixels: Float[np.ndarray, "P J 2"]
    confidence: Float[np.ndarray, "P J"]
    skeleton: Skeleton


def cameras_as_posed(dataset: Sequence[Camera], artifact: Artifact) -> list[Cameras | None]:
    """The data set's cameras with the poses that an artifact gives to them, in double precision; None without one."""
    given = {(camera.session, camera.name): camera for camera in cameras_from_columns(artifact.table("cameras"))}
    posed: list[Cameras | None] = []
    for camera in dataset:
        found = given.get((camera.session, camera.name))
        known = found is not None and found.posed
        placed = (
            replace(camera, rotation=found.rotation, translation=found.translation) if found is not None else camera
        )
        posed.append(stack_cameras([placed])[0] if known else None)
    return posed


class TableRows:
    """The usable rows of one sequence, in memory, by frame and camera."""

    def __init__(self, artifact: Artifact, table: str, sequence: int) -> None:
        keys = Keys.read(artifact, table)
        usable = artifact.read(table, "ok") if artifact.has(table, "ok") else np.ones(len(keys), dtype=bool)
        mine = np.flatnonzero((keys.sequence == sequence) & usable)
        self.columns = artifact.table(table, mine)
        self.people: Int[np.ndarray, "N"] = keys.person[mine]
        self._rows: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, (frame, camera) in enumerate(zip(keys.frame[mine], keys.camera[mine], strict=True)):
            self._rows[int(frame), int(camera)].append(row)

    def rows(self, frame: int, camera: int) -> list[int]:
        """Rows of this very view, else those that join all views; by number of the person."""
        found = self._rows.get((frame, camera)) or self._rows.get((frame, ALL_VIEWS)) or []
        return sorted(found, key=lambda row: int(self.people[row]))

    def frames(self, camera: int | None = None) -> set[int]:
        """Frames in which somebody is there, in one view or in any."""
        return {frame for frame, seen_by in self._rows if camera is None or seen_by in (camera, ALL_VIEWS)}

    def views(self, frame: int) -> list[int]:
        """The cameras of a frame's rows."""
        return sorted(camera for at, camera in self._rows if at == frame)

    def select(self, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """Columns of some rows."""
        return {name: values[list(rows)] for name, values in self.columns.items()}


class Bodies:
    """The fitted bodies of one sequence."""

    def __init__(self, fits: Artifact, body: SegmentScaledBody, cameras: Sequence[Camera], sequence: int) -> None:
        check_same_body(fits, body)
        self._body = body
        self._table = TableRows(fits, "fits", sequence)
        self._weak = fits.has("fits", "crop_from_image")
        self._cameras = cameras_as_posed(cameras, fits)

    def frames(self, camera: int | None = None) -> set[int]:
        """Frames with a usable body, in one view or in any."""
        return self._table.frames(camera)

    def seen(self, frame: int, camera: int) -> SeenBodies | None:
        """The bodies in an image; None without any, or where the pose of the camera is unknown."""
        rows = self._table.rows(frame, camera)
        if not rows:
            return None
        columns = self._table.select(rows)
        people = [int(self._table.people[row]) for row in rows]
        if self._weak and int(columns["camera"][0]) != ALL_VIEWS:
            points = posed_bodies(columns, self._body).points
            pixels = crop_pixels(points, columns["crop_from_image"])
            return SeenBodies(people, torch.cat([pixels, points[..., 2:]], -1), points, perspective=False)
        lens = self._cameras[camera]
        if lens is None:
            return None
        world = posed_bodies(columns, self._body).points.double()
        lens = lens.to(world.device)
        return SeenBodies(people, screen_from_cameras(lens, world), lens.camera_from_world(world), perspective=True)

    def standing(self, frame: int) -> tuple[list[int], Float[Tensor, "P V 3"]] | None:
        """The bodies of a frame in the world; weak-perspective ones, which have no place, side by side."""
        columns, people = self._in_one_view(frame)
        if not people:
            return None
        return people, self._placed(posed_bodies(columns, self._body).points.double(), columns)

    def joints(self, frame: int, skeleton: Skeleton) -> tuple[list[int], Float[np.ndarray, "P J 3"]] | None:
        """The joints of `standing` bodies under the names of a skeleton."""
        columns, people = self._in_one_view(frame)
        if not people:
            return None
        points = torch.from_numpy(FitJoints(self._body, skeleton).of(columns))
        return people, self._placed(points, columns).numpy()

    def _in_one_view(self, frame: int) -> tuple[dict[str, np.ndarray], list[int]]:
        views = self._table.views(frame)
        rows = self._table.rows(frame, views[0]) if views else []
        return self._table.select(rows), [int(self._table.people[row]) for row in rows]

    def _placed(self, points: Float[Tensor, "P N 3"], columns: Mapping[str, np.ndarray]) -> Float[Tensor, "P N 3"]:
        if not self._weak or int(columns["camera"][0]) == ALL_VIEWS:
            return points
        shift, scale = (torch.as_tensor(columns[name]).to(points) for name in ("translation", "scale"))
        beside = torch.zeros(len(points), 1, 3).to(points)
        beside[:, 0, 0] = APART * torch.arange(len(points))
        return (points - shift[:, None]) / scale[:, None, None] + beside


class JointSource(ABC):
    """Joints of the people of one sequence, in the images and in space."""

    skeleton: Skeleton

    @abstractmethod
    def frames(self, camera: int | None = None) -> set[int]:
        """Frames with usable joints, in one view or in any."""

    @abstractmethod
    def seen(self, frame: int, camera: int) -> SeenJoints | None:
        """The joints in an image; None without any."""

    @abstractmethod
    def standing(self, frame: int) -> tuple[list[int], Float[np.ndarray, "P J 3"], Float[np.ndarray, "P J"]] | None:
        """People, their joints in the world (NaN: dropped) and confidences; None without any."""


class Joints(JointSource):
    """The triangulated joints of one sequence."""

    def __init__(self, labels: Artifact, cameras: Sequence[Camera], sequence: int) -> None:
        self.skeleton = labels.skeleton
        self._table = TableRows(labels, "poses", sequence)
        self._cameras = cameras_as_posed(cameras, labels)

    def frames(self, camera: int | None = None) -> set[int]:
        """Frames with usable joints."""
        return self._table.frames(camera)

    def seen(self, frame: int, camera: int) -> SeenJoints | None:
        """The joints in an image; None without any, or where the pose of the camera is unknown."""
        found, lens = self.standing(frame), self._cameras[camera]
        if found is None or lens is None:
            return None
        people, points, confidence = found
        screen = screen_from_cameras(lens, torch.from_numpy(points)).numpy()
        pixels = np.where(screen[..., 2:] > 0, screen[..., :2], np.nan)
        return SeenJoints(people, pixels, confidence, self.skeleton)

    def standing(self, frame: int) -> tuple[list[int], Float[np.ndarray, "P J 3"], Float[np.ndarray, "P J"]] | None:
        """People, their joints in the world (NaN: dropped) and confidences."""
        rows = self._table.rows(frame, ALL_VIEWS)
        if not rows:
            return None
        columns = self._table.select(rows)
        points, confidence = columns["joints3d"].astype(np.float64), columns["confidence"].astype(np.float64)
        points[confidence <= 0] = np.nan
        return [int(self._table.people[row]) for row in rows], points, (confidence > 0).astype(np.float64)


class Keypoints:
    """The 2D key points of one sequence of a data set."""

    def __init__(self, dataset: Artifact, sequence: int) -> None:
        self.skeleton = dataset.skeleton
        self._table = TableRows(dataset, "samples", sequence)

    def frames(self, camera: int | None = None) -> set[int]:
        """Frames with a labelled person."""
        return self._table.frames(camera)

    def seen(self, frame: int, camera: int) -> SeenJoints | None:
        """The key points in an image."""
        rows = self._table.rows(frame, camera)
        if not rows:
            return None
        points = self._table.select(rows)["keypoints2d"].astype(np.float64)
        people = [int(self._table.people[row]) for row in rows]
        return SeenJoints(people, points[..., :2], points[..., 2], self.skeleton)


@dataclass(frozen=True)
class Cast:
    """Who is drawn in one sequence."""

    bodies: Bodies | None
    joints: JointSource | None
    keypoints: Keypoints | None
    draw_joints: bool

    def frames(self, camera: int | None) -> list[int]:
        """Frames with someone to draw."""
        people = self.bodies or (self.joints if self.draw_joints else None) or self.keypoints
        return sorted(people.frames(camera)) if people is not None else []
