"""The last word on every frame: each detection goes to the person whose other views it agrees with best."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

_FAR = 1e6


def settle_frames(
    members: Int[np.ndarray, "P T C"],
    table: Mapping[tuple[int, int], Float[np.ndarray, "T _ _"]],
    max_distance: float,
) -> Int[np.ndarray, "P T C"]:
    """Members after every frame was looked at on its own, one camera after the other.

    A detection whose distance from the person's other views exceeds `max_distance` is given to the person whom it fits, or to
    no one; a person who lost the track in a view gets a free detection that fits. Distances are those of `pair_distances`.
    """
    settled = members.copy()
    for camera in range(members.shape[2]):
        relevant = {pair: between for pair, between in table.items() if camera in pair and 0 not in between.shape}
        if not relevant or not len(settled):
            continue
        cost = np.stack([_cost(person, camera, relevant) for person in settled])
        finite = np.where(np.isfinite(cost), cost, _FAR)
        for frame in np.flatnonzero(_worth_a_look(settled[:, :, camera], finite, max_distance)):
            settled[:, frame, camera] = _assigned(finite[:, frame], settled[:, frame, camera], max_distance)
    return settled


def _worth_a_look(chosen: Int[np.ndarray, "P T"], cost: Float[np.ndarray, "P T D"], max_distance: float) -> np.ndarray:
    """Frames in which someone's detection is too far, or another one would fit better."""
    own = np.take_along_axis(cost, np.maximum(chosen, 0)[..., None], axis=-1)[..., 0]
    own = np.where(chosen >= 0, own, max_distance)
    better = cost.min(axis=-1) < own
    too_far = (chosen >= 0) & (own > max_distance)
    return (better | too_far).any(axis=0)


def _assigned(
    cost: Float[np.ndarray, "P D"], before: Int[np.ndarray, "P"], max_distance: float
) -> Int[np.ndarray, "P"]:
    """The best assignment of one frame and view; a person without other views here keeps what the tracks said."""
    result = np.full(len(before), -1, dtype=np.int64)
    unknown = (cost >= _FAR).all(axis=1)
    result[unknown] = before[unknown]
    kept = set(result[result >= 0].tolist())
    free = [detection for detection in range(cost.shape[1]) if detection not in kept]
    rows = np.flatnonzero(~unknown)
    if len(rows) and free:
        block = cost[rows][:, free]
        for row, column in zip(*linear_sum_assignment(np.minimum(block, 2 * max_distance)), strict=True):
            if block[row, column] <= max_distance:
                result[rows[row]] = free[column]
    return result


def _cost(
    person: Int[np.ndarray, "T C"], camera: int, table: Mapping[tuple[int, int], Float[np.ndarray, "T _ _"]]
) -> Float[np.ndarray, "T D"]:
    """Mean distance of all detections of a camera from the person's detections in the other views; NaN without those."""
    frames = np.arange(len(person))
    parts = []
    for (a, b), between in table.items():
        other = b if camera == a else a
        chosen = person[:, other]
        picked = np.maximum(chosen, 0)
        column = between[frames, :, picked] if camera == a else between[frames, picked, :]
        parts.append(np.where((chosen >= 0)[:, None], column, np.nan))
    stacked = np.stack(parts)
    known = ~np.isnan(stacked)
    total = np.where(known, stacked, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
