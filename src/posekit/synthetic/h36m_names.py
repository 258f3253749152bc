"""How Human3.6M names what it holds: subjects, actions, cameras, and the base names of files with all their exceptions."""

from __future__ import annotations

from posekit.datasets.h36m_metadata import SUBJECT_NUMBERS
from posekit.errors import InputError

SUBJECTS = tuple(f"S{number}" for number in SUBJECT_NUMBERS)
"""All subjects, also those whose ground truth is withheld."""

ACTIONS = (
    "Directions",
    "Discussion",
    "Eating",
    "Greeting",
    "Phoning",
    "Posing",
    "Purchases",
    "Sitting",
    "SittingDown",
    "Smoking",
    "Photo",
    "Waiting",
    "Walking",
    "WalkDog",
    "WalkTogether",
)
"""The fifteen actions, as file names call them; action ids 2 to 16."""

OFFICIAL_ACTIONS = ("Miscellaneous", *(
    {"Photo": "TakingPhoto", "WalkDog": "WalkingDog", "WalkTogether": "WalkingTogether"}.get(name, name) for name in ACTIONS
))  # fmt: skip
"""The names that the metadata give, from action id 1 on."""

OTHER_CLIP = "_ALL"
"""A clip of all movements, which readers leave out."""

_EXCEPTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "S1": {
        "Eating": ("Eating 2", "Eating"),
        "Sitting": ("Sitting 1", "Sitting 2"),
        "SittingDown": ("SittingDown 2", "SittingDown"),
        "Photo": ("TakingPhoto 1", "TakingPhoto"),
        "WalkDog": ("WalkingDog 1", "WalkingDog"),
    },
    "S2": {"Eating": ("Eating 1", "Eating 2"), "SittingDown": ("SittingDown 2", "SittingDown 3")},
    "S3": {
        "Eating": ("Eating 1", "Eating 2"),
        "Posing": ("Posing 1", "Posing 2"),
        "Walking": ("Walking 1", "Walking 2"),
    },
    "S4": {
        "SittingDown": ("SittingDown 1", "SittingDown 2"),
        "WalkTogether": ("WalkTogether 2", "WalkTogether 3"),
    },
    "S5": {
        "Directions": ("Directions 1", "Directions 2"),
        "Discussion": ("Discussion 2", "Discussion 3"),
        "Greeting": ("Greeting 1", "Greeting 2"),
        "SittingDown": ("SittingDown", "SittingDown 1"),
        "Photo": ("Photo", "Photo 2"),
        "Waiting": ("Waiting 1", "Waiting 2"),
    },
    "S6": {
        "Eating": ("Eating 1", "Eating 2"),
        "Posing": ("Posing 2", "Posing"),
        "Sitting": ("Sitting 1", "Sitting 2"),
        "Photo": ("Photo", "Photo 1"),
        "Waiting": ("Waiting 3", "Waiting"),
    },
    "S7": {
        "Phoning": ("Phoning 2", "Phoning"),
        "SittingDown": ("SittingDown", "SittingDown 1"),
        "Photo": ("Photo", "Photo 1"),
        "Waiting": ("Waiting 1", "Waiting 2"),
        "Walking": ("Walking 1", "Walking 2"),
    },
    "S8": {"SittingDown": ("SittingDown", "SittingDown 1"), "WalkTogether": ("WalkTogether 1", "WalkTogether 2")},
    "S9": {"Discussion": ("Discussion 1", "Discussion 2"), "SittingDown": ("SittingDown", "SittingDown 1")},
    "S10": {
        "Discussion": ("Discussion 1", "Discussion 2"),
        "SittingDown": ("SittingDown", "SittingDown 1"),
        "Smoking": ("Smoking 2", "Smoking"),
    },
    "S11": {
        "Discussion": ("Discussion 1", "Discussion 2"),
        "Greeting": ("Greeting 2", "Greeting"),
        "Phoning": ("Phoning 3", "Phoning 2"),
        "SittingDown": ("SittingDown", "SittingDown 1"),
        "Smoking": ("Smoking 2", "Smoking"),
    },
}


def base_name(subject: str, action: str, trial: int) -> str:
    """The name that files of a sequence begin with; InputError for what Human3.6M does not have."""
    if subject not in SUBJECTS:
        raise InputError("Human3.6M has no such subject", got=subject, accepted=SUBJECTS)
    if action not in ACTIONS:
        raise InputError("Human3.6M has no such action", got=action, accepted=ACTIONS)
    if trial not in (1, 2):
        raise InputError("Human3.6M has two trials of each action", got=trial, accepted=(1, 2))
    return _EXCEPTIONS.get(subject, {}).get(action, (f"{action} 1", action))[trial - 1]


def sequence_name(subject: str, base: str) -> str:
    """The name under which a sequence is kept in artifacts."""
    return f"{subject} {base}"


def other_clips(subject: str) -> tuple[str, str]:
    """The names of the two clips of all movements."""
    return (f"{OTHER_CLIP} 2", f"{OTHER_CLIP} 1") if subject == "S2" else (f"{OTHER_CLIP} 1", OTHER_CLIP)
