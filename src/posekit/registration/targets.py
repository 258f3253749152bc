"""What bodies are fitted to, for a batch of bodies, in normalised crop units."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CROP_PX = 224
"""Residuals are reported in pixels of a square crop of this side."""

PX_PER_UNIT = CROP_PX / 2.0

WEAK_PROJECTION = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
"""Weak perspective as a projection matrix: the world of a fit is then the crop itself, with depth in the same unit."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Labels of B bodies, each seen in up to C views.

    `projections` lead from the fit's world to homogeneous normalised crop coordinates of each view (lens distortion is
    taken out of the labels beforehand). Residuals are thus in units of half a person box in every camera model, and
    weights mean the same in all. `joints` are in metres in the world, or, under weak perspective (`weak`), depths relative
    to the root in crop units, with weight on z only. Whatever has weight zero is ignored, even NaN.

    `linked` marks rows that show the same person one instant after the row before.
    """

    projections: Float[Tensor, "B C 3 4"]
    keypoints: Float[Tensor, "B C J 2"]
    keypoint_weights: Float[Tensor, "B C J"]
    joints: Float[Tensor, "B J 3"]
    joint_weights: Float[Tensor, "B J 3"]
    points: Float[Tensor, "B C N 2"]
    point_weights: Float[Tensor, "B C N"]
    vertices: Int[Tensor, "B C N"]
    linked: Bool[Tensor, " B"]
    weak: bool

    def __len__(self) -> int:
        return len(self.linked)

    def select(self, rows: Tensor) -> Targets:
        """The labels of some of the bodies, by index; links to rows that no longer come before are cut."""
        chosen = {part.name: getattr(self, part.name)[rows] for part in fields(self) if part.name != "weak"}
        chosen["linked"] = chosen["linked"] & (rows == torch.nn.functional.pad(rows[:-1], (1, 0), value=-2) + 1)
        return Targets(**chosen, weak=self.weak)

    def to(self, device: torch.device) -> Targets:
        """The same labels on a device."""
        moved = {part.name: getattr(self, part.name).to(device) for part in fields(self) if part.name != "weak"}
        return Targets(**moved, weak=self.weak)

    def cleaned(self) -> Targets:
        """The same labels with weight zero, and the value zero, wherever a value or weight is not finite.

        Also of negative weights. A view whose camera is not finite loses all its labels.
        """
        seen = self.projections.isfinite().all(-1).all(-1)
        keypoints, keypoint_weights = _without_gaps(self.keypoints, self.keypoint_weights * seen[..., None])
        points, point_weights = _without_gaps(self.points, self.point_weights * seen[..., None])
        joint_weights = torch.where(
            self.joints.isfinite() & self.joint_weights.isfinite(), self.joint_weights.clamp_min(0.0), 0.0
        )
        blank = torch.tensor(WEAK_PROJECTION, dtype=self.projections.dtype, device=self.projections.device)
        return Targets(
            projections=torch.where(seen[..., None, None], self.projections, blank),
            keypoints=keypoints,
            keypoint_weights=keypoint_weights,
            joints=torch.where(joint_weights > 0, self.joints, 0.0),
            joint_weights=joint_weights,
            points=points,
            point_weights=point_weights,
            vertices=torch.where(point_weights > 0, self.vertices, 0),
            linked=self.linked,
            weak=self.weak,
        )


def _without_gaps(
    positions: Float[Tensor, "B C N 2"], weights: Float[Tensor, "B C N"]
) -> tuple[Float[Tensor, "B C N 2"], Float[Tensor, "B C N"]]:
    usable = positions.isfinite().all(-1) & weights.isfinite()
    clean = torch.where(usable, weights.clamp_min(0.0), 0.0)
    return torch.where((clean > 0)[..., None], positions, 0.0), clean
