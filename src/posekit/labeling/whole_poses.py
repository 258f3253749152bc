"""Samples of data sets whose key points make a whole skeleton, as lifting needs them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from posekit.artifacts.files import Artifact
from posekit.skeleton.mapping import joint_map
from posekit.skeleton.skeleton import Skeleton

_ROWS_AT_ONCE = 65536


def split_rows(dataset: Artifact, split: str) -> Int[np.ndarray, " N"]:
    """Samples of a part of a data set (`train`, `test`, or `all`); sequences that belong to no part are in every one."""
    of_sequence = dataset.read("sequences", "split")
    wanted = np.isin(of_sequence, (split, "")) | (split == "all")
    return np.flatnonzero(wanted[dataset.read("samples", "sequence")])


def whole_keypoints(
    dataset: Artifact, skeleton: Skeleton, rows: Int[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, "M J 2"], Int[np.ndarray, " M"]]:
    """The key points of samples that have every joint of a skeleton, px, and which of `rows` these are.

    InputError when the data set's skeleton cannot give a joint.
    """
    mapping = joint_map(dataset.skeleton, skeleton, require_all=True)
    points, found = [np.zeros((0, len(skeleton), 2))], [np.zeros(0, np.int64)]
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[begin : begin + _ROWS_AT_ONCE]
        stored = dataset.read("samples", "keypoints2d", part).astype(np.float64)
        places = mapping.points(stored[..., :2])
        known = np.isfinite(places).all((1, 2)) & (mapping.confidences(stored[..., 2].clip(0.0)) > 0).all(1)
        points.append(places[known])
        found.append(part[known])
    return np.concatenate(points), np.concatenate(found)
