from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch

from posekit.body.smpl_file import load_body
from posekit.body.surface import atlas_of
from posekit.camera_stack import stack_cameras
from posekit.skeleton.catalog import COCO17, MPII16
from posekit.synthetic.bodies import posed
from posekit.synthetic.photo_shots import ShotSettings, random_shot
from posekit.synthetic.room import HALF_SIZE, HEIGHT
from posekit.synthetic.snapshot import Photographer, Shot, Snapshot, people_in

SETTINGS = ShotSettings(size=200, people=2, truncated=0.0, occluded=0.0)


@lru_cache(maxsize=1)
def photographer() -> Photographer:
    return Photographer(load_body())


def shot(name: str, settings: ShotSettings = SETTINGS) -> Shot:
    return random_shot(load_body(), settings, 0, name)


@lru_cache(maxsize=8)
def taken(name: str) -> tuple[Shot, Snapshot]:
    one = shot(name)
    return one, photographer().take(one)


def test_shots_depend_on_seed_and_name_alone() -> None:
    first, again, other = shot("a"), shot("a"), shot("b")
    assert np.array_equal(first.people[0].pose, again.people[0].pose)
    assert np.array_equal(first.camera.intrinsics, again.camera.intrinsics)
    assert not np.array_equal(first.people[0].pose, other.people[0].pose)
    assert np.array_equal(photographer().take(first).image, photographer().take(again).image)


def test_cameras_stand_in_the_room_and_see_everybody_whole() -> None:
    sizes, heights = set(), []
    for number in range(12):
        one = shot(f"whole {number}")
        place = -one.camera.rotation.T @ one.camera.translation
        assert (np.abs(place[:2]) < HALF_SIZE).all()
        assert 0 < place[2] < HEIGHT
        heights.append(place[2])
        sizes.add((one.camera.width, one.camera.height))
        assert max(one.camera.width, one.camera.height) <= 200
        model = stack_cameras([one.camera])[0]
        for person in one.people:
            world = torch.from_numpy(posed(load_body(), person).vertices[0])
            pixels = model.project(world).numpy()
            assert (model.camera_from_world(world)[:, 2] > 0.5).all()
            assert (pixels > -0.5).all()
            assert (pixels < [one.camera.width - 0.5, one.camera.height - 0.5]).all()
            assert abs(world[:, 2].min()) < 0.02
    assert len(sizes) > 6
    assert np.ptp(heights) > 0.5


def test_truncated_and_occluded_people() -> None:
    whole, cut, hidden = (
        [photographer().take(shot(f"c {n}", settings)).people for n in range(4)]
        for settings in (
            ShotSettings(160, 1, 0.0, 0.0),
            ShotSettings(160, 1, 1.0, 0.0),
            ShotSettings(160, 1, 0.0, 1.0),
        )
    )

    def unlabelled(people: list[tuple[object, ...]]) -> float:
        return float(np.mean([(person[0].keypoints[:, 2] == 0).mean() for person in people]))  # type: ignore[attr-defined]

    assert unlabelled(cut) > unlabelled(whole) + 0.05
    assert sum(p[0].mask.sum() for p in hidden) < sum(p[0].mask.sum() for p in whole)


@pytest.mark.parametrize("name", ["law 0", "law 2"])
def test_labels_of_pixels_are_the_surface_points_seen_there(name: str) -> None:
    one, snapshot = taken(name)
    body, atlas = load_body(), atlas_of(load_body())
    assert len(snapshot.people) == len(one.people)
    taken_pixels = np.zeros(snapshot.image.shape[:2], int)
    model = stack_cameras([one.camera])[0]
    for person, take in zip(snapshot.people, one.people, strict=True):
        taken_pixels += person.mask
        assert (person.parts[~person.mask] == 0).all()
        assert (person.parts[person.mask] > 0).all()
        rows, columns = np.nonzero(person.mask)
        chosen = np.random.default_rng(0).permutation(len(rows))[:200]
        rows, columns = rows[chosen], columns[chosen]
        uv = person.uv[rows, columns].astype(np.float64)
        face, corners = atlas.surface_from_iuv(
            person.parts[rows, columns].astype(int), uv[:, 0].copy(), uv[:, 1].copy()
        )
        vertices = posed(body, take).vertices[0]
        surface = (vertices[body.faces[face]] * corners[..., None]).sum(axis=1)
        pixels = model.project(torch.from_numpy(surface)).numpy()
        error = np.linalg.norm(pixels - np.stack([columns, rows], 1), axis=1)
        assert np.median(error) < 0.01
        assert (error < 0.5).mean() > 0.97
    assert taken_pixels.max() == 1


def test_key_points_are_joints_and_say_what_is_seen() -> None:
    one, snapshot = taken("law 0")
    for person in snapshot.people:
        labels = person.keypoints[:, 2]
        assert set(labels) <= {0.0, 1.0, 2.0}
        for x, y, label in person.keypoints.astype(int):
            assert (x, y) == (0, 0) or (0 <= x < one.camera.width and 0 <= y < one.camera.height)
            if label == 2:
                assert person.mask[y, x]
    first = snapshot.people[0]
    hips = first.keypoints[list(COCO17.indices("left_hip", "right_hip"))]
    ankles = first.keypoints[list(COCO17.indices("left_ankle", "right_ankle"))]
    assert ankles[:, 1].max() > hips[:, 1].max()


def test_the_pelvis_is_the_middle_of_the_hips() -> None:
    """As annotators of MPII take it, and as Human3.6M has it; the root joint of the rig lies higher."""
    snapshot = Photographer(load_body(), skeleton=MPII16).take(shot("law 0"))
    points = snapshot.people[0].keypoints
    right, left, pelvis = points[list(MPII16.indices("right_hip", "left_hip", "pelvis"))]
    assert points[:, 2].all()
    assert np.abs(pelvis[:2] - (right + left)[:2] / 2).max() < 1.5  # all three are whole pixels


def test_people_of_whom_little_is_seen() -> None:
    _, snapshot = taken("law 0")
    assert people_in(snapshot.people, 1) == list(range(len(snapshot.people)))
    assert people_in(snapshot.people, 10**6) == []
