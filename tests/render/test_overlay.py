from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit.render.overlay import MeshPainter
from posekit.render.rasterizer import rasterize


@pytest.fixture
def painter(body_mesh) -> MeshPainter:
    return MeshPainter(body_mesh[1], opacity=0.75)


def frame(height: int = 96, width: int = 120) -> np.ndarray:
    return np.full((height, width, 3), 60, np.uint8)


def test_paint_changes_the_covered_pixels_only(body_on_screen, body_topology, painter) -> None:
    screen = body_on_screen(1, (96, 120))
    picture = frame()
    painter.paint(picture, screen, screen, [(200, 200, 250)])
    mask = rasterize(screen, body_topology, (96, 120)).mask[0]
    grown = torch.nn.functional.max_pool2d(mask[None].float(), 3, 1, 1)[0] > 0
    shrunk = -torch.nn.functional.max_pool2d(-mask[None].float(), 3, 1, 1)[0] > 0
    changed = torch.from_numpy((picture != 60).any(-1))
    assert not changed[~grown].any()
    assert changed[shrunk].float().mean() > 0.98


def test_shading_shows_the_form(body_on_screen, painter) -> None:
    screen = body_on_screen(1, (96, 120))
    picture = frame()
    painter.paint(picture, screen, screen * torch.tensor([0.01, 0.01, 1.0]), [(220, 220, 220)])
    values = picture[(picture != 60).any(-1)].mean(-1)
    assert values.std() > 8


def test_nearer_people_hide_farther_ones(body_on_screen, painter) -> None:
    near = body_on_screen(1, (96, 120))
    far = near + torch.tensor([4.0, 0.0, 3.0])
    order = []
    for people in ((near, far), (far, near)):
        picture = frame()
        colors = [(255, 0, 0), (0, 0, 255)] if people[0] is near else [(0, 0, 255), (255, 0, 0)]
        screen = torch.cat(people)
        painter.paint(picture, screen, screen, colors)
        order.append(picture)
    assert (order[0] == order[1]).mean() > 0.999
    middle = near[0, :, :2].mean(0).round().int()
    assert order[0][middle[1], middle[0], 0] > order[0][middle[1], middle[0], 2]


@pytest.mark.parametrize("place", ["off", "partly off", "behind", "nan", "nobody"])
def test_people_outside_the_frame_are_no_trouble(body_on_screen, painter, place) -> None:
    screen = body_on_screen(1, (96, 120))
    if place == "off":
        screen[..., 0] += 5000
    elif place == "partly off":
        screen[..., 0] += 60
    elif place == "behind":
        screen[..., 2] *= -1
    elif place == "nan":
        screen[:] = torch.nan
    else:
        screen = screen[:0]
    picture = frame()
    painter.paint(picture, screen, screen, [(200, 200, 250)] * len(screen))
    assert bool((picture != 60).any()) == (place == "partly off")


def test_frames_of_a_crop_show_the_crop_of_the_painted_frame(body_on_screen, painter) -> None:
    screen = body_on_screen(1, (96, 120)).double()
    whole, crop = frame(), frame()[20:70, 30:90].copy()
    painter.paint(whole, screen, screen, [(200, 200, 250)])
    painter.paint(crop, screen - torch.tensor([30.0, 20.0, 0.0]), screen, [(200, 200, 250)])
    inner = np.s_[1:-1, 1:-1]
    assert (whole[20:70, 30:90][inner] == crop[inner]).mean() > 0.99


def test_orthographic_bodies_with_depths_of_any_sign(body_on_screen, painter) -> None:
    screen = body_on_screen(1, (96, 120)) - torch.tensor([0.0, 0.0, 4.0])
    picture = frame()
    painter.paint(picture, screen, screen, [(200, 200, 250)], perspective=False)
    assert (picture != 60).any(-1).sum() > 500


def test_faces_may_bring_their_own_colours(body_on_screen, body_mesh) -> None:
    red = torch.tensor([[1.0, 0.0, 0.0]]).expand(len(body_mesh[1]), 3)
    painter = MeshPainter(body_mesh[1], opacity=1.0, face_colors=red)
    screen = body_on_screen(2, (96, 120))
    picture = np.zeros((96, 120, 3), np.uint8)
    painter.paint(picture, screen, screen, [(0, 255, 0)] * 2)
    assert picture[..., 0].max() > 50
    assert picture[..., 1:].max() == 0
