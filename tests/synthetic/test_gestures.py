from __future__ import annotations

import numpy as np
import pytest

from posekit.errors import InputError
from posekit.synthetic.anatomy import LIMITS
from posekit.synthetic.gestures import SCRIPTS, gesture
from posekit.synthetic.h36m_names import ACTIONS

FPS = 60.0
FASTEST = 720.0
"""Degrees per second that no joint of a calm adult exceeds."""


def test_every_action_has_a_script() -> None:
    assert set(SCRIPTS) == set(ACTIONS)


@pytest.mark.parametrize("action", sorted(SCRIPTS))
def test_angles_stay_within_limits_and_move_smoothly(action: str) -> None:
    for seed in range(3):
        played = gesture(action, 6.0, FPS, seed, "S1")
        assert set(played.angles) <= set(LIMITS)
        assert len(played) >= 6.0 * FPS
        for name, values in played.angles.items():
            low, high = LIMITS[name]
            assert values.min() >= low and values.max() <= high, name
            assert np.abs(np.diff(values)).max() * FPS < FASTEST, name


@pytest.mark.parametrize("action", sorted(SCRIPTS))
def test_something_happens(action: str) -> None:
    played = gesture(action, 6.0, FPS, 0, "S1")
    assert max(np.ptp(values) for values in played.angles.values()) > 15.0


def test_scripts_name_angles_that_exist_and_rounds_that_rise() -> None:
    for action, script in SCRIPTS.items():
        shares = [share for share, _ in script.keys]
        assert shares == sorted(set(shares)) and all(0.0 <= share < 1.0 for share in shares), action
        assert {name for _, key in script.keys for name in key} <= set(LIMITS), action


def test_performances_are_reproducible_and_differ() -> None:
    first, again = (gesture("Greeting", 2.0, FPS, 7, "S1", 1).angles for _ in range(2))
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    other = gesture("Greeting", 2.0, FPS, 7, "S1", 2).angles
    assert any(not np.allclose(first[name], other.get(name, 0.0)) for name in first)


def test_walking_repeats_and_alternates() -> None:
    played = gesture("Walking", 8.0, FPS, 1, "S1")
    assert played.walks
    left, right = played.angles["left_hip_raise"], played.angles["right_hip_raise"]
    spectrum = np.abs(np.fft.rfft(left - left.mean()))
    stride = FPS * 8.0 / np.argmax(spectrum[: len(spectrum) // 4])
    assert 0.8 * FPS < stride < 1.5 * FPS
    shift = round(stride / 2)
    assert np.corrcoef(left[shift:], right[:-shift])[0, 1] > 0.95


def test_unknown_actions_are_refused() -> None:
    with pytest.raises(InputError, match=r"no built-in motion.*Juggling.*Directions"):
        gesture("Juggling", 1.0, FPS, 0)
