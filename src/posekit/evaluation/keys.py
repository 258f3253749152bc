"""Which sample is which: rows of tables by sequence, frame, person and camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from posekit.artifacts.files import Artifact

ALL_VIEWS = -1
"""The camera of rows that join all views."""


@dataclass(frozen=True)
class Keys:
    """Which samples: rows of a data set by sequence, frame, person and camera."""

    sequence: Int[np.ndarray, "N"]
    frame: Int[np.ndarray, "N"]
    person: Int[np.ndarray, "N"]
    camera: Int[np.ndarray, "N"]

    def __len__(self) -> int:
        return len(self.sequence)

    def at(self, rows: Bool[np.ndarray, "N"] | Int[np.ndarray, "M"] | slice) -> Keys:
        """Some of them."""
        return Keys(self.sequence[rows], self.frame[rows], self.person[rows], self.camera[rows])

    @staticmethod
    def joined(parts: Sequence[Keys]) -> Keys:
        """All keys of the parts, one after the other."""
        columns = (
            np.concatenate([getattr(part, name) for part in parts]) if parts else np.zeros(0, dtype=np.int64)
            for name in ("sequence", "frame", "person", "camera")
        )
        return Keys(*columns)

    def seen_by(self, camera: int) -> Keys:
        """The same people and frames under another camera number."""
        return Keys(self.sequence, self.frame, self.person, np.full(len(self), camera))

    @staticmethod
    def read(artifact: Artifact, table: str, rows: slice | None = None) -> Keys:
        """The keys of a table; rows without a camera join all views."""
        sequence, frame, person = (
            artifact.read(table, name, rows).astype(np.int64) for name in ("sequence", "frame", "person")
        )
        has_camera = any(column.name == "camera" for column in artifact.kind.tables[table])
        camera = artifact.read(table, "camera", rows) if has_camera else np.full(len(sequence), ALL_VIEWS)
        return Keys(sequence, frame, person, camera.astype(np.int64))


class RowIndex:
    """Finds the rows of a table by key."""

    def __init__(self, keys: Keys) -> None:
        self._bounds = [
            (int(values.min()), int(values.max()) + 1) if len(values) else (0, 1)
            for values in (keys.sequence, keys.frame, keys.person, keys.camera)
        ]
        packed = self._packed(keys)
        self._order = np.argsort(packed, kind="stable")
        self._sorted = packed[self._order]

    def find(self, keys: Keys) -> Int[np.ndarray, "N"]:
        """The (last) row of each key, or -1."""
        wanted = self._packed(keys)
        place = np.searchsorted(self._sorted, wanted, side="right") - 1
        if not len(self._sorted):
            return np.full(len(keys), -1)
        found = (place >= 0) & (wanted >= 0) & (self._sorted[np.maximum(place, 0)] == wanted)
        return np.where(found, self._order[np.maximum(place, 0)], -1)

    def _packed(self, keys: Keys) -> Int[np.ndarray, "N"]:
        packed = np.zeros(len(keys), dtype=np.int64)
        inside = np.ones(len(keys), dtype=bool)
        parts = (keys.sequence, keys.frame, keys.person, keys.camera)
        for values, (low, high) in zip(parts, self._bounds, strict=True):
            packed = packed * (high - low) + (values - low)
            inside &= (values >= low) & (values < high)
        return np.where(inside, packed, -1)
