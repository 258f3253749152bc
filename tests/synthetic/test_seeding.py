from __future__ import annotations

import numpy as np

from posekit.synthetic.seeding import stream


def test_streams_depend_on_seed_and_names_only() -> None:
    first = stream(3, "shape", "S1").standard_normal(4)
    np.testing.assert_array_equal(first, stream(3, "shape", "S1").standard_normal(4))
    assert not np.allclose(first, stream(4, "shape", "S1").standard_normal(4))
    assert not np.allclose(first, stream(3, "shape", "S5").standard_normal(4))


def test_names_do_not_run_into_each_other() -> None:
    assert stream(0, "a", "bc").integers(1 << 60) != stream(0, "ab", "c").integers(1 << 60)
