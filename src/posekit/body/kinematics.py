"""The joint tree of a body and forward kinematics, one tree level at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ForwardKinematics(nn.Module):
    """Chains local joint rotations down a tree whose joint 0 is the root and whose parents precede their children."""

    def __init__(self, parents: Sequence[int]) -> None:
        super().__init__()
        if not parents or parents[0] != -1 or any(not 0 <= p < j for j, p in enumerate(parents[1:], start=1)):
            raise ValueError(f"parents must precede their children and only joint 0 is a root: {tuple(parents)}")
        self.parents = tuple(int(parent) for parent in parents)
        levels = _levels(self.parents)
        for depth, joints in enumerate(levels[1:], start=1):
            above = levels[depth - 1]
            self._index(f"joints_at_{depth}", joints)
            self._index(f"parents_at_{depth}", [above.index(self.parents[joint]) for joint in joints])
        by_level = [joint for joints in levels for joint in joints]
        self.depth = len(levels)
        self._index("joint_order", [by_level.index(joint) for joint in range(len(by_level))])
        self._index("parent_of", self.parents[1:])
        self.register_buffer("below", _bones_above(self.parents), persistent=False)

    def _index(self, name: str, values: Sequence[int]) -> None:
        self.register_buffer(name, torch.tensor(list(values), dtype=torch.long), persistent=False)

    def world_rotations(self, local_rotations: Float[Tensor, "B K 3 3"]) -> Float[Tensor, "B K 3 3"]:
        """The rotation of every joint relative to the body frame."""
        levels = [local_rotations[:, :1]]
        for depth in range(1, self.depth):
            parents = levels[-1].index_select(1, self.get_buffer(f"parents_at_{depth}"))
            levels.append(parents @ local_rotations.index_select(1, self.get_buffer(f"joints_at_{depth}")))
        return torch.cat(levels, dim=1).index_select(1, self.get_buffer("joint_order"))

    def forward(
        self,
        local_rotations: Float[Tensor, "B K 3 3"],
        rest_joints: Float[Tensor, "#B K 3"],
        segment_scales: Float[Tensor, "B K"] | None = None,
    ) -> tuple[Float[Tensor, "B K 3 3"], Float[Tensor, "B K 3"]]:
        """World rotations and positions of the joints; the root stays at its rest place.

        A segment scale stretches the bones from its joint to the children and is not inherited further down.
        """
        rotations = self.world_rotations(local_rotations)
        parent_of = self.get_buffer("parent_of")
        bones = rest_joints[:, 1:] - rest_joints.index_select(1, parent_of)
        turned = (rotations.index_select(1, parent_of) @ bones[..., None])[..., 0]
        if segment_scales is not None:
            turned = turned * segment_scales.index_select(1, parent_of)[..., None]
        return rotations, rest_joints[:, :1] + self.get_buffer("below").to(turned.dtype) @ turned


def _levels(parents: Sequence[int]) -> list[list[int]]:
    depths = [0] * len(parents)
    for joint, parent in enumerate(parents[1:], start=1):
        depths[joint] = depths[parent] + 1
    return [[joint for joint, depth in enumerate(depths) if depth == level] for level in range(max(depths) + 1)]


def _bones_above(parents: Sequence[int]) -> Float[Tensor, "K K-1"]:
    """1 where the bone that ends at joint 1 + column lies between the root and the joint of the row."""
    above = torch.zeros(len(parents), len(parents))
    for joint, parent in enumerate(parents[1:], start=1):
        above[joint] = above[parent]
        above[joint, joint] = 1.0
    return above[:, 1:]
