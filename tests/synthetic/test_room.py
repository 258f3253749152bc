from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from posekit.camera_stack import stack_cameras
from posekit.synthetic.light import random_light
from posekit.synthetic.rig import rig
from posekit.synthetic.room import FREE_RADIUS, HALF_SIZE, Box, background, random_room

WIDTH = 200


def test_furniture_stands_inside_and_out_of_the_way() -> None:
    for seed in range(20):
        room = random_room(seed, "S1")
        for box in room.boxes:
            assert (np.abs(box.low[:2]) <= HALF_SIZE).all() and (np.abs(box.high[:2]) <= HALF_SIZE).all()
            assert box.low[2] == 0.0 and (box.high > box.low).all()
            nearest = np.clip(0.0, box.low[:2], box.high[:2])
            assert np.abs(nearest).max() >= FREE_RADIUS - 0.01


def test_pictures_are_the_same_each_time_and_differ_between_subjects() -> None:
    camera, light = rig("S1", WIDTH, 0)[0], random_light(0, "S1")
    first = background(random_room(0, "S1"), camera, light)
    assert first.shape == (camera.height, camera.width, 3) and np.isfinite(first).all() and first.min() >= 0
    np.testing.assert_array_equal(first, background(random_room(0, "S1"), camera, light))
    assert np.abs(first - background(random_room(0, "S5"), camera, light)).mean() > 0.01


def test_boxes_appear_where_the_cameras_project_them() -> None:
    light, empty = random_light(0, "S1"), replace(random_room(0, "S1"), boxes=())
    box = Box(np.array([-0.2, -0.2, 0.6]), np.array([0.2, 0.2, 1.0]), (1.0, 0.0, 0.0))
    corners = np.array([[x, y, z] for x in (-0.2, 0.2) for y in (-0.2, 0.2) for z in (0.6, 1.0)])
    cameras = rig("S1", WIDTH, 0)
    seen = stack_cameras(cameras).project(torch.from_numpy(corners)).numpy()
    for camera, pixels in zip(cameras, seen, strict=True):
        without, filled = (background(room, camera, light) for room in (empty, replace(empty, boxes=(box,))))
        rows, columns = np.nonzero(np.abs(filled - without).max(axis=-1) > 1e-3)
        found = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
        wanted = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
        np.testing.assert_allclose(found, wanted, atol=1.5)


def test_the_floor_is_one_plane_for_all_cameras() -> None:
    """Tiles seen by two cameras have the same colour, up to what light and blur change."""
    room = replace(random_room(0, "S1"), boxes=())
    light = random_light(0, "S1")
    points = np.stack([*np.random.default_rng(0).uniform(-1.5, 1.5, (2, 400)), np.zeros(400)], axis=1)
    cameras = rig("S1", 500, 0)
    pixels = stack_cameras(cameras).project(torch.from_numpy(points)).numpy()
    inside = ((pixels > 2) & (pixels < 497)).all(axis=(0, 2))
    tones = []
    for camera, place in zip(cameras, pixels, strict=True):
        columns, rows = np.rint(place[inside]).astype(int).T
        tones.append(background(room, camera, light)[rows, columns].mean(axis=1))
    assert np.corrcoef(tones)[np.triu_indices(4, 1)].min() > 0.75


def test_a_lens_without_distortion_sees_the_same_room_as_one_whose_distortion_is_zero() -> None:
    # The one looks for furniture where it projects to, the other everywhere.
    light, room = random_light(2, "S1"), random_room(2, "S1")
    for camera in rig("S1", WIDTH, 0):
        plain = replace(camera, lens="pinhole", distortion=())
        general = replace(camera, lens="opencv", distortion=(0.0,) * 5)
        np.testing.assert_allclose(background(room, plain, light), background(room, general, light), atol=1e-5)
