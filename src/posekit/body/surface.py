"""The atlas of 24 body parts: (part, u, v) to surface points and back.

Part numbers, their coarser groups and the flip permutation are those of DensePose (Gueler et al. 2018). The charts of the
free body are its own: its part labels compare with DensePose's, its u and v do not. For SMPL and DensePose's own charts
read `UV_Processed.mat` with `atlas_from_uv_processed`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.io
from jaxtyping import Float, Int
from scipy.io.matlab import MatReadError
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from posekit.body.smpl_file import BodyData
from posekit.errors import FormatError, InputError, MissingFileError

PART_NAMES = (
    "background",
    "torso back",
    "torso front",
    "right hand",
    "left hand",
    "left foot",
    "right foot",
    "right upper leg back",
    "left upper leg back",
    "right upper leg front",
    "left upper leg front",
    "right lower leg back",
    "left lower leg back",
    "right lower leg front",
    "left lower leg front",
    "left upper arm front",
    "right upper arm front",
    "left upper arm back",
    "right upper arm back",
    "left lower arm front",
    "right lower arm front",
    "left lower arm back",
    "right lower arm back",
    "head right",
    "head left",
)
PART_COUNT = 24

COARSE_14_NAMES = (
    "background",
    "torso",
    "right hand",
    "left hand",
    "left foot",
    "right foot",
    "right upper leg",
    "left upper leg",
    "right lower leg",
    "left lower leg",
    "left upper arm",
    "right upper arm",
    "left lower arm",
    "right lower arm",
    "head",
)
COARSE_14 = np.array([0, 1, 1, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9, 8, 9, 10, 11, 10, 11, 12, 13, 12, 13, 14, 14])
"""Part (0 is background) -> one of DensePose's 14 coarse masks."""

COARSE_6_NAMES = ("background", "left arm", "right arm", "head", "left leg", "right leg", "torso")
COARSE_6 = np.array([0, 6, 6, 2, 1, 4, 5, 5, 4, 5, 4, 5, 4, 5, 4, 1, 2, 1, 2, 1, 2, 1, 2, 3, 3])
"""Part (0 is background) -> one of the six parts of UPi-S1h (Lassner et al. 2017)."""

_SIX_PARTS = {
    **{f"left_{joint}": 1 for joint in ("shoulder", "elbow", "wrist", "hand")},
    **{f"right_{joint}": 2 for joint in ("shoulder", "elbow", "wrist", "hand")},
    **{f"left_{joint}": 4 for joint in ("hip", "knee", "ankle", "foot")},
    **{f"right_{joint}": 5 for joint in ("hip", "knee", "ankle", "foot")},
    "smpl_neck": 3,
    "smpl_head": 3,
}
"""Beginning of a joint's name -> the part of UPi-S1h that it moves; all others move the torso."""

PART_FLIP = np.array([0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23])
"""The part that a part becomes in a mirrored picture; 0 is background."""

_CANDIDATES = 16
"""Chart samples looked at before all faces of a part are tried."""

_POINTS_AT_ONCE = 8192
"""Points located in one go; more would only need more memory."""


_UNREADABLE = (LookupError, NotImplementedError, OSError, TypeError, ValueError, MatReadError, zlib.error)


