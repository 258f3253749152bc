"""Reads the labels of bodies from artifacts: key points, dense correspondences, and 3D joints or lifted depths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.camera_stack import stack_cameras
from posekit.errors import InputError
from posekit.records import Camera
from posekit.registration.bodies import BodyRows, KeyedRows, pack_keys
from posekit.registration.depths import DepthLifter, LiftedDepths, measured_depths
from posekit.registration.points import spread_over_parts
from posekit.registration.targets import WEAK_PROJECTION, Targets

CROP_MARGIN = 1.2
"""Side of the normalised crop over the larger side of the person's box."""

_SMALLEST_BOX_PX = 2.0


@dataclass(frozen=True, eq=False)
class LabelSource:
    """The artifacts that labels come from.

    `cameras` are those of the data set's rows, posed in the world of `joints3d` where there are such joints. Under weak
    perspective (`weak`) each body has one view, 3D joints give depths only, and cameras may be unposed; a `lifter` then
    takes the place of 3D joints. `joint_names` are the points of the body that labels speak of. `noise_px` is added to key
    points and correspondences. Of more than `max_points` correspondences in a view only so many are taken, evenly from the
    body parts (`vertex_part`; without it from all alike).
    """

    dataset: Artifact
    cameras: Sequence[Camera]
    joints3d: Artifact | None
    dense: Artifact | None
    joint_names: tuple[str, ...]
    weak: bool
    noise_px: float = 0.0
    seed: int = 0
    lifter: DepthLifter | None = None
    max_points: int = 500
    vertex_part: Int[np.ndarray, " V"] | None = None


