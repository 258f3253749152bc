from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch

from posekit.body.smpl_file import BodyData, load_body
from posekit.body.surface import atlas_of
from posekit.camera_stack import stack_cameras
from posekit.render.rasterizer import rasterize
from posekit.render.topology import MeshTopology
from posekit.synthetic.bodies import Take, TakeRequest, perform, posed
from posekit.synthetic.rig import rig
from posekit.synthetic.scene import Look, Scene, Stage, View

WIDTH, POINTS = 320, 80


@lru_cache(maxsize=4)
def shown(action: str = "Greeting") -> tuple[BodyData, Take, Stage, np.ndarray, list[View]]:
    body = load_body()
    take = perform(body, TakeRequest(action, "S1", 1, 2, 10.0), seed=0)
    stage = Stage(rig("S1", WIDTH, 0), Look.of(0, "S1"))
    vertices = posed(body, take).vertices[0]
    scene = Scene(body, stage, take.seats)
    views = [scene.view(index, vertices, POINTS, np.random.default_rng(index)) for index in range(4)]
    return body, take, stage, vertices, views


def whole_mask(view: View, stage: Stage, index: int) -> np.ndarray:
    camera = stage.cameras[index]
    mask = np.zeros((camera.height, camera.width), np.uint8)
    x, y = view.origin
    mask[y : y + view.mask.shape[0], x : x + view.mask.shape[1]] = view.mask
    return mask


def test_masks_are_those_of_the_rasterizer() -> None:
    body, _, stage, vertices, views = shown()
    rigged = stack_cameras(stage.cameras)
    topology = MeshTopology.from_faces(torch.from_numpy(body.faces))
    world = torch.from_numpy(vertices)
    for index, view in enumerate(views):
        screen = torch.cat([rigged[index].project(world), rigged[index].camera_from_world(world)[:, 2:]], dim=1)
        camera = stage.cameras[index]
        expected = rasterize(screen[None], topology, (camera.height, camera.width)).mask[0].numpy()
        differs = (whole_mask(view, stage, index) > 0) != expected
        assert differs.sum() <= 3  # rounding at pixel centres
        assert view.mask[0].any() and view.mask[-1].any() and view.mask[:, 0].any() and view.mask[:, -1].any()


def test_correspondences_are_exact_projections_inside_the_mask() -> None:
    _, _, stage, vertices, views = shown()
    rigged = stack_cameras(stage.cameras)
    for index, view in enumerate(views):
        assert len(view.vertices) == POINTS == len(set(view.vertices.tolist()))
        exact = rigged[index].project(torch.from_numpy(vertices[view.vertices])).numpy()
        np.testing.assert_allclose(view.pixels, exact, atol=1e-9)
        columns, rows = np.rint(view.pixels).astype(int).T
        assert whole_mask(view, stage, index)[rows, columns].all()


def test_correspondences_are_visible() -> None:
    """No face lies well before a vertex on the line to the camera's centre (rays through all faces, by brute force)."""
    body, _, stage, vertices, views = shown()
    a, b, c = (vertices[body.faces[:, corner]] for corner in range(3))
    for index in (0, 2):
        centre = stack_cameras(stage.cameras)[index].centers().numpy()
        hidden = 0
        for vertex in views[index].vertices:
            ray = vertices[vertex] - centre
            normal = np.cross(b - a, c - a)
            with np.errstate(divide="ignore", invalid="ignore"):
                depth = ((a - centre) * normal).sum(axis=1) / (normal @ ray)
            at = centre + depth[:, None] * ray
            sides = [(np.cross(q - p, at - p) * normal).sum(axis=1) for p, q in ((a, b), (b, c), (c, a))]
            inside = np.minimum(np.minimum(sides[0], sides[1]), sides[2]) >= 0
            hidden += bool((inside & (depth > 0) & (depth < 1.0 - 0.015 / np.linalg.norm(ray))).any())
        assert hidden == 0


def test_iuv_agrees_with_the_atlas_at_the_correspondences() -> None:
    body, _, _, _, views = shown()
    part_of_vertex = atlas_of(body).vertex_part
    agreed, total = 0, 0
    for view in views:
        columns, rows = (np.rint(view.pixels).astype(int) - view.origin).T
        part = view.iuv[rows, columns, 0]
        assert (part > 0).all()
        agreed += int((part == part_of_vertex[view.vertices]).sum())
        total += len(part)
    assert agreed / total > 0.9  # vertices on borders belong to two parts
    np.testing.assert_array_equal(views[0].iuv[..., 0] > 0, views[0].mask > 0)


def test_points_are_spread_over_the_surface_not_over_the_vertices() -> None:
    body, _, stage, vertices, _ = shown()
    scene = Scene(body, stage)
    drawn = [scene.view(0, vertices, POINTS, np.random.default_rng(seed)).vertices for seed in range(12)]
    head = body.weights[:, 15] > 0.5
    # The head has over a quarter of all vertices and under a tenth of the surface.
    assert np.mean([head[choice].mean() for choice in drawn]) < 0.16


def test_people_stand_out_and_the_room_stays() -> None:
    _, _, stage, _, views = shown()
    for index, view in enumerate(views):
        empty = stage.pictures[index].astype(int)
        changed = np.abs(view.image.astype(int) - empty).max(axis=-1) > 8
        mask = whole_mask(view, stage, index) > 0
        assert changed[mask].mean() > 0.9
        assert changed[~mask].mean() < 0.05


def test_seats_hide_and_are_not_part_of_the_person() -> None:
    body, _, stage, vertices, views = shown("Sitting")
    bare = Scene(body, stage)
    hidden = 0
    for index, view in enumerate(views):
        free = whole_mask(bare.view(index, vertices, 5, np.random.default_rng(0)), stage, index) > 0
        mask = whole_mask(view, stage, index) > 0
        assert not (mask & ~free).any()
        hidden += int((free & ~mask).sum())
    assert hidden > 50


def test_same_random_numbers_same_view() -> None:
    body, take, stage, vertices, views = shown()
    again = Scene(body, stage, take.seats).view(1, vertices, POINTS, np.random.default_rng(1))
    for name in ("image", "origin", "mask", "iuv", "vertices", "pixels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(views[1], name))


@pytest.mark.parametrize("shift", [(0.0, 0.0, 60.0), (0.0, 30.0, 0.0)])
def test_nobody_in_the_picture(shift: tuple[float, float, float]) -> None:
    body, _, stage, vertices, _ = shown()
    view = Scene(body, stage).view(0, vertices + np.array(shift), POINTS, np.random.default_rng(0))
    assert view.mask.sum() == 0 and len(view.vertices) == 0 and view.iuv.shape == (1, 1, 3)


def test_people_at_the_border_are_cut() -> None:
    body, _, stage, vertices, _ = shown()
    camera = stack_cameras(stage.cameras)[0]
    side = camera.rotation[0].numpy() * 1.9
    view = Scene(body, stage).view(0, vertices + side, POINTS, np.random.default_rng(0))
    assert view.mask.sum() > 0
    assert view.origin[0] + view.mask.shape[1] == stage.cameras[0].width
    assert (view.pixels[:, 0] < stage.cameras[0].width).all()