@dataclass(frozen=True, eq=False)
class SurfaceAtlas:
    """Charts over the faces of a body; every face lies in one part."""

    faces: Int[np.ndarray, "F 3"]
    face_part: Int[np.ndarray, " F"]
    face_uv: Float[np.ndarray, "F 3 2"]
    mirror: Int[np.ndarray, " V"] | None = None

    @cached_property
    def vertex_count(self) -> int:
        """Number of vertices that the faces use."""
        return int(self.faces.max()) + 1

    @cached_property
    def vertex_part(self) -> Int[np.ndarray, " V"]:
        """The part of each vertex: that of most faces around it, the lowest number of equally many."""
        votes = np.zeros((self.vertex_count, PART_COUNT + 1), dtype=np.int64)
        np.add.at(votes, (self.faces.ravel(), np.repeat(self.face_part, 3)), 1)
        return votes.argmax(axis=1)

    def surface_from_iuv(
        self, part: Int[np.ndarray, " N"], u: Float[np.ndarray, " N"], v: Float[np.ndarray, " N"]
    ) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N 3"]]:
        """Faces and barycentric coordinates of the chart points; the nearest point of the part's chart for gaps.

        Raises InputError for a part outside 1..24 or one that this body has no faces of.
        """
        self._check_parts(part)
        face = np.zeros(len(part), dtype=np.int64)
        barycentric = np.zeros((len(part), 3))
        for label in np.unique(part):
            rows = np.flatnonzero(part == label)
            face[rows], barycentric[rows] = self._charts[int(label)].locate(np.stack([u[rows], v[rows]], axis=1))
        return face, barycentric

    def iuv_from_surface(
        self, face: Int[np.ndarray, " N"], barycentric: Float[np.ndarray, "N 3"]
    ) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
        """Part, u and v of surface points."""
        uv = (barycentric[:, :, None] * self.face_uv[face]).sum(axis=1)
        return self.face_part[face], uv[:, 0], uv[:, 1]

    def vertices_from_iuv(
        self, part: Int[np.ndarray, " N"], u: Float[np.ndarray, " N"], v: Float[np.ndarray, " N"]
    ) -> Int[np.ndarray, " N"]:
        """The vertex of the same part that is nearest in the chart. Raises InputError as `surface_from_iuv`."""
        self._check_parts(part)
        vertices = np.zeros(len(part), dtype=np.int64)
        for label in np.unique(part):
            rows = np.flatnonzero(part == label)
            vertices[rows] = self._charts[int(label)].nearest_vertex(np.stack([u[rows], v[rows]], axis=1))
        return vertices

    def mirrored_surface(
        self, face: Int[np.ndarray, " N"], barycentric: Float[np.ndarray, "N 3"]
    ) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N 3"]]:
        """The same points on the other side of the body; InputError for a body without a mirror map."""
        partner, corner = self._mirror_faces
        return partner[face], np.take_along_axis(barycentric, corner[face], axis=1)

    @cached_property
    def _mirror_faces(self) -> tuple[Int[np.ndarray, " F"], Int[np.ndarray, "F 3"]]:
        """For every face its mirror image, and which of its corners each corner of the image mirrors."""
        if self.mirror is None:
            raise InputError("this body has no mirror map, so its surface cannot be flipped")
        images = self.mirror[self.faces]
        by_corners = {corners: i for i, corners in enumerate(map(tuple, np.sort(self.faces, axis=1).tolist()))}
        partner = np.array([by_corners[corners] for corners in map(tuple, np.sort(images, axis=1).tolist())])
        corner = (self.faces[partner][:, :, None] == images[:, None, :]).argmax(axis=2)
        return partner, corner

    @cached_property
    def _charts(self) -> dict[int, _Chart]:
        return {
            int(label): _Chart(rows := np.flatnonzero(self.face_part == label), self.faces[rows], self.face_uv[rows])
            for label in np.unique(self.face_part[self.face_part > 0])
        }

    def _check_parts(self, part: Int[np.ndarray, " N"]) -> None:
        wrong = np.setdiff1d(part, list(self._charts))
        if wrong.size:
            raise InputError("no surface for body part", got=wrong.tolist(), accepted=sorted(self._charts))


