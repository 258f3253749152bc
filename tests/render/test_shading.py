from __future__ import annotations

import pytest
import torch

from posekit.render.shading import STUDIO, Light, Lighting, over, shade, vertex_normals
from posekit.render.topology import MeshTopology


def test_normals_of_the_body_are_unit_vectors_and_point_outwards(body_mesh, body_topology) -> None:
    vertices = body_mesh[0][None]
    normals = vertex_normals(vertices, body_topology)[0]
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(6890), atol=1e-4, rtol=0)
    grown = vertices + 1e-3 * normals
    assert volume(grown[0], body_mesh[1]) > volume(vertices[0], body_mesh[1])
    assert normals[body_mesh[0][:, 1].argmax(), 1] > 0.5


def volume(vertices: torch.Tensor, faces: torch.Tensor) -> float:
    a, b, c = vertices[faces].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def test_normals_turn_with_the_mesh(body_mesh, body_topology) -> None:
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    turn = turn * torch.linalg.det(turn)
    turned = vertex_normals(body_mesh[0][None] @ turn.T, body_topology)
    torch.testing.assert_close(turned, vertex_normals(body_mesh[0][None], body_topology) @ turn.T, atol=1e-4, rtol=0)


def test_vertices_without_area_have_no_normal_and_finite_gradients() -> None:
    vertices = torch.zeros(1, 4, 3, requires_grad=True)
    normals = vertex_normals(vertices, MeshTopology.from_faces(torch.tensor([[0, 1, 2]])))
    assert (normals == 0).all()
    normals.sum().backward()
    assert vertices.grad.isfinite().all()


def test_lambert_falls_with_the_cosine_and_stops_at_the_terminator() -> None:
    lighting = Lighting(ambient=0.1, lights=(Light((0.0, 0.0, -2.0), 0.8),))
    angle = torch.tensor([0.0, 60.0, 90.0, 150.0]).deg2rad()
    normals = torch.stack([angle.sin(), torch.zeros(4), -angle.cos()], -1)
    lit = shade(torch.ones(4, 3), normals, lighting)
    torch.testing.assert_close(lit[:, 0], torch.tensor([0.9, 0.5, 0.1, 0.1]))
    assert (shade(torch.ones(4, 3), normals, STUDIO) <= 1).all()


def test_ambient_alone_returns_the_colour() -> None:
    colors = torch.rand(5, 3)
    torch.testing.assert_close(shade(colors, torch.randn(5, 3), Lighting(1.0, ())), colors)


@pytest.mark.parametrize("background", [0.5, torch.tensor([0.5, 0.5, 0.5]), torch.full((4, 6, 3), 0.5)])
def test_over_mixes_by_coverage(background) -> None:
    alpha = torch.rand(4, 6)
    color = torch.rand(4, 6, 3)
    mixed = over(color * alpha[..., None], alpha, background)
    torch.testing.assert_close(mixed, color * alpha[..., None] + 0.5 * (1 - alpha[..., None]))