class LabelReader:
    """Labels of a source, for any of its bodies."""

    def __init__(self, source: LabelSource) -> None:
        self.source = source
        self._joint_rows = None if source.joints3d is None else _rows_by_instant(source.joints3d)
        self._dense_rows = None if source.dense is None else _rows_by_view(source.dense, source.dataset)
        self._lifted: LiftedDepths | None = None
        if source.lifter is not None and source.weak:
            self._lifted = LiftedDepths(source.lifter, source.dataset.skeleton, source.joint_names)

    def read(self, bodies: BodyRows) -> tuple[Targets, Float[np.ndarray, "B C 2 3"]]:
        """The cleaned labels of bodies, and the map from image pixels to normalised crop coordinates of every view."""
        seen = bodies.samples >= 0
        samples = bodies.samples.clip(0)
        camera = np.where(seen, self.source.dataset.read("samples", "camera", samples.ravel()).reshape(seen.shape), -1)
        keypoints, confidence = self._keypoints(samples, seen)
        crops = self._crops(samples, keypoints, confidence)
        pixels, weights, vertices = self._dense(bodies, camera)
        noise = np.random.default_rng([self.source.seed, int(bodies.sequence[0]), int(bodies.frame[0])])
        labels = []
        for values in (keypoints, pixels):
            noisy = (
                values + self.source.noise_px * noise.standard_normal(values.shape) if self.source.noise_px else values
            )
            labels.append(_in_crop(self._undistorted(noisy, camera), crops))
        if self._lifted is None:
            joints, joint_weights = self._joints(bodies, camera, crops)
        else:
            joints, joint_weights = self._lifted.labels(labels[0][:, 0], confidence[:, 0])
        targets = Targets(
            projections=_float(self._projections(camera, crops)),
            keypoints=_float(labels[0]),
            keypoint_weights=_float(confidence),
            joints=_float(joints),
            joint_weights=_float(joint_weights),
            points=_float(labels[1]),
            point_weights=_float(weights),
            vertices=torch.from_numpy(vertices),
            linked=torch.from_numpy(bodies.linked()),
            weak=self.source.weak,
        )
        return targets.cleaned(), crops

    def _keypoints(
        self, samples: Int[np.ndarray, "B C"], seen: Bool[np.ndarray, "B C"]
    ) -> tuple[Float[np.ndarray, "B C J 2"], Float[np.ndarray, "B C J"]]:
        names = self.source.dataset.skeleton.joints
        columns = [names.index(name) if name in names else -1 for name in self.source.joint_names]
        stored = self.source.dataset.read("samples", "keypoints2d", samples.ravel()).astype(np.float64)
        stored = stored.reshape(*samples.shape, -1, 3)[:, :, columns]
        confidence = stored[..., 2] * seen[..., None] * (np.asarray(columns) >= 0)
        return stored[..., :2], np.where(np.isfinite(stored).all(-1), confidence.clip(0.0, 1.0), 0.0)

    def _crops(
        self,
        samples: Int[np.ndarray, "B C"],
        keypoints: Float[np.ndarray, "B C J 2"],
        confidence: Float[np.ndarray, "B C J"],
    ) -> Float[np.ndarray, "B C 2 3"]:
        box = self.source.dataset.read("samples", "bbox", samples.ravel()).reshape(*samples.shape, 4).astype(np.float64)
        known = (confidence > 0)[..., None]
        low = np.where(known, keypoints, np.inf).min(axis=2)
        high = np.where(known, keypoints, -np.inf).max(axis=2)
        usable = np.isfinite(box).all(-1) & ((box[..., 2:] - box[..., :2]).max(-1) > _SMALLEST_BOX_PX)
        box = np.where(usable[..., None], box, np.concatenate([low, high], axis=-1))
        box = np.where(np.isfinite(box).all(-1, keepdims=True), box, [0.0, 0.0, 2.0, 2.0])
        side = CROP_MARGIN * (box[..., 2:] - box[..., :2]).max(-1).clip(_SMALLEST_BOX_PX)
        crops = np.zeros((*samples.shape, 2, 3))
        crops[..., 0, 0] = crops[..., 1, 1] = 2.0 / side
        crops[..., 2] = -(box[..., :2] + box[..., 2:]) / side[..., None]
        return crops

    def _dense(
        self, bodies: BodyRows, camera: Int[np.ndarray, "B C"]
    ) -> tuple[Float[np.ndarray, "B C N 2"], Float[np.ndarray, "B C N"], Int[np.ndarray, "B C N"]]:
        rows = np.full(camera.size, -1)
        if self.source.dense is not None and self._dense_rows is not None:
            repeated = [np.repeat(part, camera.shape[1]) for part in (bodies.sequence, bodies.frame, bodies.person)]
            rows = self._dense_rows.find(pack_keys(repeated[0], repeated[1], repeated[2], camera.ravel()))
        found = np.flatnonzero(rows >= 0)
        columns: list[list[np.ndarray]] = [[], [], []]
        if self.source.dense is not None:
            names = ("pixels", "weights", "vertices")
            columns = [self.source.dense.read_ragged("samples", name, rows[found]) for name in names]
            for place, (row, vertices_there) in enumerate(zip(rows[found], columns[2], strict=True)):
                if len(vertices_there) > self.source.max_points:
                    kept = self._spread(vertices_there, int(row))
                    for column in columns:
                        column[place] = column[place][kept]
        count = max((len(row) for row in columns[2]), default=0)
        pixels, weights = np.zeros((camera.size, count, 2)), np.zeros((camera.size, count))
        vertices = np.zeros((camera.size, count), np.int64)
        for place, row_pixels, row_weights, row_vertices in zip(found, *columns, strict=True):
            pixels[place, : len(row_pixels)] = row_pixels
            weights[place, : len(row_weights)] = row_weights
            vertices[place, : len(row_vertices)] = row_vertices
        shape = camera.shape
        return pixels.reshape(*shape, count, 2), weights.reshape(*shape, count), vertices.reshape(*shape, count)

    def _spread(self, vertices: Integer[np.ndarray, " N"], row: int) -> Int[np.ndarray, " M"]:
        parts = np.zeros(len(vertices), np.int64)
        if self.source.vertex_part is not None:
            parts = self.source.vertex_part[vertices]
        # A row of the artifact gives the same points whatever is read with it.
        return spread_over_parts(parts, self.source.max_points, np.random.default_rng([self.source.seed, row]))

    def _undistorted(
        self, pixels: Float[np.ndarray, "B C N 2"], camera: Int[np.ndarray, "B C"]
    ) -> Float[np.ndarray, "B C N 2"]:
        if self.source.weak:
            # The crop is one of the image as it is.
            return pixels
        straight = pixels.copy()
        for row in np.unique(camera[camera >= 0]):
            if self.source.cameras[row].lens != "pinhole" and pixels.shape[2]:
                lens = stack_cameras([self.source.cameras[row]])[0]
                there = camera == row
                straight[there] = lens.undistort_pixels(torch.from_numpy(pixels[there])).numpy()
        return straight

    def _projections(
        self, camera: Int[np.ndarray, "B C"], crops: Float[np.ndarray, "B C 2 3"]
    ) -> Float[np.ndarray, "B C 3 4"]:
        projections = np.tile(np.asarray(WEAK_PROJECTION), (*camera.shape, 1, 1))
        if not self.source.weak:
            matrices = [c.intrinsics @ np.column_stack([c.rotation, c.translation]) for c in self.source.cameras]
            crop = np.concatenate([crops, np.tile([0.0, 0.0, 1.0], (*camera.shape, 1, 1))], axis=2)
            whole = crop @ np.stack(matrices)[camera.clip(0)]
            projections = np.where((camera >= 0)[..., None, None], whole, projections)
        return projections

    def _joints(
        self, bodies: BodyRows, camera: Int[np.ndarray, "B C"], crops: Float[np.ndarray, "B C 2 3"]
    ) -> tuple[Float[np.ndarray, "B J 3"], Float[np.ndarray, "B J 3"]]:
        joints = np.zeros((len(bodies), len(self.source.joint_names), 3))
        weights = np.zeros_like(joints)
        if self.source.joints3d is None or self._joint_rows is None:
            return joints, weights
        rows = self._joint_rows.find(pack_keys(bodies.sequence, bodies.frame, bodies.person))
        there = rows >= 0
        names = self.source.joints3d.skeleton.joints
        columns = [names.index(name) if name in names else -1 for name in self.source.joint_names]
        joints[there] = self.source.joints3d.read("poses", "joints3d", rows[there])[:, columns]
        confidence = self.source.joints3d.read("poses", "confidence", rows[there])[:, columns].clip(0.0, 1.0)
        weights[there] = (confidence * (np.asarray(columns) >= 0))[..., None]
        weights[~np.isfinite(joints).all(-1)] = 0.0
        if not self.source.weak:
            return joints, weights
        return measured_depths(joints, weights, self.source.joint_names, self.source.cameras, camera[:, 0], crops[:, 0])