@dataclass(frozen=True, eq=False)
class _Chart:
    """The faces of one part, laid out in its unit square."""

    face_ids: Int[np.ndarray, " F"]
    faces: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "F 3 2"]

    @cached_property
    def _samples(self) -> cKDTree:
        """Corners, edge middles and centres of all faces: seven per face, in this order."""
        corners = self.uv
        middles = (corners + corners[:, [1, 2, 0]]) / 2
        return cKDTree(np.concatenate([corners, middles, corners.mean(axis=1, keepdims=True)], axis=1).reshape(-1, 2))

    @cached_property
    def _corners(self) -> tuple[cKDTree, Int[np.ndarray, " M"]]:
        return cKDTree(self.uv.reshape(-1, 2)), self.faces.ravel()

    def nearest_vertex(self, points: Float[np.ndarray, "N 2"]) -> Int[np.ndarray, " N"]:
        tree, vertices = self._corners
        return vertices[tree.query(points)[1]]

    def locate(self, points: Float[np.ndarray, "N 2"]) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N 3"]]:
        """Exact: a face among those around the nearest samples that contains the point, else the nearest of all."""
        count = min(_CANDIDATES, 7 * len(self.faces))
        face, barycentric = np.zeros(len(points), dtype=np.int64), np.zeros((len(points), 3))
        for rows in _slices(np.arange(len(points)), _POINTS_AT_ONCE):
            near = self._samples.query(points[rows], k=range(1, count + 1))[1] // 7
            face[rows], barycentric[rows], squared = _closest_in_triangles(points[rows], near, self.uv)
            outside = squared > 0
            if outside.any():
                found = face[rows][outside], barycentric[rows][outside], squared[outside]
                face[rows[outside]], barycentric[rows[outside]] = self._nearest_of_all(points[rows[outside]], *found)
        return self.face_ids[face], barycentric

    def _nearest_of_all(
        self,
        points: Float[np.ndarray, "N 2"],
        face: Int[np.ndarray, " N"],
        barycentric: Float[np.ndarray, "N 3"],
        squared: Float[np.ndarray, " N"],
    ) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N 3"]]:
        """Improves what was found by every face whose circle about its centre reaches nearer."""
        centre = self.uv.mean(axis=1)
        radius = np.linalg.norm(self.uv - centre[:, None], axis=2).max(axis=1)
        row, candidate = np.nonzero(cdist(points, centre) - radius < np.sqrt(squared)[:, None])
        _, shares, distance = _closest_in_triangles(points[row], candidate[:, None], self.uv)
        order = np.lexsort((distance, row))
        improved, first = np.unique(row[order], return_index=True)
        best = order[first]
        face[improved], barycentric[improved] = candidate[best], shares[best]
        return face, barycentric


