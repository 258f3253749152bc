from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from posekit.body.smpl_file import BodyData, load_body
from posekit.body.surface import PART_COUNT, atlas_of
from posekit.camera_stack import stack_cameras
from posekit.labeling.surface_points import BodiesInView, SurfacePoints
from posekit.render.rasterizer import RasterSettings, rasterize
from posekit.render.shading import vertex_normals
from posekit.render.topology import MeshTopology
from posekit.synthetic.bodies import TakeRequest, perform, posed
from posekit.synthetic.rig import rig
from posekit.synthetic.scene import Look, Scene, Stage

CPU = torch.device("cpu")


@lru_cache(maxsize=1)
def model() -> tuple[BodyData, SurfacePoints, MeshTopology, torch.Tensor]:
    body = load_body()
    take = perform(body, TakeRequest("Greeting", "S1", 1, 2, 10.0), seed=0)
    vertices = torch.from_numpy(posed(body, take).vertices[0]).double()
    topology = MeshTopology.from_faces(torch.from_numpy(body.faces))
    return body, SurfacePoints(body, CPU), topology, vertices


def pinhole_view(
    distance: float, *, focal: float = 1000.0, perspective: bool = True, scale: float = 1.0
) -> BodiesInView:
    """The body from a camera that looks along the world's y axis, the world's z up, 1000 px wide."""
    _, _, topology, vertices = model()
    centred = vertices - vertices.mean(0)
    camera = torch.stack([centred[:, 0], -centred[:, 2], centred[:, 1] + distance], -1)
    divisor = camera[:, 2:] if perspective else torch.full_like(camera[:, 2:], distance)
    pixels = scale * (focal * camera[:, :2] / divisor + 500.0)
    normals = vertex_normals(camera.float()[None], topology)[0].double()
    sight = torch.nn.functional.normalize(-camera, dim=1) if perspective else camera.new_tensor([[0.0, 0.0, -1.0]])
    size = int(1000 * scale)
    screen = torch.cat([pixels, camera[:, 2:]], -1)[None]
    return BodiesInView(screen, (normals * sight).sum(1), perspective, (size, size))


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return len(np.intersect1d(one, other)) / len(np.union1d(one, other))


def test_no_vertex_lies_behind_the_surface() -> None:
    _, points, topology, _ = model()
    view = pinhole_view(4.0)
    seen = points.visible(view)
    assert 1500 < len(seen) < view.screen.shape[1] / 2
    fine = view.screen * view.screen.new_tensor([2.0, 2.0, 1.0])
    depth = rasterize(fine, topology, (2000, 2000), RasterSettings(cull_backfaces=True)).depth[0].numpy()
    columns, rows = np.rint(fine[0, seen, :2].numpy()).astype(int).T
    surface = depth[rows, columns]
    on = np.isfinite(surface)
    assert on.mean() > 0.98  # vertices of the outline, whose pixel rounds to the background
    behind = fine[0, seen, 2].numpy()[on] - surface[on]
    assert (behind < 0.02).mean() > 0.995 and behind.max() < 0.05


def test_the_studio_sees_the_same() -> None:
    body, points, topology, vertices = model()
    stage = Stage(rig("S1", 640, 0), Look.of(0, "S1"))
    part = atlas_of(body).vertex_part
    for index in (0, 2):
        studio = Scene(body, stage).view(index, vertices.numpy(), 10**6, np.random.default_rng(0)).vertices
        lens = stack_cameras(stage.cameras)[index]
        camera = lens.camera_from_world(vertices)
        normals = vertex_normals(camera.float()[None], topology)[0].double()
        facing = -(normals * torch.nn.functional.normalize(camera, dim=1)).sum(1)
        screen = torch.cat([lens.project(vertices), camera[:, 2:]], -1)[None]
        view = BodiesInView(screen, facing, True, (stage.cameras[index].width, stage.cameras[index].height))
        ours = points.visible(view)
        assert overlap(studio, ours) > 0.85
        theirs, mine = (np.bincount(part[seen], minlength=PART_COUNT + 1) / len(seen) for seen in (studio, ours))
        np.testing.assert_allclose(mine, theirs, atol=0.01)


def test_the_size_of_the_picture_does_not_matter() -> None:
    _, points, _, _ = model()
    assert overlap(points.visible(pinhole_view(4.0)), points.visible(pinhole_view(4.0, scale=0.1))) > 0.999


def test_weak_perspective_is_perspective_from_far() -> None:
    _, points, _, _ = model()
    far = points.visible(pinhole_view(400.0, focal=1e5))
    assert overlap(far, points.visible(pinhole_view(400.0, focal=1e5, perspective=False))) > 0.98


def test_others_hide_a_person_only_from_before() -> None:
    _, points, _, _ = model()
    view = pinhole_view(4.0)
    alone = points.visible(view)
    step = view.screen.new_tensor([0.0, 0.0, 0.5])
    behind = replace(view, screen=torch.cat([view.screen, view.screen + step]))
    np.testing.assert_array_equal(points.visible(behind), alone)
    before = replace(view, screen=torch.cat([view.screen, view.screen - step]))
    assert len(points.visible(before)) < 0.02 * len(alone)
    aside = view.screen + view.screen.new_tensor([1e4, 0.0, -1.0])
    np.testing.assert_array_equal(points.visible(replace(view, screen=torch.cat([view.screen, aside]))), alone)


def test_what_is_outside_the_picture_is_not_noted() -> None:
    _, points, _, _ = model()
    view = pinhole_view(4.0)
    left = replace(view, image_size=(500, 1000))
    before = view.screen.clone()
    seen = points.visible(left)
    assert (view.screen[0, seen, 0] <= 499.5).all()
    whole = points.visible(view)
    assert overlap(seen, whole[view.screen[0, whole, 0].numpy() <= 499.5]) > 0.9
    assert torch.equal(view.screen, before)
    assert not len(points.visible(replace(view, image_size=(10, 10))))


def test_behind_the_camera_nothing_is_seen() -> None:
    _, points, _, _ = model()
    assert not len(points.visible(pinhole_view(-4.0)))
    vertices, pixels = points.choose(pinhole_view(-4.0), 50, np.random.default_rng(0))
    assert vertices.shape == (0,) and pixels.shape == (0, 2)


def test_chosen_vertices_are_visible_and_pixels_exact() -> None:
    _, points, _, _ = model()
    view = pinhole_view(4.0)
    vertices, pixels = points.choose(view, 120, np.random.default_rng(3))
    assert len(set(vertices.tolist())) == 120 and set(vertices.tolist()) <= set(points.visible(view).tolist())
    np.testing.assert_array_equal(pixels, view.screen[0, vertices, :2].numpy())
    again, _ = points.choose(view, 120, np.random.default_rng(3))
    np.testing.assert_array_equal(again, vertices)
