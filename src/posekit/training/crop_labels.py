"""Labels of many bodies, read once and kept compactly in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from posekit.progress import track
from posekit.registration.bodies import BodyRows
from posekit.registration.labels import LabelReader
from posekit.registration.targets import Targets

POINT_BYTES = 1 << 30
"""Memory that the correspondences of one data set may take: room for 67 million. More are read anew for every batch."""

_BYTES_PER_POINT = 16
_BODIES_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Points:
    """Correspondences of several bodies in a row; those of body i from `offsets[i]` to `offsets[i + 1]`."""

    offsets: Int[np.ndarray, " E"]
    positions: Float[np.ndarray, "M 2"]
    weights: Float[np.ndarray, " M"]
    vertices: Int[np.ndarray, " M"]

    @staticmethod
    def of(targets: Targets) -> Points:
        """The correspondences of labels that count."""
        there = (targets.point_weights[:, 0] > 0).numpy()
        return Points(
            offsets=np.concatenate([[0], there.sum(axis=1).cumsum()]).astype(np.int64),
            positions=targets.points[:, 0].numpy()[there],
            weights=targets.point_weights[:, 0].numpy()[there],
            vertices=targets.vertices[:, 0].numpy()[there].astype(np.int32),
        )

    @staticmethod
    def joined(parts: list[Points]) -> Points:
        """Several of them one after the other."""
        ends = np.cumsum([part.offsets[-1] for part in parts])
        offsets = [part.offsets[1:] + end - part.offsets[-1] for part, end in zip(parts, ends, strict=True)]
        return Points(
            np.concatenate([[0], *offsets]).astype(np.int64),
            np.concatenate([part.positions for part in parts]),
            np.concatenate([part.weights for part in parts]),
            np.concatenate([part.vertices for part in parts]),
        )

    def rows(self, body: int) -> slice:
        """Where the correspondences of a body lie."""
        return slice(int(self.offsets[body]), int(self.offsets[body + 1]))


class CropLabels:
    """The weak-perspective labels of bodies, by their index, from any thread.

    Key points, depths and crops are kept in memory, a few hundred bytes for each body; correspondences are while they
    take no more than `point_bytes`.
    """

    def __init__(self, reader: LabelReader, bodies: BodyRows, point_bytes: int = POINT_BYTES) -> None:
        self._reader = reader
        self._bodies = bodies
        blocks: list[tuple[np.ndarray, ...]] = []
        points: list[Points] = []
        room = point_bytes // _BYTES_PER_POINT
        for begin in track(range(0, len(bodies), _BODIES_AT_ONCE), "read labels", unit="block"):
            targets, crops = reader.read(bodies.select(slice(begin, begin + _BODIES_AT_ONCE)))
            views = (targets.keypoints[:, 0], targets.keypoint_weights[:, 0])
            blocks.append((*(part.numpy() for part in (*views, targets.joints, targets.joint_weights)), crops[:, 0]))
            if room >= 0:
                points.append(Points.of(targets))
                room -= len(points[-1].weights)
        self.columns = _stacked(blocks, len(reader.source.joint_names))
        """Key points, their weights, joints, their weights, and crops; a row for each body."""
        self._points = Points.joined(points) if points and room >= 0 else None

    @property
    def in_memory(self) -> bool:
        """Whether the correspondences are kept in memory."""
        return self._points is not None

    def points(self, bodies: Int[np.ndarray, " B"]) -> tuple[Points, Int[np.ndarray, " B"]]:
        """Correspondences, and which of their bodies each of the bodies asked for is."""
        if self._points is not None:
            return self._points, bodies
        return Points.of(self._reader.read(self._bodies.select(bodies))[0]), np.arange(len(bodies))


def _stacked(blocks: list[tuple[np.ndarray, ...]], joints: int) -> tuple[np.ndarray, ...]:
    if not blocks:
        shapes = ((0, joints, 2), (0, joints), (0, joints, 3), (0, joints, 3))
        return (*(np.zeros(shape, np.float32) for shape in shapes), np.zeros((0, 2, 3)))
    return tuple(np.concatenate(column) for column in zip(*blocks, strict=True))
