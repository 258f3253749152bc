"""Samples of a data set gathered by moment: what all cameras of a session saw of one person at one time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from posekit.artifacts.files import Artifact
from posekit.errors import InputError
from posekit.registration.bodies import KeyedRows, pack_keys

BLOCK = 4096
"""Moments read at once; a few hundred bytes each."""


class Moments(NamedTuple):
    """Key points of one person per row in all cameras of a session; NaN and confidence 0 where a camera has none.

    `cameras` are rows of the data set's table of cameras, the order of the axis C.
    """

    sequence: Int[np.ndarray, "T"]
    frame: Int[np.ndarray, "T"]
    person: Int[np.ndarray, "T"]
    cameras: Int[np.ndarray, "C"]
    keypoints: Float[np.ndarray, "T C J 2"]
    confidence: Float[np.ndarray, "T C J"]


class MultiviewIndex:
    """Which rows of a data set show the same moment, without reading more than their keys.

    Key points are those of the data set, or those that `keypoints` holds for its samples.
    """

    def __init__(self, dataset: Artifact, keypoints: Artifact | None = None) -> None:
        self._dataset = dataset
        self._keypoints = keypoints
        self._rows_of_keypoints = None if keypoints is None else _matching_rows(dataset, keypoints)
        keys = {name: dataset.read("samples", name) for name in ("sequence", "person", "frame", "camera")}
        self._order = np.lexsort((keys["camera"], keys["frame"], keys["person"], keys["sequence"]))
        self._keys = {name: values[self._order] for name, values in keys.items()}
        self.sessions = self._find_sessions()
        first = np.ones(len(self._order), dtype=bool)
        first[1:] = np.logical_or.reduce([np.diff(self._keys[name]) != 0 for name in ("sequence", "person", "frame")])
        self._starts = np.append(np.flatnonzero(first), len(self._order))
        self._session_of_moment = self._session_of_camera[self._keys["camera"][self._starts[:-1]]]
        self._refuse_mixed_sessions()

    def _find_sessions(self) -> dict[str, np.ndarray]:
        names = self._dataset.read("cameras", "session")
        used = np.unique(self._keys["camera"])
        if len(used) and (used[0] < 0 or used[-1] >= len(names)):
            raise InputError(f"{self._dataset.path} has samples of cameras that it does not hold", got=int(used[-1]))
        labels = sorted({str(names[camera]) for camera in used})
        self._session_of_camera = np.array([labels.index(str(n)) if str(n) in labels else -1 for n in names], dtype=int)
        return {label: used[names[used] == label] for label in labels}

    def _refuse_mixed_sessions(self) -> None:
        of_row = self._session_of_camera[self._keys["camera"]]
        of_moment = np.repeat(self._session_of_moment, np.diff(self._starts))
        if (of_row != of_moment).any():
            row = int(np.flatnonzero(of_row != of_moment)[0])
            raise InputError(
                f"{self._dataset.path} mixes cameras of two sessions in one sequence",
                got=f"sequence {int(self._keys['sequence'][row])}",
                accepted="cameras of one session per sequence",
            )

    def moments(self, session: str) -> np.ndarray:
        """The moments of a session by number, in the order of sequence, person and frame."""
        return np.flatnonzero(self._session_of_moment == list(self.sessions).index(session))

    def views(self, moments: np.ndarray) -> np.ndarray:
        """How many cameras saw each moment."""
        return np.diff(self._starts)[moments]

    def sequence_of(self, moments: np.ndarray) -> np.ndarray:
        """The sequence that each moment belongs to."""
        return self._keys["sequence"][self._starts[moments]]

    def person_of(self, moments: np.ndarray) -> np.ndarray:
        """The number of the person that each moment shows."""
        return self._keys["person"][self._starts[moments]]

    def blocks(self, session: str) -> Iterator[Moments]:
        """All moments of a session, a block of one person in one sequence at a time."""
        moments = self.moments(session)
        if not len(moments):
            return
        starts = self._starts[moments]
        change = (np.diff(self._keys["sequence"][starts]) != 0) | (np.diff(self._keys["person"][starts]) != 0)
        for run in np.split(moments, np.flatnonzero(change) + 1):
            for begin in range(0, len(run), BLOCK):
                yield self.read(session, run[begin : begin + BLOCK])

    def read(self, session: str, moments: np.ndarray) -> Moments:
        """The key points of some moments."""
        cameras = self.sessions[session]
        counts = np.diff(self._starts)[moments]
        begin = np.repeat(self._starts[moments] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        rows = begin + np.arange(int(counts.sum()))
        values = self._values(self._order[rows])
        shape = (len(moments), len(cameras), values.shape[1])
        keypoints, confidence = np.full((*shape, 2), np.nan), np.zeros(shape)
        moment = np.repeat(np.arange(len(moments)), counts)
        column = np.searchsorted(cameras, self._keys["camera"][rows])
        keypoints[moment, column] = values[..., :2]
        known = np.isfinite(values).all(axis=-1)
        confidence[moment, column] = np.where(known, values[..., 2], 0.0)
        first = self._starts[moments]
        return Moments(
            self._keys["sequence"][first],
            self._keys["frame"][first],
            self._keys["person"][first],
            cameras,
            keypoints,
            confidence,
        )

    def _values(self, rows: np.ndarray) -> Float[np.ndarray, "N J 3"]:
        if self._keypoints is None or self._rows_of_keypoints is None:
            return self._dataset.read("samples", "keypoints2d", rows).astype(np.float64)
        found = self._rows_of_keypoints[rows]
        values = np.full((len(rows), len(self._keypoints.skeleton), 3), np.nan)
        there = found >= 0
        values[there] = self._keypoints.read("samples", "keypoints2d", found[there])
        return values


def _matching_rows(dataset: Artifact, keypoints: Artifact) -> Int[np.ndarray, " N"]:
    """For each sample the row of its key points, -1 where there is none."""
    names = ("sequence", "frame", "person", "camera")
    index = KeyedRows(pack_keys(*(keypoints.read("samples", name) for name in names)))
    return index.find(pack_keys(*(dataset.read("samples", name) for name in names)))
