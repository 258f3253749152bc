"""The atlas: which part each face belongs to, and where it lies in the part's chart.

Faces go to the limb whose weights they carry most, then to its front or back by their angle about the limb's axis.
Trunk and limbs are unrolled as half cylinders; hands, feet and halves of the head keep MakeHuman's own layout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from posekit.body.free_body.sources import BaseMesh
from posekit.body.free_body.topology import Topology
from posekit.body.surface import PART_NAMES
from posekit.skeleton.catalog import SMPL24

_LIMBS: dict[str, tuple[str, ...]] = {
    "torso": ("pelvis", "spine1", "spine2", "spine3", "left_collar", "right_collar"),
    "head": ("smpl_neck", "smpl_head"),
    **{
        f"{side} {limb}": tuple(f"{side}_{joint}" for joint in joints)
        for limb, joints in (
            ("upper leg", ("hip",)),
            ("lower leg", ("knee",)),
            ("foot", ("ankle", "foot")),
            ("upper arm", ("shoulder",)),
            ("lower arm", ("elbow",)),
            ("hand", ("wrist", "hand")),
        )
        for side in ("left", "right")
    },
}
"""Limb -> the joints whose segments it is made of."""

_UNROLLED: dict[str, tuple[str, str]] = {
    "torso": ("pelvis", "smpl_neck"),
    **{
        f"{side} {limb}": (f"{side}_{start}", f"{side}_{end}")
        for limb, start, end in (
            ("upper leg", "hip", "knee"),
            ("lower leg", "knee", "ankle"),
            ("upper arm", "shoulder", "elbow"),
            ("lower arm", "elbow", "wrist"),
        )
        for side in ("left", "right")
    },
}
"""Limb with a front and a back -> the joints that its axis leads from and to."""

_BORDER_SMOOTHING = 3
_FORWARDS, _DOWN, _UP = np.array([0, 0, 1.0]), np.array([0, -1.0, 0]), np.array([0, 1.0, 0])


@dataclass(frozen=True, eq=False)
class Charts:
    """Part and chart coordinates of every face's corners."""

    part: Int[np.ndarray, " F"]
    uv: Float[np.ndarray, "F 3 2"]


def limb_weights(weights: Float[np.ndarray, "V 24"]) -> dict[str, Float[np.ndarray, " V"]]:
    """How much of every vertex moves with each limb."""
    return {limb: weights[:, list(SMPL24.indices(*joints))].sum(axis=1) for limb, joints in _LIMBS.items()}


def build_charts(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    weights: Float[np.ndarray, "V 24"],
    joints: Float[np.ndarray, "24 3"],
    texture_uv: Float[np.ndarray, "F 3 2"],
) -> Charts:
    """The atlas in DensePose's part order."""
    limb = _limb_of_faces(faces, np.stack(list(limb_weights(weights).values()), axis=1))
    names = list(_LIMBS)
    part = np.zeros(len(faces), dtype=np.int64)
    uv = np.zeros((len(faces), 3, 2))
    centres = vertices[faces].mean(axis=1)
    for name, (start, end) in _UNROLLED.items():
        rows = np.flatnonzero(limb == names.index(name))
        cylinder = _cylinder(name, joints[SMPL24.index(start)], joints[SMPL24.index(end)], centres[rows])
        in_front = np.abs(cylinder.angle(centres[rows])) < np.pi / 2
        for side, chosen, middle in (("front", rows[in_front], 0.0), ("back", rows[~in_front], np.pi)):
            part[chosen] = PART_NAMES.index(f"{name} {side}")
            uv[chosen] = cylinder.unrolled(vertices[faces[chosen]], middle)
    for side in ("left", "right"):
        for name in ("hand", "foot"):
            part[limb == names.index(f"{side} {name}")] = PART_NAMES.index(f"{side} {name}")
    of_head = limb == names.index("head")
    part[of_head] = np.where(centres[of_head, 0] < 0, PART_NAMES.index("head right"), PART_NAMES.index("head left"))
    for label in np.unique(part[(uv == 0).all(axis=(1, 2))]):
        layout = texture_uv[part == label]
        low, high = layout.min(axis=(0, 1)), layout.max(axis=(0, 1))
        uv[part == label] = (layout - low) / (high - low)
    return Charts(part=part, uv=uv)


