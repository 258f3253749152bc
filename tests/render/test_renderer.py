from __future__ import annotations

import importlib.util

import pytest
import torch

from posekit.errors import ConfigError, DependencyError
from posekit.render.pytorch3d_backend import ndc_from_screen
from posekit.render.renderer import Renderer
from posekit.render.soft import soft_mask

SIZE = (64, 80)
HAS_PYTORCH3D = importlib.util.find_spec("pytorch3d") is not None


@pytest.fixture
def vertex_colors() -> torch.Tensor:
    return torch.rand(1, 6890, 3, generator=torch.Generator().manual_seed(0))


def test_result_describes_the_scene(body_on_screen, body_mesh, vertex_colors) -> None:
    result = Renderer(body_mesh[1], SIZE).render(body_on_screen(2, SIZE), vertex_colors, background=0.25)
    assert result.rgb.shape == (2, *SIZE, 3)
    empty = result.alpha == 0
    assert empty.any()
    assert (result.rgb[empty] == 0.25).all()
    assert ((result.face >= 0) == result.depth.isfinite()).all()
    assert ((result.alpha >= 0) & (result.alpha <= 1)).all()
    assert result.depth[result.face >= 0].sub(4).abs().max() < 1


def test_colours_may_belong_to_vertices_faces_or_corners(body_on_screen, body_mesh, vertex_colors) -> None:
    vertices, faces = body_on_screen(1, SIZE), body_mesh[1]
    renderer = Renderer(faces, SIZE)
    by_vertex = renderer.render(vertices, vertex_colors).rgb
    torch.testing.assert_close(renderer.render(vertices, vertex_colors[:, faces]).rgb, by_vertex)
    face_colors = torch.rand(1, len(faces), 3)
    by_face = renderer.render(vertices, face_colors).rgb
    torch.testing.assert_close(renderer.render(vertices, face_colors[:, :, None].expand(-1, -1, 3, -1)).rgb, by_face)
    with pytest.raises(ValueError, match="colours of shape"):
        renderer.render(vertices, torch.rand(1, 17, 3))


@pytest.mark.parametrize("antialias", ["image", "gradient"])
def test_gradients_reach_vertices_colours_and_background(body_on_screen, body_mesh, vertex_colors, antialias) -> None:
    vertices = body_on_screen(1, SIZE).requires_grad_()
    colors = vertex_colors.clone().requires_grad_()
    background = torch.full((3,), 0.5, requires_grad=True)
    result = Renderer(body_mesh[1], SIZE, antialias=antialias).render(vertices, colors, background)
    (result.rgb.square().sum() + result.alpha.sum()).backward()
    for value in (vertices, colors, background):
        assert value.grad.isfinite().all()
        assert value.grad.abs().sum() > 0


def test_gradient_mode_keeps_hard_edges_but_moves_the_outline(body_on_screen, body_mesh, vertex_colors) -> None:
    for antialias, moves in (("none", False), ("gradient", True)):
        vertices = body_on_screen(1, SIZE).requires_grad_()
        result = Renderer(body_mesh[1], SIZE, antialias=antialias).render(vertices, vertex_colors)
        assert set(result.alpha.detach().unique().tolist()) == {0.0, 1.0}
        result.alpha.sum().backward()
        assert bool(vertices.grad.abs().sum() > 1) == moves


def test_soft_mode_has_the_coverage_of_softras(body_on_screen, body_mesh, vertex_colors) -> None:
    vertices = body_on_screen(1, SIZE)
    renderer = Renderer(body_mesh[1], SIZE, mode="soft")
    result = renderer.render(vertices, vertex_colors)
    torch.testing.assert_close(result.alpha, soft_mask(vertices, renderer.topology, SIZE))
    torch.testing.assert_close(result.rgb, Renderer(body_mesh[1], SIZE).render(vertices, vertex_colors).rgb)


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_orthographic_depth_of_any_sign(body_on_screen, body_mesh, vertex_colors, mode) -> None:
    vertices = body_on_screen(1, SIZE) - torch.tensor([0.0, 0.0, 4.0])
    result = Renderer(body_mesh[1], SIZE, mode=mode, perspective=False).render(vertices, vertex_colors)
    assert result.alpha.sum() > 300
    assert result.depth[result.face >= 0].min() < 0


@pytest.mark.parametrize("wrong", [{"mode": "blurry"}, {"antialias": "msaa"}, {"backend": "opengl"}])
def test_unknown_names_are_refused(body_mesh, wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong.values()))):
        Renderer(body_mesh[1], SIZE, **wrong)


@pytest.mark.skipif(HAS_PYTORCH3D, reason="PyTorch3D is installed")
def test_missing_pytorch3d_is_said_and_the_way_out(body_mesh) -> None:
    with pytest.raises(DependencyError, match="backend torch"):
        Renderer(body_mesh[1], SIZE, backend="pytorch3d")


def test_pytorch3d_coordinates_put_the_image_borders_at_one() -> None:
    """For (H, W) = (64, 80) the shorter side is y: its outer borders, at -0.5 and 63.5 px, are +1 and -1."""
    points = torch.tensor([[[39.5, -0.5, 2.0], [39.5, 63.5, 2.0], [-0.5, 31.5, 2.0]]])
    expected = torch.tensor([[[0.0, 1.0, 2.0], [0.0, -1.0, 2.0], [1.25, 0.0, 2.0]]])
    torch.testing.assert_close(ndc_from_screen(points, SIZE), expected)


@pytest.mark.extra
@pytest.mark.parametrize("perspective", [True, False])
def test_pytorch3d_draws_the_same(body_on_screen, body_mesh, vertex_colors, perspective) -> None:
    pytest.importorskip("pytorch3d")
    vertices = body_on_screen(2, SIZE)
    ours, theirs = (
        Renderer(body_mesh[1], SIZE, backend=backend, antialias=False, perspective=perspective).render(
            vertices, vertex_colors, background=0.3
        )
        for backend in ("torch", "pytorch3d")
    )
    assert (ours.face != theirs.face).float().mean() < 1e-3
    same = ours.face == theirs.face
    torch.testing.assert_close(ours.rgb[same], theirs.rgb[same], atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.depth[same], theirs.depth[same], atol=1e-4, rtol=0)
