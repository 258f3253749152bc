"""What is known of bodies without having seen one in 3D: views of a lifted pose, bones, and which way joints bend."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from posekit.errors import ConfigError
from posekit.skeleton.skeleton import Skeleton, mirrored

_LEAST_DEPTH_SHARE = 0.3
"""No point comes nearer to the camera than this share of the pose's distance."""


class Turntable(nn.Module):
    """Turns points about the vertical, as a camera sees it that looks down by `tilt` (radians, may be learned).

    Such a camera sees the vertical aslant: turning about it keeps how far cameras look down, where turning about the
    image's own axis would make them look up from behind.
    """

    def __init__(self, tilt: float) -> None:
        super().__init__()
        self.tilt = nn.Parameter(torch.tensor(tilt))

    def forward(
        self, points: Float[Tensor, "*batch J 3"], angles: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch J 3"]:
        """Points turned about the origin by angles in radians; by a right angle, depth becomes x."""
        x, y, z = points.unbind(-1)
        cos_tilt, sin_tilt = self.tilt.cos(), self.tilt.sin()
        down, forward = cos_tilt * y + sin_tilt * z, cos_tilt * z - sin_tilt * y
        cos, sin = angles.cos()[..., None], angles.sin()[..., None]
        x, forward = x * cos + forward * sin, forward * cos - x * sin
        return torch.stack([x, cos_tilt * down - sin_tilt * forward, sin_tilt * down + cos_tilt * forward], dim=-1)


@dataclass(frozen=True)
class Projection:
    """How points become a picture: from `distance` sizes of a pose away, or orthographically when that is zero."""

    distance: float = 0.0

    def lift(
        self, poses: Float[Tensor, "*batch J 2"], depths: Float[Tensor, "*batch J"]
    ) -> Float[Tensor, "*batch J 3"]:
        """The points that are seen as `poses`, the root at the origin, when they have these depths."""
        return torch.cat([poses * self._magnified(depths), depths[..., None]], dim=-1)

    def project(self, points: Float[Tensor, "*batch J 3"]) -> Float[Tensor, "*batch J 2"]:
        """Where points are seen; inverse of `lift`."""
        return points[..., :2] / self._magnified(points[..., 2])

    def _magnified(self, depths: Float[Tensor, "*batch J"]) -> Float[Tensor, "*batch J 1"]:
        if not self.distance:
            return torch.ones_like(depths)[..., None]
        return (1.0 + depths / self.distance).clamp_min(_LEAST_DEPTH_SHARE)[..., None]


class PoseGeometry:
    """Losses of lifted poses that need no example in 3D; each gives one value for each pose.

    `rest` are the joints of the average body at rest, in the order of the skeleton: only the proportions of its bones are
    used. Points are in the camera's frame, x right, y down, z forward.
    """

    def __init__(self, skeleton: Skeleton, rest: Float[Tensor, "J 3"]) -> None:
        self._skeleton = skeleton
        bones = skeleton.bones
        names = [tuple(skeleton.joints[end] for end in bone) for bone in bones]
        self._parents, self._children = [bone[0] for bone in bones], [bone[1] for bone in bones]
        self._trunk = names.index(("pelvis", "thorax"))
        lengths = self.bone_lengths(rest[None])[0]
        self.ratios = (lengths / lengths[self._trunk]).tolist()
        opposite = [names.index((mirrored(parent), mirrored(child))) for parent, child in names]
        self._pairs = [(bone, other) for bone, other in enumerate(opposite) if bone < other]

    def named_ratios(self) -> dict[str, float]:
        """Lengths of the average skeleton's bones relative to its trunk, by the names of their ends."""
        return dict(zip(self._skeleton.bone_names, self.ratios, strict=True))

    def bone_lengths(self, points: Float[Tensor, "B J 3"]) -> Float[Tensor, "B E"]:
        """Lengths of the skeleton's bones."""
        return torch.linalg.vector_norm(points[:, self._children] - points[:, self._parents], dim=-1)

    def ratio(self, lengths: Float[Tensor, "B E"]) -> Float[Tensor, " B"]:
        """Squared deviations of bones, relative to the trunk, from those of the average skeleton."""
        found = lengths / lengths[:, [self._trunk]].clamp_min(1e-6)
        return (found - lengths.new_tensor(self.ratios)).square().sum(1)

    def symmetry(self, lengths: Float[Tensor, "B E"]) -> Float[Tensor, " B"]:
        """Squared differences of the lengths of left and right bones."""
        first, second = ([pair[side] for pair in self._pairs] for side in (0, 1))
        return (lengths[:, first] - lengths[:, second]).square().sum(1)

    def knees(self, points: Float[Tensor, "B J 3"]) -> Float[Tensor, " B"]:
        """How far knees lie behind the line from hip to ankle, against the way that the pelvis faces."""
        forward = self._facing(points)
        behind = [
            F.relu(-((knee - 0.5 * (hip + ankle)) * forward).sum(-1))
            for hip, knee, ankle in (
                self._joints(points, f"{side}_hip", f"{side}_knee", f"{side}_ankle") for side in ("left", "right")
            )
        ]
        return 0.5 * (behind[0] + behind[1])

    def nose(self, points: Float[Tensor, "B J 3"]) -> Float[Tensor, " B"]:
        """How much the upper neck lies behind the thorax, by the line of the shoulders (Kudo et al. 2018, eq. 8).

        The upper neck of data made from Human3.6M is a point near the nose. Raises ConfigError for joints without it.
        """
        if "neck" not in self._skeleton:
            raise ConfigError(
                "this joint set has no neck to tell front from back by",
                got=self._skeleton.name,
                accepted="--joints mpii16, or --orientation knee",
            )
        neck, thorax, left, right = self._joints(points, "neck", "thorax", "left_shoulder", "right_shoulder")
        nose, shoulders = (neck - thorax)[:, [0, 2]], (left - right)[:, [0, 2]]
        cross = nose[:, 1] * shoulders[:, 0] - nose[:, 0] * shoulders[:, 1]
        lengths = torch.linalg.vector_norm(nose, dim=-1) * torch.linalg.vector_norm(shoulders, dim=-1)
        return F.relu(cross / lengths.clamp_min(1e-6))

    def twist(self, points: Float[Tensor, "B J 3"], limit: float) -> Float[Tensor, " B"]:
        """How far the line of the shoulders turns against that of the hips beyond `limit` radians (in cosines)."""
        ends = self._joints(points, "left_shoulder", "right_shoulder", "left_hip", "right_hip")
        shoulders, hips = F.normalize(ends[0] - ends[1], dim=-1), F.normalize(ends[2] - ends[3], dim=-1)
        return F.relu(math.cos(limit) - (shoulders * hips).sum(-1))

    def _facing(self, points: Float[Tensor, "B J 3"]) -> Float[Tensor, "B 3"]:
        """The way that the pelvis faces: square to the hips and the trunk."""
        left, right, thorax, pelvis = self._joints(points, "left_hip", "right_hip", "thorax", "pelvis")
        return F.normalize(torch.linalg.cross(left - right, thorax - pelvis, dim=-1), dim=-1)

    def _joints(self, points: Float[Tensor, "B J 3"], *names: str) -> tuple[Tensor, ...]:
        return points[:, list(self._skeleton.indices(*names))].unbind(1)