def _limb_of_faces(faces: Int[np.ndarray, "F 3"], of_vertices: Float[np.ndarray, "V L"]) -> Int[np.ndarray, " F"]:
    """The limb of most weight per face, after smoothing over neighbouring faces."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    owner = np.repeat(np.arange(len(faces)), 3)[order].reshape(-1, 2)  # two faces per edge of a closed mesh
    rows, columns = np.concatenate([owner, owner[:, ::-1]]).T
    neighbours = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(faces), len(faces)))
    score = of_vertices[faces].sum(axis=1)
    for _ in range(_BORDER_SMOOTHING):
        score = 0.5 * score + 0.5 * (neighbours @ score) / 3
    return score.argmax(axis=1)


@dataclass(frozen=True, eq=False)
class _Cylinder:
    """An axis, and the direction that counts as the front."""

    origin: Float[np.ndarray, "3"]
    axis: Float[np.ndarray, "3"]
    front: Float[np.ndarray, "3"]

    def angle(self, points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch"]:
        """Angle about the axis, 0 in front."""
        offset = points - self.origin
        return np.arctan2(offset @ np.cross(self.axis, self.front), offset @ self.front)

    def unrolled(self, points: Float[np.ndarray, "F 3 3"], middle: float) -> Float[np.ndarray, "F 3 2"]:
        """u across the half around the angle `middle`, v along the axis, both in [0, 1]."""
        turn = (self.angle(points) - middle + np.pi) % (2 * np.pi) - np.pi
        height = (points - self.origin) @ self.axis
        along = (height - height.min()) / (height.max() - height.min())
        return np.stack([np.clip(turn / np.pi + 0.5, 0, 1), along], axis=-1)


def _cylinder(
    limb: str,
    start: Float[np.ndarray, "3"],
    end: Float[np.ndarray, "3"],
    points: Float[np.ndarray, "N 3"],
) -> _Cylinder:
    """The limb's axis, moved from the bone into the middle of the flesh so that front and back part at the silhouette."""
    if limb == "torso":
        return _Cylinder(np.array([0, 0, points[:, 2].mean()]), _UP, _FORWARDS)
    axis = (end - start) / np.linalg.norm(end - start)
    front = _FORWARDS if "leg" in limb else _DOWN  # an arm stretched sideways has its inner side below
    front = front - axis * (front @ axis)
    offset = points - start - ((points - start) @ axis)[:, None] * axis
    middle = (np.percentile(offset, 97, axis=0) + np.percentile(offset, 3, axis=0)) / 2
    return _Cylinder(start + middle - axis * (middle @ axis), axis, front / np.linalg.norm(front))


def texture_coordinates(
    mesh: BaseMesh, topology: Topology, base_vertices: Float[np.ndarray, "N 3"]
) -> Float[np.ndarray, "F 3 2"]:
    """MakeHuman's texture coordinates of every face corner.

    A vertex on a seam has several; the one nearest to those of the closest original face is taken. The poles that close
    the eye sockets have none and get the middle of their face's other corners.
    """
    quads, quad_uv = mesh.quads[topology.kept_quads], mesh.quad_uv[topology.kept_quads]
    pairs = np.unique(np.stack([quads.ravel(), quad_uv.ravel()], axis=1), axis=0)
    start = np.searchsorted(pairs[:, 0], np.arange(len(mesh.vertices) + 1))
    corners = topology.base_index[topology.faces]
    nearest = cKDTree(base_vertices[quads].mean(axis=1)).query(base_vertices[corners].mean(axis=1))[1]
    wanted = mesh.uv[quad_uv].mean(axis=1)[nearest]
    uv = np.full((*corners.shape, 2), np.nan)
    for option in range(int(np.diff(start).max())):
        there = start[corners] + option < start[corners + 1]
        candidate = mesh.uv[pairs[np.minimum(start[corners] + option, len(pairs) - 1), 1]]
        closer = _distance(candidate, wanted) < np.nan_to_num(_distance(uv, wanted), nan=np.inf)
        uv = np.where((there & closer)[..., None], candidate, uv)
    middle = np.nanmean(uv, axis=1, keepdims=True)
    return np.where(np.isnan(uv), middle, uv)


def _distance(uv: Float[np.ndarray, "F 3 2"], of_faces: Float[np.ndarray, "F 2"]) -> Float[np.ndarray, "F 3"]:
    return ((uv - of_faces[:, None]) ** 2).sum(axis=-1)
