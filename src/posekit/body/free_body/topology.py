"""The closed, symmetric mesh of 6890 vertices, all of them vertices of the base mesh.

Because no vertex is new, shape targets, weights and texture coordinates carry over by index.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components

from posekit.body.free_body.decimation import Decimation, boundary_edges
from posekit.body.free_body.sources import BaseMesh

VERTEX_COUNT = 6890
_LARGEST_CAVITY = 450
"""Faces; texture islands with fewer are the mouth (398) and the eye sockets (293 each)."""
_EYEBALL = range(14598, 14670)
"""Vertices of one eyeball in the base mesh; its foremost one closes the eye socket."""


@dataclass(frozen=True, eq=False)
class Topology:
    """`base_index` names the base-mesh vertex of every vertex; `eye_poles` are the left and right eye."""

    faces: Int[np.ndarray, "F 3"]
    base_index: Int[np.ndarray, " V"]
    mirror: Int[np.ndarray, " V"]
    kept_quads: Bool[np.ndarray, " Q"]
    eye_poles: tuple[int, int]


def build_topology(mesh: BaseMesh, vertices: Float[np.ndarray, "N 3"]) -> Topology:
    """Closes and decimates the half x >= 0 of a body with these vertices, and mirrors it."""
    cavities = _cavities(mesh)
    on_middle = mesh.mirror == np.arange(len(vertices))
    half, pole = _closed_half(mesh, vertices, on_middle, cavities)
    frozen = {pole} | {int(i) for i in np.flatnonzero(_on_seam(mesh, cavities))}
    decimation = Decimation(vertices, half, on_middle, frozen)
    half = decimation.reduce(VERTEX_COUNT)
    faces = np.concatenate([half, mesh.mirror[half][:, ::-1]])
    base_index = np.unique(faces)
    place = np.full(len(vertices), -1)
    place[base_index] = np.arange(len(base_index))
    return Topology(
        faces=place[faces],
        base_index=base_index,
        mirror=place[mesh.mirror[base_index]],
        kept_quads=~cavities,
        eye_poles=(int(place[pole]), int(place[mesh.mirror[pole]])),
    )


def _cavities(mesh: BaseMesh) -> Bool[np.ndarray, " Q"]:
    corners, following = mesh.quad_uv.ravel(), np.roll(mesh.quad_uv, -1, axis=1).ravel()
    count = len(mesh.uv)
    edges = sp.coo_matrix((np.ones(len(corners)), (corners, following)), (count, count))
    island = connected_components(edges, directed=False)[1][mesh.quad_uv[:, 0]]
    return np.bincount(island)[island] < _LARGEST_CAVITY


def _on_seam(mesh: BaseMesh, cavities: Bool[np.ndarray, " Q"]) -> Bool[np.ndarray, " N"]:
    """Vertices with several texture coordinates; moving one would tear the texture."""
    pairs = np.stack([mesh.quads[~cavities].ravel(), mesh.quad_uv[~cavities].ravel()], axis=1)
    return np.bincount(np.unique(pairs, axis=0)[:, 0], minlength=len(mesh.vertices)) > 1


def _closed_half(
    mesh: BaseMesh,
    vertices: Float[np.ndarray, "N 3"],
    on_middle: Bool[np.ndarray, " N"],
    cavities: Bool[np.ndarray, " Q"],
) -> tuple[Int[np.ndarray, "F 3"], int]:
    """Triangles of the half without cavities and with caps over their rims, and the eye's pole."""
    quads = mesh.quads[(vertices[mesh.quads][:, :, 0].min(axis=1) > -1e-7) & ~cavities]
    first, second = (np.linalg.norm(vertices[quads[:, a]] - vertices[quads[:, b]], axis=1) for a, b in ((0, 2), (1, 3)))
    short = (first <= second)[:, None]
    half = np.concatenate(
        [
            np.where(short, quads[:, [0, 1, 2]], quads[:, [0, 1, 3]]),
            np.where(short, quads[:, [0, 2, 3]], quads[:, [1, 2, 3]]),
        ]
    )
    eyeball = np.array(_EYEBALL)
    pole = int(eyeball[np.argmax(vertices[eyeball, 2])])
    caps: list[list[int]] = []
    for loop in _loops(boundary_edges(half)):
        if not on_middle[loop].any():
            caps += [[following, vertex, pole] for vertex, following in zip(loop, [*loop[1:], loop[0]], strict=True)]
        else:
            caps += [
                triangle for path in _paths_off_the_middle(loop, on_middle) for triangle in _zipped(vertices, path)
            ]
    return np.concatenate([half, np.array(caps)]), pole


def _loops(edges: set[tuple[int, int]]) -> list[list[int]]:
    following: dict[int, list[int]] = {}
    for start, end in sorted(edges):
        following.setdefault(start, []).append(end)
    loops = []
    while following:
        start = next(iter(following))
        loop = [start]
        while (vertex := loop[-1]) in following:
            after = following[vertex].pop()
            if not following[vertex]:
                del following[vertex]
            if after == start:
                break
            loop.append(after)
        loops.append(loop)
    return loops


def _paths_off_the_middle(loop: list[int], on_middle: Bool[np.ndarray, " N"]) -> list[list[int]]:
    """The stretches of a border loop between two vertices of the middle line, ends included."""
    start = next(i for i, vertex in enumerate(loop) if on_middle[vertex])
    paths: list[list[int]] = []
    path = [loop[start]]
    for vertex in [*loop[start + 1 :], *loop[: start + 1]]:
        path.append(vertex)
        if on_middle[vertex]:
            if len(path) > 2:
                paths.append(path)
            path = [vertex]
    return paths


def _zipped(vertices: Float[np.ndarray, "N 3"], path: list[int]) -> list[list[int]]:
    """A strip of triangles between the upper and the lower lip, from the corner of the mouth to the middle."""
    corner = int(np.argmax(np.abs(vertices[path][:, 0])))
    one, other = path[: corner + 1][::-1], path[corner:]
    triangles = []
    i = j = 0
    while i < len(one) - 1 or j < len(other) - 1:
        first_is_next = j == len(other) - 1 or (
            i < len(one) - 1
            and np.linalg.norm(vertices[one[i + 1]] - vertices[other[j]])
            < np.linalg.norm(vertices[one[i]] - vertices[other[j + 1]])
        )
        if first_is_next:
            triangles.append([one[i], one[i + 1], other[j]])
            i += 1
        else:
            triangles.append([other[j + 1], other[j], one[i]])
            j += 1
    return [triangle for triangle in triangles if len(set(triangle)) == 3]
