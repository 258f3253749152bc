from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from posekit.render.screen import screen_from_cameras
from posekit.render.views import Room, cast_shadow, empty_room, facing

UP = np.array([0.0, 1.0, 0.0])
FRONT = np.array([0.0, 0.0, 1.0])


def points(count: int = 200) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.uniform([-1.2, 0.1, -0.4], [0.8, 1.9, 0.9], (count, 3))


def test_people_face_away_from_their_backs() -> None:
    left, right = np.array([[0.1, 1, 0], [0.1, 1, 0.02]]), np.array([[-0.1, 1, 0], [-0.1, 1, -0.02]])
    direction = facing(left, right, UP)
    np.testing.assert_allclose(np.linalg.norm(direction), 1)
    assert direction @ FRONT > 0.99
    assert abs(facing(np.full((1, 3), np.nan), right[:1], UP) @ UP) < 1e-9  # nobody tells: any horizontal direction


@pytest.mark.parametrize("size", [(300, 200), (200, 300)])
@pytest.mark.parametrize(("azimuth", "elevation"), [(0.0, 0.1), (1.3, 0.3), (math.pi, 0.0), (0.4, math.pi / 2 - 0.02)])
def test_cameras_see_everything_and_not_much_more(size, azimuth, elevation) -> None:
    room = Room.around(points(), UP, FRONT)
    screen = screen_from_cameras(room.camera(size, azimuth=azimuth, elevation=elevation), torch.from_numpy(points()))
    pixels = screen[:, :2].numpy()
    assert (pixels >= 0).all()
    assert (pixels <= [size[1] - 1, size[0] - 1]).all()
    used = np.ptp(pixels, axis=0) / [size[1], size[0]]
    assert used.max() > 0.6


def test_front_view_shows_people_from_the_front_and_upright() -> None:
    room = Room.around(points(), UP, FRONT)
    camera = room.camera((200, 200))
    assert camera.centers().numpy() @ FRONT > 1
    places = torch.tensor([[0.0, 0.5, 0.0], [0.0, 1.5, 0.0], [0.5, 0.5, 0.0]], dtype=torch.float64)
    low, high, left = screen_from_cameras(camera, places)[:, :2].numpy()
    assert high[1] < low[1]
    assert left[0] > low[0]  # the person's left is on the right of the picture
    from_the_left = room.camera((200, 200), azimuth=math.pi / 2)
    assert from_the_left.centers()[0] > 1


def test_turntable_keeps_its_distance_and_sees_everything() -> None:
    room = Room.around(points(), UP, FRONT)
    away = room.turntable_distance((200, 200), 0.2)
    for azimuth in np.linspace(0, 6, 9):
        camera = room.camera((200, 200), azimuth=float(azimuth), elevation=0.2, distance=away)
        assert float(np.linalg.norm(camera.centers().numpy() - room.center)) == pytest.approx(away)
        pixels = screen_from_cameras(camera, torch.from_numpy(points()))[:, :2]
        assert bool(((pixels >= 0) & (pixels <= 199)).all())


def test_the_floor_lies_below_the_lowest_point() -> None:
    up = np.array([0.0, 0.0, -1.0])
    room = Room.around(points(), up, np.array([1.0, 0.0, 0.0]))
    assert room.floor == pytest.approx((points() @ up).min())
    with pytest.raises(ValueError, match="nothing to look at"):
        Room.around(np.full((4, 3), np.nan), up, FRONT)


def test_empty_rooms_are_light_with_darker_lines() -> None:
    room = Room.around(points(), UP, FRONT)
    image = empty_room(room, room.camera((240, 320)))
    assert image.shape == (240, 320, 3)
    assert image.min() > 140
    assert (image[-80:].max(-1) < 215).sum() > 50


def test_shadows_darken_the_floor_below_the_body(body_mesh, body_topology) -> None:
    vertices = body_mesh[0][None]
    room = Room.around(vertices.numpy(), UP, FRONT)
    camera = room.camera((240, 240), elevation=0.5)
    image = empty_room(room, camera)
    before = image.copy()
    cast_shadow(image, vertices, body_topology, room, camera)
    darker = (image.astype(int) - before).mean(-1) < -5
    assert 100 < darker.sum() < 0.3 * darker.size
    assert (image <= before).all()
    foot = torch.tensor([[0.0, room.floor, 0.0]], dtype=torch.float64)
    x, y = screen_from_cameras(camera, foot)[0, :2].round().int().tolist()
    assert darker[y - 15 : y + 16, x - 30 : x + 31].any()
