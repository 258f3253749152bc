"""People followed through one view: short tracks that end where it is not certain who is who."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from posekit.labeling.association_views import FEWEST_JOINTS, View

_GATE = 0.25
"""Largest step between neighbouring frames, as a share of the person's size."""

_GATE_GROWTH = 0.1
_WIDEST_GATE = 0.75

_AMBIGUOUS = 0.5
"""A track ends where another candidate is almost as near: no further than the best one divided by this."""

_NEAR_FLOOR = 0.05
"""Steps shorter than this share of the size count as this long: jitter must not make a lone step look ambiguous."""


@dataclass
class Track:
    """One person in one view: which detection it is in which frame."""

    camera: int
    members: dict[int, int] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """First frame."""
        return min(self.members)

    @property
    def last(self) -> int:
        """Last frame."""
        return max(self.members)


@dataclass
class _Active:
    track: Track
    pose: Float[np.ndarray, "J 2"]
    size: float
    frame: int


def follow(view: View, camera: int, max_gap: int) -> list[Track]:
    """Tracks of all usable detections of a view; every detection is in exactly one.

    Detections of neighbouring frames are assigned to tracks by the least total distance between their joints. A track may
    miss up to `max_gap` frames. Where two candidates are about as near, as when people cross, tracks are cut rather than
    guessed: the other views then say how they continue.
    """
    sizes = view.sizes()
    finished: list[Track] = []
    active: list[_Active] = []
    for frame in range(len(view.present)):
        finished += [item.track for item in active if frame - item.frame > max_gap + 1]
        active = [item for item in active if frame - item.frame <= max_gap + 1]
        found = np.flatnonzero(view.present[frame])
        links, uncertain = _links(active, view, frame, found)
        taken = set()
        for row, column in links:
            detection = int(found[column])
            _extend(active[row], frame, detection, view.pixels[frame, detection], float(sizes[frame, detection]))
            taken.add(detection)
        finished += [active[row].track for row in sorted(uncertain)]
        active = [item for row, item in enumerate(active) if row not in uncertain]
        for detection in (int(number) for number in found):
            if detection not in taken:
                track = Track(camera, {frame: detection})
                active.append(
                    _Active(track, view.pixels[frame, detection].copy(), float(sizes[frame, detection]), frame)
                )
    return sorted(
        finished + [item.track for item in active], key=lambda track: (track.first, track.members[track.first])
    )


def _extend(item: _Active, frame: int, detection: int, pose: np.ndarray, size: float) -> None:
    item.track.members[frame] = detection
    # A joint that is hidden for a moment keeps its last place.
    item.pose = np.where(np.isfinite(pose), pose, item.pose)
    item.size, item.frame = size, frame


def _links(active: list[_Active], view: View, frame: int, found: np.ndarray) -> tuple[list[tuple[int, int]], set[int]]:
    """(active track, detection) pairs that are near enough, and the tracks that end because it is not certain whose."""
    if not active or not len(found):
        return [], set()
    steps = np.array([item.pose for item in active])[:, None] - view.pixels[frame, found][None]
    lengths = np.linalg.norm(steps, axis=-1)
    shared = np.isfinite(lengths).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        relative = _nanmedian(lengths) / np.array([max(item.size, 1.0) for item in active])[:, None]
    gaps = np.array([frame - item.frame - 1 for item in active])
    gate = np.minimum(_GATE + _GATE_GROWTH * gaps, _WIDEST_GATE)[:, None]
    allowed = (shared >= FEWEST_JOINTS) & (relative <= gate)
    cost = np.where(allowed, np.maximum(relative, _NEAR_FLOOR), 1e6)
    pairs, uncertain = [], set()
    for row, column in zip(*linear_sum_assignment(cost), strict=True):
        if not allowed[row, column]:
            continue
        near_row, near_column = (line * _AMBIGUOUS < cost[row, column] for line in (cost[row], cost[:, column]))
        if near_row.sum() > 1 or near_column.sum() > 1:
            uncertain |= {int(row), *(int(other) for other in np.flatnonzero(near_column))}
        else:
            pairs.append((int(row), int(column)))
    return pairs, uncertain


def _nanmedian(values: np.ndarray) -> np.ndarray:
    empty = ~np.isfinite(values).any(axis=-1, keepdims=True)
    return np.asarray(np.nanmedian(np.where(empty, 1e9, values), axis=-1))