def _slices(rows: Int[np.ndarray, " N"], size: int) -> list[Int[np.ndarray, " M"]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _closest_in_triangles(
    points: Float[np.ndarray, "N 2"], candidates: Int[np.ndarray, "N M"], triangles: Float[np.ndarray, "F 3 2"]
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N 3"], Float[np.ndarray, " N"]]:
    """For each point the closest of its candidate triangles, the closest point in it, and its squared distance."""
    corners = triangles[candidates].astype(np.float64)
    a, ab, ac = corners[:, :, 0], corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    to_point = points[:, None] - a
    area = ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0]
    divisor = np.where(area == 0, np.inf, area)
    y = (to_point[..., 0] * ac[..., 1] - to_point[..., 1] * ac[..., 0]) / divisor
    z = (ab[..., 0] * to_point[..., 1] - ab[..., 1] * to_point[..., 0]) / divisor
    inside = (y >= 0) & (z >= 0) & (y + z <= 1) & (area != 0)
    shares = [np.stack([1 - y - z, y, z], axis=-1)]
    squared = [np.where(inside, 0.0, np.inf)]
    for start, end in ((0, 1), (1, 2), (2, 0)):
        edge = corners[:, :, end] - corners[:, :, start]
        offset = points[:, None] - corners[:, :, start]
        length = np.maximum((edge**2).sum(axis=-1), np.finfo(np.float64).tiny)
        along = np.clip((offset * edge).sum(axis=-1) / length, 0.0, 1.0)
        share = np.zeros((*along.shape, 3))
        share[..., start], share[..., end] = 1 - along, along
        shares.append(share)
        squared.append(((offset - along[..., None] * edge) ** 2).sum(axis=-1))
    distance = np.stack(squared, axis=-1)
    best = distance.reshape(len(points), -1).argmin(axis=1)
    rows = np.arange(len(points))
    triangle, kind = np.divmod(best, len(squared))
    chosen = np.stack(shares, axis=2)[rows, triangle, kind]
    return candidates[rows, triangle].copy(), chosen, distance[rows, triangle, kind]


def atlas_of(body: BodyData) -> SurfaceAtlas:
    """The atlas that comes with a body; InputError for one without (files of the SMPL family)."""
    if body.face_part is None or body.face_part_uv is None:
        raise InputError(
            f"body {body.source} has no atlas of body parts",
            hint="use the body that comes with posekit, or DensePose's UV_Processed.mat with an SMPL file",
        )
    return SurfaceAtlas(body.faces, body.face_part, body.face_part_uv, body.mirror)


def six_parts_of(body: BodyData) -> Int[np.ndarray, " F"]:
    """The part of UPi-S1h, 1 to 6 (`COARSE_6_NAMES`), that each face of a body belongs to.

    From the body's own atlas; a file of the SMPL family without one is divided by the joints that move a face most.
    """
    if body.face_part is not None:
        return COARSE_6[body.face_part]
    part_of_joint = np.zeros(body.joint_count, dtype=np.int64)
    for joint, name in enumerate(body.joint_names):
        part = next((number for word, number in _SIX_PARTS.items() if name.startswith(word)), None)
        if part is None:
            # Joints without a name of their own are fingers and faces, and follow their parents.
            part = 6 if body.parents[joint] < 0 or not name.startswith("joint_") else part_of_joint[body.parents[joint]]
        part_of_joint[joint] = part
    pull = body.weights[body.faces].sum(axis=1)
    by_part = np.stack([pull[:, part_of_joint == part].sum(axis=1) for part in range(1, len(COARSE_6_NAMES))], axis=1)
    return by_part.argmax(axis=1) + 1


def atlas_from_uv_processed(path: Path, body: BodyData) -> SurfaceAtlas:
    """DensePose's own charts over SMPL, from its `UV_Processed.mat`.

    The file lacks two faces of SMPL at the big toes; surface points are in the numbering of the body's own faces. Raises
    MissingFileError, or FormatError where the file does not fit the body.
    """
    if not path.is_file():
        raise MissingFileError("DensePose chart file not found", got=path)
    try:
        arrays = scipy.io.loadmat(path)
        part = np.asarray(arrays["All_FaceIndices"], dtype=np.int64).ravel()
        corners = np.asarray(arrays["All_Faces"], dtype=np.int64) - 1
        vertex = np.asarray(arrays["All_vertices"], dtype=np.int64).ravel() - 1
        uv = np.stack(
            [np.asarray(arrays[key], dtype=np.float64).ravel() for key in ("All_U_norm", "All_V_norm")], axis=1
        )
        triangles, triangle_uv = vertex[corners], uv[corners]
    except _UNREADABLE as error:
        raise FormatError(f"{path} is no DensePose chart file ({type(error).__name__}: {error})") from error
    own = {corners: i for i, corners in enumerate(map(tuple, np.sort(body.faces, axis=1).tolist()))}
    rows = np.array([own.get(corners, -1) for corners in map(tuple, np.sort(triangles, axis=1).tolist())])
    if triangles.shape != (len(part), 3) or (rows < 0).any() or not np.isin(part, range(1, PART_COUNT + 1)).all():
        raise FormatError(
            f"{path} does not fit the body {body.source}", got=f"{int((rows < 0).sum())} faces that the body has not"
        )
    face_part = np.zeros(len(body.faces), dtype=np.int64)
    face_uv = np.zeros((len(body.faces), 3, 2))
    order = (body.faces[rows][:, :, None] == triangles[:, None, :]).argmax(axis=2)
    face_part[rows] = part
    face_uv[rows] = np.take_along_axis(triangle_uv, order[:, :, None], axis=1)
    return SurfaceAtlas(body.faces, face_part, face_uv, body.mirror)
