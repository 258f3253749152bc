from __future__ import annotations

import numpy as np

from posekit.evaluation.keys import Keys, RowIndex


def _keys(count: int, seed: int, *, low: int = 0) -> Keys:
    generator = np.random.default_rng(seed)
    return Keys(*(generator.integers(low, high, count) for high in (3, 40, 2, 4)))


def _tuples(keys: Keys) -> list[tuple[int, ...]]:
    return list(zip(*(c.tolist() for c in (keys.sequence, keys.frame, keys.person, keys.camera)), strict=True))


def test_rows_are_found_as_by_a_dictionary() -> None:
    known, wanted = _keys(300, 0), _keys(2000, 1, low=-2)
    table = {key: row for row, key in enumerate(_tuples(known))}
    expected = [table.get(key, -1) for key in _tuples(wanted)]
    assert RowIndex(known).find(wanted).tolist() == expected
    assert -1 in expected and max(expected) > 0


def test_keys_beyond_what_is_known_are_not_mistaken_for_others() -> None:
    index = RowIndex(Keys(np.array([0, 1]), np.array([0, 9]), np.array([0, 0]), np.array([-1, -1])))
    beyond = Keys(np.array([0, 2, 0]), np.array([10, 0, 0]), np.array([0, 0, 1]), np.array([-1, -1, -1]))
    assert index.find(beyond).tolist() == [-1, -1, -1]


def test_an_empty_table_has_nothing() -> None:
    assert RowIndex(_keys(0, 0)).find(_keys(3, 1)).tolist() == [-1, -1, -1]
