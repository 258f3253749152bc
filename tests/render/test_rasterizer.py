from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from posekit.render.rasterizer import MAX_PIXELS, Fragments, RasterSettings, rasterize
from posekit.render.topology import MeshTopology

ORTHOGRAPHIC = RasterSettings(perspective=False)


def brute_force(
    vertices: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool = True, cull: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face (-1 for none), depth and barycentric coordinates of one image in float64, one face after another."""
    points, corners = vertices.double().numpy(), faces.numpy()
    face = np.full(size, -1)
    depth = np.full(size, np.inf)
    weights = np.zeros((*size, 3))
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float64)
    for number, (a, b, c) in enumerate(points[corners]):
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0 or (cull and area > 0) or (perspective and min(a[2], b[2], c[2]) <= 0):
            continue
        low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
        y0, y1 = max(int(np.floor(low[1])), 0), min(int(np.ceil(high[1])) + 1, size[0])
        x0, x1 = max(int(np.floor(low[0])), 0), min(int(np.ceil(high[0])) + 1, size[1])
        if y0 >= y1 or x0 >= x1:
            continue
        window = (slice(y0, y1), slice(x0, x1))
        x, y = columns[window], rows[window]
        edge = [((q[0] - x) * (r[1] - y) - (q[1] - y) * (r[0] - x)) / area for q, r in ((b, c), (c, a), (a, b))]
        share = np.stack(edge, -1)
        if perspective:
            share = share / points[corners[number], 2]
            share = share / share.sum(-1, keepdims=True)
        z = share @ points[corners[number], 2]
        nearer = (np.minimum(np.minimum(edge[0], edge[1]), edge[2]) >= 0) & (z < depth[window])
        face[window][nearer], depth[window][nearer], weights[window][nearer] = number, z[nearer], share[nearer]
    return face, depth, weights


def check_against_brute_force(fragments: Fragments, faces: Tensor, *, cull: bool = False, allowed: int = 0) -> None:
    perspective = fragments.settings.perspective
    for image in range(fragments.batch):
        face, depth, weights = brute_force(
            fragments.vertices[image].detach(), faces, fragments.image_size, perspective, cull
        )
        ours = fragments.pix_to_face[image].numpy()
        assert (ours != face).sum() <= allowed
        same = (ours == face) & (face >= 0)
        assert same.any()
        np.testing.assert_allclose(fragments.depth[image].detach().numpy()[same], depth[same], rtol=1e-5, atol=2e-6)
        np.testing.assert_allclose(fragments.barycentrics[image].detach().numpy()[same], weights[same], atol=2e-3)


@pytest.mark.parametrize("size", [(96, 96), (64, 112)])
@pytest.mark.parametrize("zoom", [1.0, 5.0])
def test_body_agrees_with_brute_force(body_on_screen, body_mesh, body_topology, size, zoom) -> None:
    vertices = body_on_screen(2, size, zoom=zoom)
    check_against_brute_force(rasterize(vertices, body_topology, size), body_mesh[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", [RasterSettings(), ORTHOGRAPHIC, RasterSettings(cull_backfaces=True)])
def test_soup_of_random_triangles_agrees_with_brute_force(settings, dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    vertices = torch.rand(3, 90, 3, generator=generator, dtype=dtype) * torch.tensor([60.0, 40.0, 3.0], dtype=dtype)
    vertices = vertices + torch.tensor([-10.0, -5.0, 0.5 if settings.perspective else -1.5], dtype=dtype)
    faces = torch.arange(90).view(30, 3)
    fragments = rasterize(vertices, MeshTopology.from_faces(faces), (30, 40), settings)
    assert fragments.weights.dtype == dtype
    check_against_brute_force(fragments, faces, cull=settings.cull_backfaces)


def test_chunks_do_not_change_the_result(body_on_screen, body_topology) -> None:
    vertices = body_on_screen(3)
    whole = rasterize(vertices, body_topology, (96, 96))
    pieces = rasterize(vertices, body_topology, (96, 96), RasterSettings(pairs_per_chunk=500))
    torch.testing.assert_close(pieces.pix_to_face, whole.pix_to_face, rtol=0, atol=0)


def test_images_of_a_batch_do_not_depend_on_each_other(body_on_screen, body_topology) -> None:
    vertices = body_on_screen(3)
    together = rasterize(vertices, body_topology, (96, 96))
    alone = rasterize(vertices[1:2], body_topology, (96, 96))
    torch.testing.assert_close(together.depth[1:2], alone.depth, rtol=0, atol=0)


@pytest.mark.parametrize("aligned", [True, False])
def test_grids_have_no_holes(grid_mesh, aligned) -> None:
    points, faces = grid_mesh(25, 25)
    generator = torch.Generator().manual_seed(3)
    jitter = torch.rand(8, len(points), 2, generator=generator) * 0.8
    if aligned:  # a third of the coordinates on pixel centres
        jitter = torch.where(torch.rand(jitter.shape, generator=generator) < 0.3, jitter.round(), jitter)
    screen = (points + jitter) * 3 - 4
    vertices = torch.cat([screen, torch.ones(8, len(points), 1)], -1)
    mask = rasterize(vertices, MeshTopology.from_faces(faces), (70, 70)).mask
    assert mask.all()


def test_pixel_centres_are_whole_numbers() -> None:
    square = torch.tensor([[[2.0, 1.0, 1.0], [5.0, 1.0, 1.0], [2.0, 3.0, 1.0], [5.0, 3.0, 1.0]]])
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])
    mask = rasterize(square, MeshTopology.from_faces(faces), (6, 8)).mask[0]
    expected = torch.zeros(6, 8, dtype=torch.bool)
    expected[1:4, 2:6] = True
    assert (mask == expected).all()


@pytest.mark.parametrize("settings", [RasterSettings(), ORTHOGRAPHIC])
def test_equal_depth_goes_to_the_lower_face(settings) -> None:
    one = torch.tensor([[0.0, 0.0, 2.0], [9.0, 0.0, 2.0], [0.0, 9.0, 2.0]])
    faces = torch.tensor([[0, 1, 2], [2, 1, 0], [0, 1, 2]])
    seen = rasterize(one[None], MeshTopology.from_faces(faces), (8, 8), settings)
    assert (seen.faces == 0).all()
    assert seen.faces.numel() > 20


def test_orthographic_depth_may_be_negative() -> None:
    near = torch.tensor([[0.0, 0.0, -5.0], [9.0, 0.0, -5.0], [0.0, 9.0, -5.0]])
    vertices = torch.cat([near + torch.tensor([0.0, 0.0, 9.0]), near, near + torch.tensor([0.0, 0.0, 1.0])])[None]
    seen = rasterize(vertices, MeshTopology.from_faces(torch.arange(9).view(3, 3)), (5, 5), ORTHOGRAPHIC)
    assert (seen.faces == 1).all()
    assert (seen.depth[seen.mask] == -5).all()


def test_faces_behind_or_at_the_camera_are_dropped() -> None:
    triangle = torch.tensor([[0.0, 0.0, 1.0], [9.0, 0.0, 1.0], [0.0, 9.0, -1.0]])
    assert not rasterize(triangle[None], MeshTopology.from_faces(torch.tensor([[0, 1, 2]])), (8, 8)).mask.any()


def broken_meshes() -> list[tuple[str, Tensor, Tensor]]:
    triangle = torch.tensor([[1.0, 1.0, 2.0], [6.0, 1.0, 2.0], [1.0, 6.0, 2.0]])
    faces = torch.tensor([[0, 1, 2]])
    cases = [
        (f"{name} in coordinate {axis}", triangle.clone(), faces)
        for axis in range(3)
        for name in ("nan", "inf", "-inf")
    ]
    for name, vertices, _ in cases:
        value, axis = name.split()[0], int(name.split()[-1])
        vertices[1, axis] = float(value)
    return [
        *cases,
        ("overflow", triangle * 1e30, faces),
        ("no area", triangle * torch.tensor([1.0, 0.0, 1.0]), faces),
        ("a point", triangle[:1].repeat(3, 1), faces),
        ("one vertex thrice", triangle, torch.tensor([[1, 1, 1]])),
        ("no faces", triangle, torch.empty(0, 3, dtype=torch.int64)),
        ("no vertices", triangle[:0], torch.empty(0, 3, dtype=torch.int64)),
        ("off the screen", triangle + torch.tensor([100.0, 0.0, 0.0]), faces),
    ]


@pytest.mark.parametrize("settings", [RasterSettings(), ORTHOGRAPHIC])
@pytest.mark.parametrize(("name", "vertices", "faces"), broken_meshes(), ids=lambda value: str(value)[:25])
def test_what_cannot_be_seen_leaves_an_empty_image_and_no_gradient(name, vertices, faces, settings) -> None:
    vertices = vertices[None].clone().requires_grad_()
    fragments = rasterize(vertices, MeshTopology.from_faces(faces), (8, 9), settings)
    assert not fragments.mask.any(), name
    assert fragments.depth.shape == (1, 8, 9)
    image = fragments.image(fragments.interpolate(vertices), background=0.5)
    image.sum().backward()
    assert (image == 0.5).all()
    assert (vertices.grad == 0).all()


def test_broken_face_does_not_hide_the_others() -> None:
    triangle = torch.tensor([[1.0, 1.0, 2.0], [6.0, 1.0, 2.0], [1.0, 6.0, 2.0]])
    broken = triangle.clone()
    broken[0] = torch.nan
    vertices = torch.cat([broken, triangle])[None].requires_grad_()
    fragments = rasterize(vertices, MeshTopology.from_faces(torch.arange(6).view(2, 3)), (8, 8))
    assert (fragments.faces == 1).all()
    fragments.visible_depth.sum().backward()
    assert vertices.grad.isfinite().all()


def test_one_triangle_may_cover_everything() -> None:
    vertices = torch.tensor([[[-1e5, -1e5, 3.0], [3e5, -1e5, 3.0], [-1e5, 3e5, 3.0]]])
    fragments = rasterize(vertices, MeshTopology.from_faces(torch.tensor([[0, 1, 2]])), (50, 60))
    assert fragments.mask.all()
    torch.testing.assert_close(fragments.depth, torch.full((1, 50, 60), 3.0))


def test_camera_inside_the_body_stays_finite(body_on_screen, body_topology) -> None:
    vertices = body_on_screen(1, zoom=3.0)
    vertices[..., 2] -= 4.0
    vertices.requires_grad_()
    fragments = rasterize(vertices, body_topology, (96, 96))
    fragments.interpolate(torch.ones(1, 6890, 1)).sum().backward()
    assert fragments.faces.numel() > 0
    assert vertices.grad.isfinite().all()


def test_batch_of_none_and_expanded_batches(body_on_screen, body_topology) -> None:
    vertices = body_on_screen(1)
    empty = rasterize(vertices[:0], body_topology, (20, 30))
    assert empty.depth.shape == (0, 20, 30)
    assert empty.image(empty.interpolate(vertices)).shape == (0, 20, 30, 3)
    twice = rasterize(vertices.expand(2, -1, -1), body_topology, (96, 96))
    strided = rasterize(vertices.mT.contiguous().mT, body_topology, (96, 96))
    torch.testing.assert_close(twice.pix_to_face[1:], strided.pix_to_face, rtol=0, atol=0)


def test_image_without_pixels(body_on_screen, body_topology) -> None:
    assert rasterize(body_on_screen(1), body_topology, (0, 7)).depth.shape == (1, 0, 7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_are_computed_in_float32(body_on_screen, body_topology, dtype) -> None:
    vertices = body_on_screen(1).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fragments = rasterize(vertices, body_topology, (96, 96))
    assert fragments.visible_depth.dtype == torch.float32
    reference = rasterize(vertices.float(), body_topology, (96, 96))
    torch.testing.assert_close(fragments.depth, reference.depth, rtol=0, atol=0)


def test_too_few_vertices_and_too_large_images_are_refused(body_topology) -> None:
    with pytest.raises(ValueError, match="6890 vertices"):
        rasterize(torch.zeros(1, 100, 3), body_topology, (8, 8))
    with pytest.raises(ValueError, match="at most"):
        rasterize(torch.zeros(1, 6890, 3), body_topology, (MAX_PIXELS, 2))


def two_triangles() -> tuple[Tensor, MeshTopology]:
    vertices = torch.tensor(
        [[[1.2, 1.1, 2.0], [13.7, 2.3, 3.0], [3.17, 12.6, 4.0], [14.2, 13.4, 2.5], [8.0, 0.3, 1.5]]],
        dtype=torch.float64,
    )
    return vertices, MeshTopology.from_faces(torch.tensor([[0, 1, 2], [1, 2, 3], [0, 3, 4]]))


@pytest.mark.parametrize("settings", [RasterSettings(), ORTHOGRAPHIC])
def test_gradients_agree_with_finite_differences(settings) -> None:
    vertices, topology = two_triangles()
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(1, 5, 4, generator=generator, dtype=torch.float64)
    corner = torch.rand(1, 3, 3, 2, generator=generator, dtype=torch.float64)
    reference = rasterize(vertices, topology, (16, 16), settings)
    mix = torch.rand(reference.faces.numel(), 7, generator=generator, dtype=torch.float64)

    def measure(points: Tensor, vertex_colors: Tensor, corner_values: Tensor) -> Tensor:
        seen = rasterize(points, topology, (16, 16), settings)
        assert seen.faces.shape == reference.faces.shape
        values = [seen.interpolate(vertex_colors), seen.interpolate_corners(corner_values), seen.visible_depth[:, None]]
        return (torch.cat(values, 1) * mix).sum()

    inputs = [value.requires_grad_() for value in (vertices, colors, corner)]
    assert torch.autograd.gradcheck(measure, inputs, eps=1e-6, atol=1e-7)


def test_interpolation_is_exact_for_linear_functions_of_space(body_on_screen, body_topology) -> None:
    """Perspective-correct blending of the camera-frame position itself must land on the pixel's ray."""
    vertices = body_on_screen(1)
    space = torch.cat([vertices[..., :2] * vertices[..., 2:], vertices[..., 2:]], -1)
    seen = rasterize(vertices, body_topology, (96, 96))
    point = seen.interpolate(space)
    place = torch.stack([seen.pixels % 96, seen.pixels // 96], -1)
    torch.testing.assert_close(point[:, :2] / point[:, 2:], place.float(), atol=1e-3, rtol=0)


def test_face_and_corner_attributes_reach_their_faces() -> None:
    vertices, topology = two_triangles()
    seen = rasterize(vertices.repeat(2, 1, 1), topology, (16, 16))
    number = torch.arange(3, dtype=torch.float64).view(1, 3, 1)
    torch.testing.assert_close(seen.gather_faces(number).squeeze(1), seen.faces.double())
    per_image = torch.cat([number, number + 10])
    image = seen.image(seen.gather_faces(per_image), background=-1.0).squeeze(-1)
    torch.testing.assert_close(image[1], torch.where(image[0] < 0, image[0], image[0] + 10))
    corner = per_image[:, :, None].expand(-1, -1, 3, -1)
    torch.testing.assert_close(seen.interpolate_corners(corner), seen.gather_faces(per_image))


def test_image_takes_numbers_colours_and_pictures_as_background() -> None:
    vertices, topology = two_triangles()
    seen = rasterize(vertices, topology, (20, 18))
    values = torch.ones(seen.faces.numel(), 3)
    picture = torch.rand(1, 20, 18, 3)
    for background in (0.25, torch.tensor([0.1, 0.2, 0.3]), picture):
        image = seen.image(values, background)
        expected = torch.as_tensor(background).expand(1, 20, 18, 3)
        assert (image[seen.mask] == 1).all()
        torch.testing.assert_close(image[~seen.mask], expected[~seen.mask])


@pytest.mark.gpu
def test_cuda_finds_the_same_faces(body_on_screen, body_topology) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    vertices = body_on_screen(2)
    there = rasterize(vertices.cuda(), body_topology.to(torch.device("cuda")), (96, 96))
    here = rasterize(vertices, body_topology, (96, 96))
    assert (there.pix_to_face.cpu() != here.pix_to_face).sum() <= 2
