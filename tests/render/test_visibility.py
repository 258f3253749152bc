from __future__ import annotations

import numpy as np
import pytest

from posekit.body.smpl_file import load_body
from posekit.render.visibility import BEHIND, GRAZING, OTHER_PART, spread_over_surface, vertex_areas, visible_vertices


def seen(points: list[list[float]], facing: float = 1.0, depth: np.ndarray | None = None) -> list[int]:
    wall = np.full((6, 8), 3.0) if depth is None else depth
    array = np.array(points, dtype=float)
    return visible_vertices(wall, array, np.full(len(array), facing)).tolist()


def test_vertices_on_and_before_the_surface_are_visible() -> None:
    points = [[4.0, 2.0, 3.0], [4.0, 2.0, 2.9], [4.0, 2.0, 3.0 + 0.5 * BEHIND], [4.0, 2.0, 3.0 + 2 * BEHIND]]
    assert seen(points) == [0, 1, 2]


def test_vertices_that_turn_away_are_not() -> None:
    assert seen([[4.0, 2.0, 3.0]], facing=GRAZING - 0.01) == []
    assert seen([[4.0, 2.0, 3.0]], facing=GRAZING + 0.01) == [0]


def test_vertices_outside_the_picture_or_without_a_place_are_not() -> None:
    points = [[-0.6, 2.0, 3.0], [7.6, 2.0, 3.0], [4.0, -0.6, 3.0], [4.0, 5.6, 3.0], [np.nan, 2.0, 3.0], [7.4, 5.4, 3.0]]
    assert seen(points) == [5]


def test_a_near_part_may_hide_what_lies_between_pixel_centres() -> None:
    depth = np.full((6, 8), 3.0)
    depth[2, 5] = 3.0 - 2 * OTHER_PART
    assert seen([[4.4, 2.0, 3.0]], depth=depth) == []
    assert seen([[3.4, 2.0, 3.0]], depth=depth) == [0]


def test_nothing_is_visible_on_the_background() -> None:
    assert seen([[4.0, 2.0, 3.0]], depth=np.full((6, 8), np.inf)) == []


def test_samples_are_distinct_sorted_and_follow_the_area() -> None:
    candidates = np.arange(10, 60)
    areas = np.where(candidates < 35, 3.0, 1.0)
    drawn = [spread_over_surface(candidates, areas, 5, np.random.default_rng(seed)) for seed in range(2000)]
    assert all(len(set(choice)) == 5 and (np.diff(choice) > 0).all() for choice in drawn)
    large = np.mean([(choice < 35).mean() for choice in drawn])
    assert large == pytest.approx(0.745, abs=0.02)  # 0.75, a little less because nothing is drawn twice


def test_all_are_taken_where_there_are_few() -> None:
    candidates = np.array([3, 8, 9])
    np.testing.assert_array_equal(spread_over_surface(candidates, np.ones(3), 10, np.random.default_rng(0)), candidates)


def test_areas_of_vertices_sum_to_the_surface() -> None:
    body = load_body()
    a, b, c = (body.v_template[body.faces[:, corner]] for corner in range(3))
    surface = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    areas = vertex_areas(body.v_template, body.faces)
    assert areas.sum() == pytest.approx(surface, rel=1e-6) and (areas > 0).all()
    np.testing.assert_allclose(vertex_areas(2.0 * body.v_template, body.faces), 4.0 * areas, rtol=1e-6)
