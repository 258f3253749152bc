"""What the rasterizer needs to know about a triangle mesh beyond its faces: canonical edges and who shares them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class MeshTopology:
    """Connectivity of a triangle mesh, computed once per mesh by `MeshTopology.from_faces`.

    Edge k of a face lies opposite its corner k. Every edge runs from its lower to its higher vertex index, so that the
    two faces beside it evaluate one and the same expression and leave no hole between them.
    """

    corners: Int[Tensor, "3 F"]
    face_edge_low: Int[Tensor, "3 F"]
    face_edge_high: Int[Tensor, "3 F"]
    face_edge_sign: Shaped[Tensor, "3 F"]
    """+1 (float32) where the face walks the edge from low to high, -1 where against."""
    edges: Int[Tensor, "2 E"]
    edge_faces: Int[Tensor, "2 E"]
    """The first two faces at each edge; -1 in the second row where there is only one."""
    edge_opposites: Int[Tensor, "2 E"]
    """The corner of each of those faces that is not on the edge; repeated where there is only one face."""
    edge_open: Shaped[Tensor, " E"]
    """True where the number of faces at the edge is not two: such an edge is always a silhouette."""
    vertex_count: int
    """One more than the largest vertex index in use."""

    @property
    def face_count(self) -> int:
        return self.corners.shape[1]

    @staticmethod
    def from_faces(faces: Int[Tensor, "F 3"]) -> MeshTopology:
        """The topology of `faces`; raises ValueError on negative vertex indices."""
        if faces.numel() and int(faces.min()) < 0:
            raise ValueError(f"faces hold the negative vertex index {int(faces.min())}")
        corners = faces.long().t().contiguous()
        vertex_count = int(corners.max()) + 1 if corners.numel() else 0
        start, end = corners.roll(-1, 0), corners.roll(-2, 0)
        low, high = torch.minimum(start, end), torch.maximum(start, end)
        sign = torch.where(start == low, 1.0, -1.0).to(torch.float32)

        key, order = (low * max(vertex_count, 1) + high).reshape(-1).sort(stable=True)
        face = torch.arange(corners.shape[1], device=corners.device).repeat(3)[order]
        opposite = corners.reshape(-1)[order]
        _, count = torch.unique_consecutive(key, return_counts=True)
        first = count.cumsum(0) - count
        second = torch.where(count > 1, first + 1, first)
        return MeshTopology(
            corners=corners,
            face_edge_low=low,
            face_edge_high=high,
            face_edge_sign=sign,
            edges=torch.stack([low.reshape(-1)[order][first], high.reshape(-1)[order][first]]),
            edge_faces=torch.stack([face[first], torch.where(count > 1, face[second], -1)]),
            edge_opposites=torch.stack([opposite[first], opposite[second]]),
            edge_open=count != 2,
            vertex_count=vertex_count,
        )

    def to(self, device: torch.device) -> MeshTopology:
        """The same topology on `device`; itself when it is there already."""
        if self.corners.device == device:
            return self
        tensors = {
            field.name: value for field in fields(self) if isinstance(value := getattr(self, field.name), Tensor)
        }
        moved: dict[str, Any] = {name: value.to(device) for name, value in tensors.items()}
        return replace(self, **moved)
