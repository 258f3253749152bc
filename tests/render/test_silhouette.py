from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from posekit.render.rasterizer import RasterSettings, rasterize
from posekit.render.silhouette import antialias, antialias_mask
from posekit.render.topology import MeshTopology

SIZE = (96, 96)


def supersampled(
    vertices: Tensor, topology: MeshTopology, size: tuple[int, int], factor: int, colors: Tensor | None = None
) -> Tensor:
    """Coverage, or premultiplied colour and coverage, averaged over factor x factor samples of each pixel."""
    fine = torch.cat([(vertices[..., :2] + 0.5) * factor - 0.5, vertices[..., 2:]], -1)
    seen = rasterize(fine, topology, (size[0] * factor, size[1] * factor))
    ones = seen.weights.new_ones(seen.faces.numel(), 1)
    values = ones if colors is None else torch.cat([seen.interpolate(colors), ones], 1)
    image = seen.image(values)
    batch, _, _, channels = image.shape
    return image.view(batch, size[0], factor, size[1], factor, channels).mean((2, 4))


def smooth_directions(vertices: Tensor, count: int) -> Tensor:
    """Displacements on the screen that vary slowly over the body."""
    generator = torch.Generator().manual_seed(5)
    directions = []
    for _ in range(count):
        wave = torch.randn(2, 2, generator=generator) * 0.06
        phase = torch.rand(2, generator=generator) * 2 * math.pi
        shift = torch.sin(vertices[..., :2] @ wave + phase)
        directions.append(torch.cat([shift, torch.zeros_like(shift[..., :1])], -1))
    return torch.stack(directions)


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()))


def target_disk(size: tuple[int, int]) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return torch.exp(-((x - 0.4 * size[1]) ** 2 + (y - 0.45 * size[0]) ** 2) / (0.3 * size[0]) ** 2)


@pytest.mark.parametrize("loss_kind", ["squared difference to a shifted body", "linear"])
def test_mask_gradient_agrees_with_a_supersampled_image(body_on_screen, body_topology, loss_kind) -> None:
    vertices = body_on_screen(1, SIZE).requires_grad_()
    shifted = supersampled(vertices.detach() + torch.tensor([3.0, -2.0, 0.0]), body_topology, SIZE, 4).squeeze(-1)

    def loss(mask: Tensor) -> Tensor:
        return (mask * target_disk(SIZE)).sum() if loss_kind == "linear" else (mask - shifted).square().sum()

    loss(antialias_mask(rasterize(vertices, body_topology, SIZE))).backward()
    directions = smooth_directions(vertices.detach(), 10)
    analytic = (vertices.grad * directions).sum((1, 2, 3))

    def exact(points: Tensor) -> float:
        return float(loss(supersampled(points, body_topology, SIZE, 12).squeeze(-1)))

    step = 0.15
    numeric = torch.tensor(
        [(exact(vertices.detach() + step * d) - exact(vertices.detach() - step * d)) / (2 * step) for d in directions]
    )
    assert cosine(analytic, numeric) >= 0.99
    assert 0.93 < analytic.norm() / numeric.norm() < 1.07


def test_colour_gradient_agrees_with_a_supersampled_image(body_on_screen, body_topology) -> None:
    vertices = body_on_screen(1, SIZE, seed=3).requires_grad_()
    wave = 0.1 * torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    colors = (0.5 + 0.5 * torch.sin(vertices.detach()[..., :2] @ wave)).clamp(0, 1)
    target = torch.stack([target_disk(SIZE), 0.3 + 0 * target_disk(SIZE), 1 - target_disk(SIZE)], -1)

    def image(points: Tensor) -> Tensor:
        seen = rasterize(points, body_topology, SIZE)
        values = torch.cat([seen.interpolate(colors), seen.weights.new_ones(seen.faces.numel(), 1)], 1)
        return antialias(seen.image(values), seen)[..., :3]

    (image(vertices) - target).square().sum().backward()
    directions = smooth_directions(vertices.detach(), 12)
    analytic = (vertices.grad * directions).sum((1, 2, 3))

    def loss(points: Tensor) -> float:
        return float((supersampled(points, body_topology, SIZE, 12, colors)[..., :3] - target).square().sum())

    step = 0.15
    numeric = torch.tensor(
        [(loss(vertices.detach() + step * d) - loss(vertices.detach() - step * d)) / (2 * step) for d in directions]
    )
    assert cosine(analytic, numeric) >= 0.95


def test_mask_is_closer_to_the_true_coverage_than_the_hard_one(body_on_screen, body_topology) -> None:
    vertices = body_on_screen(2, SIZE)
    seen = rasterize(vertices, body_topology, SIZE)
    truth = supersampled(vertices, body_topology, SIZE, 12).squeeze(-1)
    border = (truth > 0) & (truth < 1)
    soft_error = (antialias_mask(seen) - truth)[border].abs().mean()
    hard_error = (seen.mask.float() - truth)[border].abs().mean()
    assert soft_error < 0.25 * hard_error
    assert abs(antialias_mask(seen).sum() / truth.sum() - 1) < 0.01


def test_colours_are_closer_to_the_truth_and_the_inside_keeps_its_values(body_on_screen, body_topology) -> None:
    vertices = body_on_screen(1, SIZE)
    colors = torch.ones(1, 6890, 3)
    seen = rasterize(vertices, body_topology, SIZE)
    values = torch.cat([seen.interpolate(colors), seen.weights.new_ones(seen.faces.numel(), 1)], 1)
    hard = seen.image(values)
    smooth = antialias(hard, seen)
    truth = supersampled(vertices, body_topology, SIZE, 12, colors)
    border = (truth[..., 3] > 0) & (truth[..., 3] < 1)
    assert (smooth - truth)[border].abs().mean() < 0.35 * (hard - truth)[border].abs().mean()
    inside = torch.nn.functional.avg_pool2d(seen.mask.float(), 5, 1, 2) == 1
    torch.testing.assert_close(smooth[inside], hard[inside])


