"""Batches of person crops with masks and joints, for mesh estimators."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False)
class MeshBatch:
    """Crops of people, and what is known of them in these very crops.

    `upright` are the same crops without the turn in the image plane. `masks` are 0 and 1, and mean something where `masked`
    is set. `keypoints` are in normalised crop units (-1 to 1 over the crop), `joints` in metres in axes parallel to the
    camera's, from an origin of their own; what has weight zero may be anything. `samples` are rows of the source.
    """

    images: UInt8[Tensor, "B S S 3"]
    upright: UInt8[Tensor, "B S S 3"]
    masks: UInt8[Tensor, "B S S"]
    masked: Bool[Tensor, " B"]
    keypoints: Float[Tensor, "B J 2"]
    keypoint_weights: Float[Tensor, "B J"]
    joints: Float[Tensor, "B J 3"]
    joint_weights: Float[Tensor, "B J"]
    samples: Int[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.samples)

    def to(self, device: torch.device) -> MeshBatch:
        """The same batch on a device."""
        return MeshBatch(*(value.to(device, non_blocking=True) for value in vars(self).values()))
