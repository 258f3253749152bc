"""The unknowns of a fit: one flat tensor that the optimiser steps, and its named parts."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posekit.geometry.rotations import matrix_from_9d

SMALLEST_SEGMENT, LARGEST_SEGMENT = 0.5, 2.0
"""Segment scales are held between these: unbounded, badly seen extremities shrink through zero."""


@dataclass(frozen=True, eq=False)
class BodyParameters:
    """Bodies placed in the world (calibrated cameras; metres) or in a crop (weak perspective; normalised crop units).

    ``X = scale * R(orientation) @ posed + translation``, the posed body's root at its origin. `pose` is axis-angle relative
    to the parent; its root row is held at zero because `orientation`, nine numbers that Gram-Schmidt makes a rotation,
    turns the whole body. `segment_scales` are absolute, 1 for the template. Under weak perspective the depth of
    `translation` is held at zero.
    """

    pose: Float[Tensor, "B K 3"]
    segment_scales: Float[Tensor, "B K"]
    betas: Float[Tensor, "B S"]
    orientation: Float[Tensor, "B 3 3"]
    translation: Float[Tensor, "B 3"]
    scale: Float[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.scale)

    @property
    def rotation(self) -> Float[Tensor, "B 3 3"]:
        """The rotation of the body, target_from_body."""
        return matrix_from_9d(self.orientation)

    def placed(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """Points of the posed bodies, roots at the origin, in the world or crop."""
        turn = self.scale[:, None, None] * self.rotation
        return points @ turn.transpose(1, 2) + self.translation[:, None]

    def select(self, rows: Tensor) -> BodyParameters:
        """Some of the bodies, by index or by mask."""
        return BodyParameters(*(getattr(self, part.name)[rows] for part in fields(self)))

    def where(self, mask: Bool[Tensor, " B"], other: BodyParameters) -> BodyParameters:
        """These bodies where the mask is set, the others elsewhere."""
        return BodyParameters(
            *(
                torch.where(mask.reshape(-1, *[1] * (mine.dim() - 1)), mine, theirs)
                for mine, theirs in ((getattr(self, part.name), getattr(other, part.name)) for part in fields(self))
            )
        )

    def flat(self) -> Float[Tensor, "B N"]:
        """All numbers in one tensor, in the order of the fields."""
        return torch.cat([getattr(self, part.name).reshape(len(self), -1) for part in fields(self)], dim=1)

    def from_flat(self, flat: Float[Tensor, "B N"]) -> BodyParameters:
        """Parameters shaped like these, as views of a flat tensor."""
        parts = [getattr(self, part.name) for part in fields(self)]
        pieces = torch.split(flat, [part[0].numel() for part in parts], dim=1)
        return BodyParameters(*(piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)))

    def columns(self, *names: str) -> Int[Tensor, " N"]:
        """Where the numbers of some parts lie in the flat tensor."""
        sizes = {part.name: getattr(self, part.name)[0].numel() for part in fields(self)}
        begins = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
        spans = [torch.arange(begins[name], begins[name] + sizes[name]) for name in names]
        return torch.cat(spans).to(self.scale.device)

    def with_mean_scale_one(self) -> BodyParameters:
        """The same bodies with segment scales of mean 1; the global scale takes over the factor."""
        mean = self.segment_scales.mean(dim=1)
        return replace(self, segment_scales=self.segment_scales / mean[:, None], scale=self.scale * mean)
