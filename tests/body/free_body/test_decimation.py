"""Decimation of a half mesh."""

from __future__ import annotations

import numpy as np
import pytest

from posekit.body.free_body.decimation import Decimation, boundary_edges


def _half_sphere(rings: int = 12, around: int = 16) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The half x >= 0 of a sphere whose border lies on x = 0: vertices, faces, on the middle."""
    tilt, turn = np.meshgrid(np.linspace(0, np.pi, rings)[1:-1], np.linspace(0, np.pi, around), indexing="ij")
    grid = np.stack([np.sin(tilt) * np.sin(turn), np.cos(tilt), np.sin(tilt) * np.cos(turn)], axis=-1).reshape(-1, 3)
    vertices = np.concatenate([grid, [[0, 1, 0], [0, -1, 0]]])
    top, bottom = len(grid), len(grid) + 1
    faces = []
    for column in range(around - 1):
        faces += [[top, column, column + 1], [bottom, len(grid) - around + column + 1, len(grid) - around + column]]
        for row in range(rings - 3):
            a, b = row * around + column, (row + 1) * around + column
            faces += [[a, b, a + 1], [a + 1, b, b + 1]]
    return vertices, np.array(faces), np.abs(vertices[:, 0]) < 1e-9


def _volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)


@pytest.mark.parametrize("wanted", [250, 160, 100])
def test_the_mirrored_half_is_a_closed_sphere_of_the_wanted_size(wanted: int) -> None:
    vertices, faces, on_middle = _half_sphere()
    reduced = Decimation(vertices, faces, on_middle, frozen=set()).reduce(wanted)
    left = np.unique(reduced)
    assert 2 * (~on_middle[left]).sum() + on_middle[left].sum() == wanted
    assert all(on_middle[a] and on_middle[b] for a, b in boundary_edges(reduced))
    edges = np.unique(np.sort(reduced[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    assert len(left) - len(edges) + len(reduced) == 1  # a disc
    assert _volume(vertices, reduced) == pytest.approx(_volume(vertices, faces), rel=0.12)
    normals = np.cross(
        vertices[reduced[:, 1]] - vertices[reduced[:, 0]], vertices[reduced[:, 2]] - vertices[reduced[:, 0]]
    )
    assert ((normals * vertices[reduced].mean(axis=1)).sum(axis=1) > 0).all()


def test_frozen_vertices_stay() -> None:
    vertices, faces, on_middle = _half_sphere()
    frozen = set(np.flatnonzero(~on_middle)[::5].tolist())
    reduced = Decimation(vertices, faces, on_middle, frozen).reduce(120)
    assert frozen <= set(np.unique(reduced).tolist())


def test_the_same_mesh_gives_the_same_result() -> None:
    results = [Decimation(*_half_sphere(), frozen=set()).reduce(150) for _ in range(2)]
    np.testing.assert_array_equal(*results)


def test_boundary_edges_are_directed() -> None:
    assert boundary_edges(np.array([[0, 1, 2], [0, 2, 3]])) == {(0, 1), (1, 2), (2, 3), (3, 0)}
