"""Which of many correspondences are kept."""

from __future__ import annotations

import numpy as np

from posekit.registration.points import spread_over_parts


def test_few_points_are_all_kept() -> None:
    assert spread_over_parts(np.array([3, 1, 1]), 3, np.random.default_rng(0)).tolist() == [0, 1, 2]


def test_parts_get_equal_shares_and_small_ones_all_they_have() -> None:
    parts = np.random.default_rng(1).permutation(np.repeat([1, 2, 7], [1000, 300, 4]))
    kept = spread_over_parts(parts, 100, np.random.default_rng(0))
    assert len(kept) == 100 and (np.diff(kept) > 0).all()
    assert np.bincount(parts[kept], minlength=8)[[1, 2, 7]].tolist() == [48, 48, 4]


def test_the_seed_decides_and_every_point_has_its_chance() -> None:
    parts = np.ones(50, np.int64)
    draws = [spread_over_parts(parts, 10, np.random.default_rng(seed)) for seed in range(60)]
    assert np.array_equal(draws[3], spread_over_parts(parts, 10, np.random.default_rng(3)))
    assert len(np.unique(np.concatenate(draws))) == 50
