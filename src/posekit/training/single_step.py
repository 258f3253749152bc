"""The adversary of the single-step training: are projections of the regressed joints like 2D poses of the data?

Yoshiyasu and Gamez 2019 compare their alternation with such a training and find it to be a hard problem (Table 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from posekit.errors import DataError
from posekit.labeling.depth_networks import PoseDiscriminator

_HIPS = ("left_hip", "right_hip")
_SMALLEST_POSE = 1e-3


class ProjectionAdversary(nn.Module):
    """Turns 3D joints about the image's vertical, projects them, and compares them with labelled poses.

    It sees the joints that every sample may have labelled (`annotated`), about the middle of the hips and at size one.
    Raises DataError when the hips are not among them.
    """

    def __init__(self, joint_names: Sequence[str], annotated: Sequence[str], angles_deg: Sequence[float]) -> None:
        super().__init__()
        names = [name for name in joint_names if name in annotated]
        if not set(names) >= set(_HIPS):
            raise DataError("the adversary needs hips among the labelled joints", got=names, accepted=_HIPS)
        self.joints = names
        angles = torch.tensor([math.radians(angle) for angle in angles_deg])
        self._constant("columns", torch.tensor([list(joint_names).index(name) for name in names]))
        self._constant("hips", torch.tensor([names.index(name) for name in _HIPS]))
        self._constant("turns", torch.stack([angles.cos(), angles.sin()], dim=1))

    def _constant(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values, persistent=False)

    def discriminator(self, width: int, seed: int) -> PoseDiscriminator:
        """An untrained discriminator of these joints."""
        return PoseDiscriminator(len(self.joints), width, generator=torch.Generator().manual_seed(seed))

    def labelled(
        self, keypoints: Float[Tensor, "B J 2"], weights: Float[Tensor, "B J"]
    ) -> tuple[Float[Tensor, "B N 2"], Bool[Tensor, " B"]]:
        """Normalised poses, and which of them have all joints."""
        columns: Int[Tensor, " N"] = self.get_buffer("columns")
        return self._normalised(keypoints[:, columns]), (weights[:, columns] > 0).all(1)

    def projected(self, landmarks: Float[Tensor, "B J 3"]) -> Float[Tensor, "views N 2"]:
        """Normalised projections of the joints at every angle, those of the first angle first."""
        chosen = landmarks[:, self.get_buffer("columns")]
        turns: Float[Tensor, "A 2"] = self.get_buffer("turns").to(chosen.dtype)
        centred = chosen - self._centre(chosen)
        across = turns[:, 0, None, None] * centred[..., 0] + turns[:, 1, None, None] * centred[..., 2]
        views = torch.stack([across, centred[..., 1].expand_as(across)], dim=-1)
        return self._normalised(views.flatten(0, 1))

    def _centre(self, points: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 D"]:
        return points[:, self.get_buffer("hips")].mean(dim=1, keepdim=True)

    def _normalised(self, points: Float[Tensor, "B N 2"]) -> Float[Tensor, "B N 2"]:
        centred = points - self._centre(points)
        # The square root's slope is infinite at zero, where joints lie on top of each other.
        size = (centred.square().sum(-1) + _SMALLEST_POSE**2).sqrt().mean(dim=1)
        return centred / size[:, None, None]


def deceived(logits: Float[Tensor, " views"], count: int) -> Float[Tensor, " B"]:
    """How far projections are from being taken for labelled poses, for each of `count` bodies."""
    return nn.functional.softplus(-logits).reshape(-1, count).mean(0)


def caught(
    real: Float[Tensor, " B"], complete: Bool[Tensor, " B"], made: Float[Tensor, " views"]
) -> Float[Tensor, " B"]:
    """The discriminator's loss for each sample; poses that lack a joint teach nothing about real ones."""
    return nn.functional.softplus(-real) * complete + nn.functional.softplus(made).reshape(-1, len(real)).mean(0)
