from __future__ import annotations

import numpy as np
import pytest

from posekit.evaluation.keys import Keys
from posekit.export.tracks import Selection, on_regular_grid, people


def test_people_come_apart_and_in_the_order_of_their_frames() -> None:
    keys = Keys(
        sequence=np.array([1, 0, 0, 0, 1, 0]),
        frame=np.array([5, 9, 3, 3, 2, 9]),
        person=np.array([0, 0, 0, 1, 0, 0]),
        camera=np.full(6, -1),
    )
    usable = np.array([True, True, True, True, True, False])
    found = [(p.sequence, p.person, p.rows.tolist(), p.frames.tolist()) for p in people(keys, usable, Selection())]
    assert found == [(0, 0, [2, 1], [3, 9]), (0, 1, [3], [3]), (1, 0, [4, 0], [2, 5])]
    assert [p.person for p in people(keys, usable, Selection(sequence=0, person=1))] == [1]
    assert not list(people(keys, np.zeros(6, dtype=bool), Selection()))


def test_a_frame_that_comes_twice_counts_once() -> None:
    keys = Keys(np.zeros(3, int), np.array([4, 4, 5]), np.zeros(3, int), np.full(3, -1))
    (person,) = people(keys, np.ones(3, dtype=bool), Selection())
    assert person.rows.tolist() == [1, 2]


def test_regular_grid_has_the_common_step() -> None:
    grid, place, rate = on_regular_grid(np.array([10, 20, 35]), 50.0)
    assert grid.tolist() == [10, 15, 20, 25, 30, 35] and place.tolist() == [0, 2, 5]
    assert rate == pytest.approx(10.0)
    grid, place, rate = on_regular_grid(np.array([7]), 25.0)
    assert grid.tolist() == [7] and place.tolist() == [0] and rate == 25.0