@pytest.mark.parametrize("perspective", [True, False])
def test_nearer_square_over_a_farther_one_blends_by_its_share(perspective) -> None:
    """A red square whose right border lies at x = 7.8 covers 30 % of the pixel column 8 (7.5 to 8.5)."""
    square = torch.tensor([[-20.0, -20.0], [7.8, -20.0], [-20.0, 40.0], [7.8, 40.0]])
    behind = torch.tensor([[-20.0, -20.0], [40.0, -20.0], [-20.0, 40.0], [40.0, 40.0]])
    depth = torch.tensor([[1.0]] * 4 + [[2.0]] * 4)
    vertices = torch.cat([torch.cat([square, behind]), depth], 1)[None].requires_grad_()
    faces = torch.tensor([[0, 1, 2], [1, 3, 2], [4, 5, 6], [5, 7, 6]])
    seen = rasterize(vertices, MeshTopology.from_faces(faces), (10, 16), RasterSettings(perspective=perspective))
    red = torch.tensor([[[1.0]] * 4 + [[0.0]] * 4]).view(1, 8, 1)
    image = antialias(seen.image(seen.interpolate(red)), seen)[0, :, :, 0]
    torch.testing.assert_close(image[:, 8], torch.full((10,), 0.3), atol=1e-4, rtol=0)
    torch.testing.assert_close(image[:, :8], torch.ones(10, 8))
    torch.testing.assert_close(image[:, 9:], torch.zeros(10, 7))
    image.sum().backward()
    # Moving the border by a pixel adds one pixel in each of the ten rows.
    assert vertices.grad[0, [1, 3], 0].sum() == pytest.approx(10.0, rel=1e-3)


def test_farther_edge_does_not_show_through_a_nearer_surface() -> None:
    behind = torch.tensor([[2.0, 2.0, 2.0], [7.8, 2.0, 2.0], [2.0, 9.0, 2.0], [7.8, 9.0, 2.0]])
    front = torch.tensor([[-9.0, -9.0, 1.0], [40.0, -9.0, 1.0], [-9.0, 40.0, 1.0], [40.0, 40.0, 1.0]])
    faces = torch.tensor([[0, 1, 2], [1, 3, 2], [4, 5, 6], [5, 7, 6]])
    seen = rasterize(torch.cat([behind, front])[None], MeshTopology.from_faces(faces), (12, 12))
    image = seen.image(torch.ones(seen.faces.numel(), 1))
    torch.testing.assert_close(antialias(image, seen), image)


def test_images_of_a_batch_do_not_depend_on_each_other(body_on_screen, body_topology) -> None:
    vertices = body_on_screen(3, SIZE)
    vertices[2] = vertices[2] * 3
    vertices[2, 7] = torch.inf
    together = rasterize(vertices, body_topology, SIZE)
    alone = rasterize(vertices[:1], body_topology, SIZE)
    for smooth in (antialias_mask, lambda seen: antialias(seen.image(seen.weights.t()), seen)):
        torch.testing.assert_close(smooth(together)[:1], smooth(alone), rtol=0, atol=0)


@pytest.mark.parametrize("spoil", ["nan", "inf", "behind", "degenerate", "far away"])
def test_broken_vertices_leave_finite_images_and_gradients(body_on_screen, body_topology, spoil) -> None:
    vertices = body_on_screen(1, (48, 64))
    if spoil in ("nan", "inf"):
        vertices[:, ::50] = float(spoil)
    elif spoil == "behind":
        vertices[:, ::50, 2] = -1.0
    elif spoil == "degenerate":
        vertices[:, 3000:] = vertices[:, :1]
    else:
        vertices[:, ::50, :2] += 1e7
    vertices.requires_grad_()
    seen = rasterize(vertices, body_topology, (48, 64))
    mask, image = antialias_mask(seen), antialias(seen.image(seen.weights.t()), seen)
    assert mask.isfinite().all()
    assert image.isfinite().all()
    (mask.square().sum() + image.square().sum()).backward()
    assert vertices.grad.isfinite().all()


def test_empty_images_stay_connected_to_the_graph(body_on_screen, body_topology) -> None:
    vertices = (body_on_screen(1, SIZE) + torch.tensor([500.0, 0.0, 0.0])).requires_grad_()
    seen = rasterize(vertices, body_topology, SIZE)
    image = antialias(seen.image(seen.interpolate(vertices)), seen)
    (antialias_mask(seen).sum() + image.sum()).backward()
    assert (vertices.grad == 0).all()
    none = rasterize(vertices[:0], body_topology, SIZE)
    assert antialias_mask(none).shape == (0, *SIZE)


def test_fit_by_silhouette_finds_shift_and_scale(body_on_screen, body_topology) -> None:
    truth = body_on_screen(1, SIZE)
    target = antialias_mask(rasterize(truth, body_topology, SIZE))
    shift = torch.tensor([3.0, -2.0], requires_grad=True)
    scale = torch.tensor(1.06, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": [shift], "lr": 0.2}, {"params": [scale], "lr": 0.005}])
    middle = torch.tensor([47.5, 47.5])
    for _ in range(80):
        screen = torch.cat([(truth[..., :2] - middle) * scale + middle + shift, truth[..., 2:]], -1)
        loss = (antialias_mask(rasterize(screen, body_topology, SIZE)) - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert shift.abs().max() < 0.1
    assert abs(float(scale.detach()) - 1) < 0.01
