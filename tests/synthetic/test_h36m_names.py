from __future__ import annotations

import pytest

from posekit.datasets.h36m_metadata import canonical_action
from posekit.errors import InputError
from posekit.synthetic.h36m_names import ACTIONS, OFFICIAL_ACTIONS, SUBJECTS, base_name, other_clips


def test_names_tell_subject_sequences_apart() -> None:
    for subject in SUBJECTS:
        names = [base_name(subject, action, trial) for action in ACTIONS for trial in (1, 2)]
        assert len(set(names)) == 30
        assert not any(name.startswith("_") for name in names)
        assert all(clip.startswith("_ALL") for clip in other_clips(subject))


def test_names_tell_the_action() -> None:
    for subject in SUBJECTS:
        for action in ACTIONS:
            assert {canonical_action(base_name(subject, action, trial)) for trial in (1, 2)} == {action}
    assert {canonical_action(name) for name in OFFICIAL_ACTIONS[1:]} == set(ACTIONS)


@pytest.mark.parametrize(
    ("subject", "action", "names"),
    [
        ("S1", "Directions", ("Directions 1", "Directions")),
        ("S1", "Photo", ("TakingPhoto 1", "TakingPhoto")),
        ("S1", "WalkDog", ("WalkingDog 1", "WalkingDog")),
        ("S5", "SittingDown", ("SittingDown", "SittingDown 1")),
        ("S6", "Waiting", ("Waiting 3", "Waiting")),
        ("S9", "Discussion", ("Discussion 1", "Discussion 2")),
        ("S11", "Phoning", ("Phoning 3", "Phoning 2")),
    ],
)
def test_exceptions_of_the_release(subject: str, action: str, names: tuple[str, str]) -> None:
    assert tuple(base_name(subject, action, trial) for trial in (1, 2)) == names


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="no such subject"):
        base_name("S12", "Walking", 1)
    with pytest.raises(InputError, match="no such action"):
        base_name("S1", "Juggling", 1)
    with pytest.raises(InputError, match="two trials"):
        base_name("S1", "Walking", 3)
