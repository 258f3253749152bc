"""Which bodies a data set asks for: one for every instant and person, or one for every image of a person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Integer

from posekit.artifacts.files import Artifact
from posekit.errors import InputError

_FIELDS = (("sequence", 20), ("frame", 25), ("person", 8), ("camera", 10))
"""Bits of each part of a key; together they fit a signed 64-bit integer."""


@dataclass(frozen=True, eq=False)
class BodyRows:
    """Bodies to fit, ordered by sequence, person, camera and frame.

    `samples` are the rows of the data set's samples that show each body, -1 where there are fewer views than columns.
    `camera` is -1 where a body is seen by several.
    """

    sequence: Int[np.ndarray, " N"]
    frame: Int[np.ndarray, " N"]
    person: Int[np.ndarray, " N"]
    camera: Int[np.ndarray, " N"]
    samples: Int[np.ndarray, "N C"]

    def __len__(self) -> int:
        return len(self.sequence)

    def select(self, rows: slice | Int[np.ndarray, " M"] | Bool[np.ndarray, " N"]) -> BodyRows:
        """Some of the bodies."""
        return BodyRows(self.sequence[rows], self.frame[rows], self.person[rows], self.camera[rows], self.samples[rows])

    def linked(self) -> Bool[np.ndarray, " N"]:
        """Whether a body continues the one before it: same person, sequence and camera, at the usual step of frames."""
        same = np.zeros(len(self), dtype=bool)
        same[1:] = np.all([np.diff(self.sequence) == 0, np.diff(self.person) == 0, np.diff(self.camera) == 0], axis=0)
        steps = np.diff(self.frame, prepend=0)
        usual = np.median(steps[same]) if same.any() else 0
        return same & (steps <= 2 * usual)


def bodies_of(dataset: Artifact, *, joint_views: bool, usable: Bool[np.ndarray, " C"], stride: int) -> BodyRows:
    """The bodies of a data set, seen by `usable` cameras; every `stride`-th instant of each sequence."""
    sequence, frame, person, camera = (
        dataset.read("samples", name).astype(np.int64) for name in ("sequence", "frame", "person", "camera")
    )
    rows = np.flatnonzero(usable[camera] & _every(sequence, frame, stride))
    single = np.zeros(len(rows), np.int64) if joint_views else camera[rows]
    order = np.lexsort((camera[rows], frame[rows], single, person[rows], sequence[rows]))
    rows, single = rows[order], single[order]
    key = np.stack([sequence[rows], person[rows], single, frame[rows]])
    first = np.ones(len(rows), dtype=bool)
    first[1:] = (np.diff(key, axis=1) != 0).any(axis=0)
    body = np.cumsum(first) - 1
    place = np.arange(len(rows)) - np.flatnonzero(first)[body]
    samples = np.full((int(first.sum()), int(place.max(initial=0)) + 1), -1, np.int64)
    samples[body, place] = rows
    chosen = rows[first]
    return BodyRows(
        sequence[chosen],
        frame[chosen],
        person[chosen],
        np.full(len(chosen), -1) if joint_views else camera[chosen],
        samples,
    )


def of_split(dataset: Artifact, bodies: BodyRows, split: str) -> Bool[np.ndarray, " N"]:
    """Which bodies belong to a split: train, test or all; data sets that name no split are all for training."""
    splits = dataset.read("sequences", "split")
    if split == "all":
        return np.ones(len(bodies), dtype=bool)
    if not any(splits):
        return np.full(len(bodies), split == "train")
    return (splits == split)[bodies.sequence]


def _every(sequence: Int[np.ndarray, " N"], frame: Int[np.ndarray, " N"], stride: int) -> Bool[np.ndarray, " N"]:
    if stride == 1:
        return np.ones(len(sequence), dtype=bool)
    instants, inverse = np.unique(pack_keys(sequence, frame), return_inverse=True)
    of_sequence = instants >> sum(bits for name, bits in _FIELDS if name != "sequence")
    begins = np.searchsorted(of_sequence, of_sequence)
    return ((np.arange(len(instants)) - begins) % stride == 0)[inverse]


def pack_keys(
    sequence: Integer[np.ndarray, " N"],
    frame: Integer[np.ndarray, " N"],
    person: Integer[np.ndarray, " N"] | None = None,
    camera: Integer[np.ndarray, " N"] | None = None,
) -> Int[np.ndarray, " N"]:
    """One integer for every row, ordered like the parts; negative parts (rows that match nothing) give -1.

    Raises InputError for numbers that are too large for this.
    """
    packed = np.zeros(len(sequence), np.int64)
    nothing = np.zeros(len(sequence), dtype=bool)
    for (name, bits), given in zip(_FIELDS, (sequence, frame, person, camera), strict=True):
        values = np.zeros(len(sequence), np.int64) if given is None else given.astype(np.int64)
        if (values >= 1 << bits).any():
            raise InputError(f"numbers of the column {name} are too large", got=values.max(), accepted=(1 << bits) - 1)
        nothing |= values < 0
        packed = (packed << bits) | values.clip(0)
    return np.where(nothing, -1, packed)


class KeyedRows:
    """Finds the rows of a table by key; where a key appears twice, the first row counts."""

    def __init__(self, keys: Int[np.ndarray, " N"]) -> None:
        self._keys, self._rows = np.unique(keys, return_index=True)

    def find(self, keys: Int[np.ndarray, " M"]) -> Int[np.ndarray, " M"]:
        """The rows, -1 where there is none."""
        if not len(self._keys):
            return np.full(len(keys), -1)
        places = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        return np.where((self._keys[places] == keys) & (keys >= 0), self._rows[places], -1)