def _rows_by_instant(joints3d: Artifact) -> KeyedRows:
    return KeyedRows(pack_keys(*(joints3d.read("poses", name) for name in ("sequence", "frame", "person"))))


def _rows_by_view(dense: Artifact, dataset: Artifact) -> KeyedRows:
    sequence, frame, person, camera = (
        dense.read("samples", name).astype(np.int64) for name in ("sequence", "frame", "person", "camera")
    )
    facts = dense.header.facts
    if "sequence_names" in facts and "camera_names" in facts:
        # Made beside the raw data, before there was a data set whose rows it could mean.
        ours = {str(name): row for row, name in enumerate(dataset.read("sequences", "name"))}
        sequence = _renumbered(sequence, [ours.get(str(name), -1) for name in facts["sequence_names"]])
        names, sessions = dataset.read("cameras", "name"), dataset.read("cameras", "session")
        cameras = {(str(s), str(n)): row for row, (s, n) in enumerate(zip(sessions, names, strict=True))}
        their_sessions = facts.get("camera_sessions") or [""] * len(facts["camera_names"])
        pairs = zip(their_sessions, facts["camera_names"], strict=True)
        camera = _renumbered(camera, [cameras.get((str(s), str(n)), -1) for s, n in pairs])
        if not ((sequence >= 0) & (camera >= 0)).any():
            raise InputError(
                f"no correspondence of {dense.path} belongs to a sequence and a camera of the data set",
                got=facts["sequence_names"],
                accepted=list(ours),
                hint="Give the correspondences of this data set with --dense",
            )
    return KeyedRows(pack_keys(sequence, frame, person, camera))


def _renumbered(values: Int[np.ndarray, " N"], numbers: Sequence[int]) -> Int[np.ndarray, " N"]:
    table = np.array([*numbers, -1])
    return table[np.where((values >= 0) & (values < len(numbers)), values, -1)]


def _in_crop(pixels: Float[np.ndarray, "B C N 2"], crops: Float[np.ndarray, "B C 2 3"]) -> Float[np.ndarray, "B C N 2"]:
    return pixels @ crops[..., :2].swapaxes(-1, -2) + crops[..., None, :, 2]


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
