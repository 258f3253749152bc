from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from posekit.render.rasterizer import rasterize
from posekit.render.soft import SoftSettings, soft_mask
from posekit.render.topology import MeshTopology


def slow_soft_mask(vertices: Tensor, faces: Tensor, size: tuple[int, int], settings: SoftSettings) -> Tensor:
    """The definition, over all pairs of faces and pixels of one image, in plain autograd."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    pixel = torch.stack([x, y], -1).to(vertices.dtype).view(1, -1, 2)
    unit = (min(size) / 2) ** 2
    corners = vertices[faces][:, :, :2]
    nearest = torch.full((len(faces), size[0] * size[1]), torch.inf, dtype=vertices.dtype)
    sides = []
    for k in range(3):
        a, b = corners[:, k, None], corners[:, (k + 1) % 3, None]
        edge = b - a
        along = (((pixel - a) * edge).sum(-1) / (edge * edge).sum(-1)).clamp(0, 1)
        nearest = torch.minimum(nearest, (pixel - a - along[..., None] * edge).square().sum(-1))
        sides.append(edge[..., 0] * (pixel - a)[..., 1] - edge[..., 1] * (pixel - a)[..., 0])
    inside = torch.stack(sides).sign().sum(0).abs() == 3
    probability = torch.sigmoid(torch.where(inside, nearest, -nearest) / (settings.sigma * unit))
    probability = torch.where(inside | (nearest <= settings.blur * unit), probability, 0)
    return (1 - torch.prod(1 - probability, 0)).view(size)


def soup(count: int, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    place = torch.tensor([size[1], size[0], 2.0], dtype=torch.float64)
    middle = torch.rand(count, 1, 3, generator=generator, dtype=torch.float64) * place
    offset = torch.randn(count, 3, 3, generator=generator, dtype=torch.float64)
    vertices = middle + offset * torch.tensor([5.0, 5.0, 0.1], dtype=torch.float64)
    return vertices.view(-1, 3) + torch.tensor([0, 0, 2.0]), torch.arange(3 * count).view(-1, 3)


@pytest.mark.parametrize("size", [(32, 32), (21, 40)])
@pytest.mark.parametrize("sigma", [1e-4, 1e-3])
def test_agrees_with_the_definition(size, sigma) -> None:
    vertices, faces = soup(14, size)
    settings = SoftSettings(sigma=sigma)
    target = torch.rand(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for compute in (
        lambda points: soft_mask(points[None], MeshTopology.from_faces(faces), size, settings)[0],
        lambda points: slow_soft_mask(points, faces, size, settings),
    ):
        points = vertices.clone().requires_grad_()
        image = compute(points)
        (image * target).sum().backward()
        results.append((image.detach(), points.grad[:, :2]))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-9, rtol=0)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-9, rtol=1e-6)


def test_body_gradient_agrees_with_finite_differences(body_on_screen, body_topology) -> None:
    size = (48, 64)
    vertices = body_on_screen(1, size).double().requires_grad_()
    target = torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(points: Tensor) -> Tensor:
        return (soft_mask(points, body_topology, size) - target).square().sum()

    loss(vertices).backward()
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        direction = torch.randn(vertices.shape, generator=generator, dtype=torch.float64)
        # Larger steps meet the jump of 1e-4 at the cut-off.
        step = 1e-7
        with torch.no_grad():
            numeric = (loss(vertices + step * direction) - loss(vertices - step * direction)) / (2 * step)
        assert float((vertices.grad * direction).sum()) == pytest.approx(float(numeric), rel=1e-4)


def test_float32_agrees_with_float64_and_covers_the_body(body_on_screen, body_topology) -> None:
    vertices = body_on_screen(2, (64, 64))
    image = soft_mask(vertices, body_topology, (64, 64))
    torch.testing.assert_close(image, soft_mask(vertices.double(), body_topology, (64, 64)).float(), atol=1e-3, rtol=0)
    hard = rasterize(vertices, body_topology, (64, 64)).mask
    assert (image[hard] > 0.45).all()
    assert image.sum() > hard.sum()


def test_smaller_sigma_comes_closer_to_the_hard_mask(body_on_screen, body_topology) -> None:
    vertices = body_on_screen(1, (64, 64))
    hard = rasterize(vertices, body_topology, (64, 64)).mask.float()
    errors = [
        float((soft_mask(vertices, body_topology, (64, 64), SoftSettings(sigma=sigma)) - hard).abs().mean())
        for sigma in (1e-3, 1e-4, 1e-5)
    ]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("spoil", ["nan", "inf", "behind", "no area", "off the screen", "huge", "no faces"])
def test_broken_meshes_leave_finite_images_and_gradients(spoil) -> None:
    vertices, faces = soup(6, (24, 24))
    if spoil in ("nan", "inf"):
        vertices[4] = float(spoil)
    elif spoil == "behind":
        vertices[4, 2] = -1
    elif spoil == "no area":
        vertices[3:6] = vertices[3]
    elif spoil == "off the screen":
        vertices[:, 0] += 1000
    elif spoil == "huge":
        vertices[:3, :2] = (vertices[:3, :2] - 12) * 500
    else:
        faces = faces[:0]
    points = vertices.float()[None].requires_grad_()
    image = soft_mask(points, MeshTopology.from_faces(faces), (24, 24))
    image.square().sum().backward()
    assert image.isfinite().all()
    assert points.grad.isfinite().all()
    assert (points.grad[0, 3:6] == 0).all() or spoil == "huge"
    if spoil in ("off the screen", "no faces"):
        assert (image == 0).all()


def test_batch_of_none(body_topology) -> None:
    assert soft_mask(torch.zeros(0, 6890, 3), body_topology, (8, 9)).shape == (0, 8, 9)


def test_blur_is_the_distance_at_which_a_face_covers_the_cutoff() -> None:
    settings = SoftSettings(sigma=2e-4, cutoff=1e-3)
    assert 1 / (1 + math.exp(settings.blur / settings.sigma)) == pytest.approx(settings.cutoff)
