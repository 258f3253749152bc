"""A joint order: names, parents, sides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from posekit.errors import InputError

Side = Literal["left", "right", "centre"]


@dataclass(frozen=True)
class Skeleton:
    """Named joints in a fixed order, each with the parent that its bone leads to.

    Names are shared between skeletons where the points are anatomically the same; points that merely have similar names
    in their data sets carry different ones here (`neck` is the upper neck, `thorax` the base of the neck, `mid_shoulder`
    the middle of both shoulders, `smpl_neck` a joint of the SMPL rig).
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    title: str = ""

    def __post_init__(self) -> None:
        if len(self.joints) != len(self.parents):
            raise ValueError(f"skeleton {self.name}: {len(self.joints)} joints but {len(self.parents)} parents")
        if len(set(self.joints)) != len(self.joints):
            raise ValueError(f"skeleton {self.name}: a joint name appears twice")

    def __len__(self) -> int:
        return len(self.joints)

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {joint: i for i, joint in enumerate(self.joints)}

    def __contains__(self, joint: object) -> bool:
        return joint in self._index_of

    def index(self, joint: str) -> int:
        """The position of a joint; InputError lists the names that exist."""
        try:
            return self._index_of[joint]
        except KeyError:
            raise InputError(f"skeleton {self.name} has no joint", got=joint, accepted=self.joints) from None

    def indices(self, *joints: str) -> tuple[int, ...]:
        """The positions of several joints."""
        return tuple(self.index(joint) for joint in joints)

    def side(self, joint: str) -> Side:
        """Which side of the person a joint is on."""
        if joint.startswith("left_"):
            return "left"
        return "right" if joint.startswith("right_") else "centre"

    @cached_property
    def flip_permutation(self) -> tuple[int, ...]:
        """The order that turns the joints of a mirrored picture into this skeleton again."""
        return tuple(
            self._index_of[mirrored(joint)] if mirrored(joint) in self else i for joint, i in self._index_of.items()
        )

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """Every (parent, child) pair."""
        return tuple((parent, child) for child, parent in enumerate(self.parents) if parent >= 0)

    @cached_property
    def roots(self) -> tuple[int, ...]:
        """The joints without a parent."""
        return tuple(i for i, parent in enumerate(self.parents) if parent < 0)

    @cached_property
    def bone_names(self) -> tuple[str, ...]:
        """A readable name for every bone, in the order of `bones`."""
        return tuple(f"{self.joints[parent]} - {self.joints[child]}" for parent, child in self.bones)


def mirrored(joint: str) -> str:
    """The name of the joint on the person's other side."""
    if joint.startswith("left_"):
        return "right_" + joint.removeprefix("left_")
    if joint.startswith("right_"):
        return "left_" + joint.removeprefix("right_")
    return joint
