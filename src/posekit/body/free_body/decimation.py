"""Quadric edge collapse on one half of a symmetric mesh (Garland and Heckbert 1997).

Only half-edge collapses: a vertex moves onto a neighbour, so that the vertices left are some of those there were. The
border of the half is the middle line; it stays there and is thinned along itself only.
"""

from __future__ import annotations

import heapq

import numpy as np
from jaxtyping import Bool, Float, Int

_LENGTH_COST = 1e-4
"""Favours short edges where the surface is flat and all quadrics vanish."""
_LEAST_COSINE = 0.3
"""Between a face's normals before and after a collapse."""
_LEAST_HEIGHT = 0.06
"""Twice the area of a triangle over its squared longest edge; thinner ones are slivers."""


def boundary_edges(faces: Int[np.ndarray, "F 3"]) -> set[tuple[int, int]]:
    """Edges with a face on one side only, directed as in that face."""
    open_edges: set[tuple[int, int]] = set()
    for a, b, c in faces.tolist():
        for start, end in ((a, b), (b, c), (c, a)):
            if (end, start) in open_edges:
                open_edges.remove((end, start))
            else:
                open_edges.add((start, end))
    return open_edges


class Decimation:
    """A half mesh that shrinks, cheapest collapse first."""

    def __init__(
        self,
        vertices: Float[np.ndarray, "N 3"],
        faces: Int[np.ndarray, "F 3"],
        on_middle: Bool[np.ndarray, " N"],
        frozen: set[int],
    ) -> None:
        self.vertices = vertices
        self.on_middle = on_middle.tolist()
        self.frozen = frozen
        self.faces: list[list[int] | None] = [list(face) for face in faces.tolist()]
        self.around: dict[int, set[int]] = {vertex: set() for vertex in np.unique(faces).tolist()}
        for i, face in enumerate(faces.tolist()):
            for vertex in face:
                self.around[vertex].add(i)
        self.border: dict[int, set[int]] = {}
        for start, end in boundary_edges(faces):
            self.border.setdefault(start, set()).add(end)
            self.border.setdefault(end, set()).add(start)
        self.quadrics = _quadrics(vertices, faces)
        self.version = dict.fromkeys(self.around, 0)
        self.queue: list[tuple[float, int, int, int]] = []

    def reduce(self, vertex_count: int) -> Int[np.ndarray, "F 3"]:
        """The faces once the half and its mirror image together have this many vertices."""
        count = sum(1 if self.on_middle[vertex] else 2 for vertex in self.around)
        for vertex in self.around:
            self._enqueue(vertex)
        while count > vertex_count and self.queue:
            cost, vertex, target, version = heapq.heappop(self.queue)
            if self.version.get(vertex) != version:
                continue
            removed = 1 if self.on_middle[vertex] else 2
            if count - removed < vertex_count:
                continue
            if not self._is_valid(vertex, target):
                self._enqueue_alternative(vertex, target, cost)
                continue
            self._collapse(vertex, target)
            count -= removed
        return np.array([face for face in self.faces if face is not None])

    def _neighbours(self, vertex: int) -> set[int]:
        return {other for i in self.around[vertex] for other in self._face(i) if other != vertex}

    def _face(self, i: int) -> list[int]:
        face = self.faces[i]
        if face is None:
            raise RuntimeError("a collapsed face is still in use")
        return face

    def _cost(self, vertex: int, target: int) -> float:
        place = np.append(self.vertices[target], 1.0)
        step = self.vertices[vertex] - self.vertices[target]
        quadric = self.quadrics[vertex]
        flat = _LENGTH_COST * float(step @ step) * float(np.trace(quadric[:3, :3]))
        return float(place @ (quadric + self.quadrics[target]) @ place) + flat + 1e-18

    def _is_allowed(self, vertex: int, target: int) -> bool:
        if vertex in self.frozen or (not self.on_middle[vertex] and self.on_middle[target]):
            return False
        along_border = target in self.border.get(vertex, ())
        if self.on_middle[vertex] and not (self.on_middle[target] and along_border):
            return False
        return vertex not in self.border or along_border

    def _enqueue(self, vertex: int) -> None:
        options = [
            (self._cost(vertex, other), other)
            for other in sorted(self._neighbours(vertex))
            if self._is_allowed(vertex, other)
        ]
        if options:
            cost, target = min(options)
            heapq.heappush(self.queue, (cost, vertex, target, self.version[vertex]))

    def _enqueue_alternative(self, vertex: int, refused: int, cost: float) -> None:
        options = sorted(
            (self._cost(vertex, other), other)
            for other in self._neighbours(vertex)
            if other != refused and self._is_allowed(vertex, other)
        )
        for other_cost, other in options:
            if other_cost > cost and self._is_valid(vertex, other):
                self.version[vertex] += 1
                heapq.heappush(self.queue, (other_cost, vertex, other, self.version[vertex]))
                return

    def _is_valid(self, vertex: int, target: int) -> bool:
        """Whether the surface stays a manifold (link condition) and no face flips or degenerates."""
        ring, target_ring = self._neighbours(vertex), self._neighbours(target)
        opposite = {other for i in self.around[vertex] & self.around[target] for other in self._face(i)}
        opposite -= {vertex, target}
        if ring & target_ring != opposite or len(ring | target_ring) < 5:
            return False
        if any(len(self._neighbours(other)) <= 3 for other in opposite):
            return False
        return all(self._keeps_shape(i, vertex, target) for i in self.around[vertex] - self.around[target])

    def _keeps_shape(self, i: int, vertex: int, target: int) -> bool:
        face = self._face(i)
        before = self.vertices[face]
        after = self.vertices[[target if other == vertex else other for other in face]]
        old, new = _normal(before), _normal(after)
        old_area, new_area = float(np.linalg.norm(old)), float(np.linalg.norm(new))
        if new_area < 1e-12 or (old_area > 1e-12 and old @ new < _LEAST_COSINE * old_area * new_area):
            return False
        longest = max(float(edge @ edge) for edge in after - after[[1, 2, 0]])
        return new_area >= _LEAST_HEIGHT * longest

    def _collapse(self, vertex: int, target: int) -> None:
        ring = self._neighbours(vertex)
        for i in list(self.around[vertex]):
            face = self._face(i)
            if target in face:
                for other in face:
                    self.around[other].discard(i)
                self.faces[i] = None
            else:
                self.faces[i] = [target if other == vertex else other for other in face]
                self.around[target].add(i)
        for other in self.border.pop(vertex, ()):
            self.border[other].discard(vertex)
            if other != target:
                self.border[other].add(target)
                self.border[target].add(other)
        self.quadrics[target] += self.quadrics[vertex]
        del self.version[vertex], self.around[vertex]
        for other in sorted(ring | self._neighbours(target)):
            if other in self.version:
                self.version[other] += 1
                self._enqueue(other)


def _normal(corners: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    (ax, ay, az), (bx, by, bz) = (corners[1] - corners[0]).tolist(), (corners[2] - corners[0]).tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def _quadrics(vertices: Float[np.ndarray, "N 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "N 4 4"]:
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(normal, axis=1)
    normal /= double_area[:, None] + 1e-20
    plane = np.concatenate([normal, -(normal * corners[:, 0]).sum(axis=1, keepdims=True)], axis=1)
    weighted = plane[:, :, None] * plane[:, None, :] * (double_area / 2)[:, None, None]
    quadrics = np.zeros((len(vertices), 4, 4))
    for corner in range(3):
        np.add.at(quadrics, faces[:, corner], weighted)
    return quadrics
