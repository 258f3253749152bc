from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

from posekit.export.meshes import write_obj, write_ply

VERTICES = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.25]])
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


def test_obj_is_read_back_by_trimesh(tmp_path: Path) -> None:
    write_obj(tmp_path / "a.obj", VERTICES, FACES)
    mesh = trimesh.load(tmp_path / "a.obj", process=False)
    np.testing.assert_allclose(mesh.vertices, VERTICES)
    np.testing.assert_array_equal(mesh.faces, FACES)


def test_obj_keeps_texture_coordinates_of_corners(tmp_path: Path) -> None:
    coordinates = np.random.default_rng(0).random((4, 3, 2))
    write_obj(tmp_path / "a.obj", VERTICES, FACES, texture_coordinates=coordinates)
    mesh = trimesh.load(tmp_path / "a.obj", process=False)
    np.testing.assert_allclose(mesh.visual.uv[mesh.faces], coordinates, atol=1e-6)
    np.testing.assert_allclose(mesh.vertices[mesh.faces], VERTICES[FACES])


def test_ply_is_read_back_by_trimesh_with_colours(tmp_path: Path) -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 2, 3]], dtype=np.uint8)
    write_ply(tmp_path / "a.ply", VERTICES, FACES, colours=colours)
    mesh = trimesh.load(tmp_path / "a.ply", process=False)
    np.testing.assert_allclose(mesh.vertices, VERTICES)
    np.testing.assert_array_equal(mesh.faces, FACES)
    np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], colours)


def test_ply_without_colours(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", VERTICES, FACES)
    assert trimesh.load(tmp_path / "a.ply", process=False).vertices.shape == (4, 3)
