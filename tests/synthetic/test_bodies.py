from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posekit.body.smpl_file import load_body
from posekit.synthetic.bodies import MOST_UNUSUAL, TakeRequest, perform, posed, random_betas
from posekit.synthetic.gestures import SCRIPTS


def test_shapes_differ_by_subject_and_stay_human() -> None:
    shapes = np.stack([random_betas(0, f"S{number}", 10) for number in range(60)])
    assert np.abs(shapes).max() <= MOST_UNUSUAL
    assert 0.7 < shapes.std() < 1.1
    np.testing.assert_array_equal(shapes[3], random_betas(0, "S3", 10))


@pytest.mark.parametrize("action", sorted(SCRIPTS))
def test_takes_stand_on_the_floor_in_the_middle_of_the_room(action: str) -> None:
    body = load_body()
    take = perform(body, TakeRequest(action, "S9", 1, 10, 10.0), seed=2)
    assert len(take) == 10 and take.fps == 10.0
    vertices = posed(body, take).vertices
    assert np.abs(vertices[..., 2].min(axis=1)).max() < 1e-6
    assert 0.9 < vertices[..., 2].max() < 2.4
    assert np.abs(take.translation[:, :2]).max() < 1.8
    assert bool(take.seats) == SCRIPTS[action].seat


def test_parameters_survive_single_precision() -> None:
    take = perform(load_body(), TakeRequest("Walking", "S1", 1, 5, 10.0), seed=0)
    for values in (take.betas, take.pose, take.translation):
        np.testing.assert_array_equal(values, values.astype(np.float32))


def test_stretches_of_a_take_equal_the_whole() -> None:
    body = load_body()
    take = perform(body, TakeRequest("Posing", "S5", 2, 6, 10.0), seed=0)
    whole, part = posed(body, take), posed(body, take, slice(2, 4))
    np.testing.assert_allclose(part.vertices, whole.vertices[2:4], atol=1e-12)


def test_seats_carry_who_sits() -> None:
    body = load_body()
    take = perform(body, TakeRequest("Sitting", "S1", 1, 20, 10.0), seed=0)
    low, high = take.seats[0]
    buttocks = posed(body, take).vertices[:, body.weights[:, 0] > 0.5]
    assert low[2] == 0.0
    assert 0.25 < high[2] < 0.6
    assert high[2] == pytest.approx(buttocks[..., 2].min() - 0.005, abs=1e-6)


def test_recorded_motion_is_used_and_upright(shared_dir: Path) -> None:
    body = load_body()
    take = perform(body, TakeRequest("Walking", "S1", 1, 30, 30.0, (shared_dir / "mocap" / "walk.npz",)), seed=0)
    result = posed(body, take)
    assert np.abs(result.vertices[..., 2].min(axis=1)).max() < 0.06
    assert (result.joints[:, 15, 2] > 1.2).all()
    travelled = take.translation[-1, :2] - take.translation[0, :2]
    assert 0.8 < np.linalg.norm(travelled) < 1.4
