from __future__ import annotations

import numpy as np
import pytest

from posekit.errors import InputError
from posekit.skeleton.catalog import (
    BODY25,
    BODY25B,
    COCO17,
    COCO18,
    COMMON14,
    H36M17,
    H36M32,
    J17,
    J24,
    LSP14,
    MPI_INF_3DHP17,
    MPI_INF_3DHP28,
    MPII16,
)
from posekit.skeleton.mapping import joint_map
from posekit.skeleton.skeleton import Skeleton

# (source, target, source index for each target joint), as the data sets' own papers and loaders give them.
PUBLISHED = [
    (H36M17, MPII16, [3, 2, 1, 4, 5, 6, 0, 8, 9, 10, 16, 15, 14, 11, 12, 13]),
    (H36M17, LSP14, [3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10]),
    (H36M17, J17, [3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10, 0, 7, 9]),
    (H36M32, H36M17, [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]),
    (MPI_INF_3DHP28, MPI_INF_3DHP17, [7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6]),
]

# (source, J24 slots that it fills, source index for each), likewise.
INTO_J24 = [
    (LSP14, range(14), range(14)),
    (MPII16, [0, 1, 2, 3, 4, 5, 14, 15, 12, 13, 6, 7, 8, 9, 10, 11], range(16)),
    (COCO17, [19, 20, 21, 22, 23, 9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0], range(17)),
    (
        MPI_INF_3DHP28,
        [14, 3, 4, 5, 2, 1, 0, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6],
        [4, 18, 19, 20, 23, 24, 25, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16],
    ),
    (
        MPI_INF_3DHP17,
        [14, 3, 4, 5, 2, 1, 0, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6],
        [14, 11, 12, 13, 8, 9, 10, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4],
    ),
    (BODY25, [*range(12), 19, 20, 21, 22, 23], [11, 10, 9, 12, 13, 14, 4, 3, 2, 5, 6, 7, 0, 16, 15, 18, 17]),
    (COCO18, [*range(12), 19, 20, 21, 22, 23], [10, 9, 8, 11, 12, 13, 4, 3, 2, 5, 6, 7, 0, 15, 14, 17, 16]),
]


@pytest.mark.parametrize(("source", "target", "indices"), PUBLISHED, ids=lambda x: getattr(x, "name", ""))
def test_published_index_maps(source: Skeleton, target: Skeleton, indices: list[int]) -> None:
    mapped = joint_map(source, target, require_all=True)
    assert mapped.matrix.argmax(axis=1).tolist() == indices
    assert (mapped.matrix.sum(axis=1) == 1).all()


@pytest.mark.parametrize(("source", "slots", "indices"), INTO_J24, ids=lambda x: getattr(x, "name", ""))
def test_published_maps_into_the_superset(source: Skeleton, slots: list[int], indices: list[int]) -> None:
    matrix = joint_map(source, J24).matrix
    assert matrix[list(slots)].argmax(axis=1).tolist() == list(indices)


def test_raw_human36m_fills_the_superset() -> None:
    # The release holds duplicates (11 of 0, 24 of 13); the names choose the first of each pair.
    slots = [14, 3, 4, 5, 2, 1, 0, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6]
    indices = [0, 6, 7, 8, 1, 2, 3, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
    mapped = joint_map(H36M32, J24)
    assert mapped.matrix[slots].argmax(axis=1).tolist() == indices
    assert set(np.flatnonzero(mapped.available)) == set(slots)


def test_missing_joints_are_made_from_two_or_left_out() -> None:
    mapped = joint_map(COCO17, COMMON14, require_all=True)
    joints = np.random.default_rng(0).normal(size=(5, 17, 2))
    made = mapped.points(joints)
    np.testing.assert_allclose(
        made[:, COMMON14.index("pelvis")], joints[:, list(COCO17.indices("left_hip", "right_hip"))].mean(axis=1)
    )
    confidence = np.ones(17)
    confidence[COCO17.index("left_hip")] = 0.2
    assert mapped.confidences(confidence)[COMMON14.index("pelvis")] == pytest.approx(0.2)


def test_what_cannot_be_given_is_nan_and_reported() -> None:
    mapped = joint_map(COCO17, H36M17)
    assert not mapped.available[H36M17.index("spine")]
    made = mapped.points(np.zeros((17, 3)))
    assert np.isnan(made[H36M17.index("spine")]).all()
    assert np.isfinite(made[mapped.available]).all()
    assert mapped.confidences(np.ones(17))[H36M17.index("spine")] == 0
    with pytest.raises(InputError, match="spine"):
        joint_map(COCO17, H36M17, require_all=True)


def test_one_bad_joint_spoils_only_those_made_from_it() -> None:
    joints = np.zeros((25, 2))
    joints[BODY25B.index("left_hip")] = np.nan
    made = joint_map(BODY25B, COMMON14).points(joints)
    bad = {COMMON14.joints[i] for i in np.flatnonzero(np.isnan(made).any(axis=1))}
    assert bad == {"left_hip", "pelvis"}
