from __future__ import annotations

import numpy as np
import pytest

from posekit.render.drawing import (
    SIDE_COLORS,
    SkeletonStyle,
    draw_box,
    draw_label,
    draw_mask,
    draw_parts,
    draw_skeleton,
    part_colors,
    person_color,
    style_for,
)
from posekit.skeleton.skeleton import Skeleton

ARMS = Skeleton("arms", ("thorax", "left_shoulder", "right_shoulder"), (-1, 0, 0))
STYLE = SkeletonStyle(thickness=6.0, opacity=1.0)
JOINTS = np.array([[50.0, 20.0], [90.0, 20.0], [10.0, 20.0]])


def blank(height: int = 40, width: int = 100) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def test_bones_have_the_colour_of_the_persons_side() -> None:
    frame = blank()
    draw_skeleton(frame, JOINTS, ARMS, style=STYLE)
    assert tuple(frame[20, 70]) == SIDE_COLORS["left"]
    assert tuple(frame[20, 30]) == SIDE_COLORS["right"]
    assert (frame[0] == 128).all()


def test_bones_fade_with_confidence_and_missing_joints_leave_no_mark() -> None:
    strong, weak, gone = blank(), blank(), blank()
    draw_skeleton(strong, JOINTS, ARMS, confidence=np.array([1.0, 1.0, 0.0]), style=STYLE)
    draw_skeleton(weak, JOINTS, ARMS, confidence=np.array([1.0, 0.3, np.nan]), style=STYLE)
    change = [np.abs(frame[20, 70].astype(int) - 128).sum() for frame in (strong, weak)]
    assert 0 < change[1] < 0.6 * change[0]
    assert (strong[:, :40] == 128).all()
    draw_skeleton(gone, np.full((3, 2), np.nan), ARMS, style=STYLE)
    assert (gone == 128).all()


@pytest.mark.parametrize("far", [1e6, -1e9, np.inf, np.nan])
def test_joints_far_outside_leave_the_right_part_of_the_bone(far) -> None:
    frame = blank()
    joints = JOINTS.copy()
    joints[1, 0] = far
    draw_skeleton(frame, joints, ARMS, style=STYLE)
    assert tuple(frame[20, 30]) == SIDE_COLORS["right"]
    if np.isfinite(far):
        assert tuple(frame[20, 70 if far > 0 else 2]) == SIDE_COLORS["left"]


def test_bones_end_between_pixels() -> None:
    """A bone that moves by a quarter of a pixel changes its picture a little."""
    frames = []
    for shift in (0.0, 0.25):
        frames.append(blank())
        draw_skeleton(frames[-1], JOINTS + np.array([0.0, shift]), ARMS, style=STYLE)
    change = np.abs(frames[0].astype(int) - frames[1])
    assert 0 < change.max() < 120


def test_boxes_are_drawn_where_they_are_inside() -> None:
    frame = blank()
    draw_box(frame, np.array([10.0, 5.0, 300.0, 30.0]), (255, 0, 0))
    assert frame[5, 50, 0] > 230
    assert frame[18, 10, 0] > 230
    assert (frame[18, 50] == 128).all()


def test_labels_stay_in_the_frame() -> None:
    frame = blank(60, 200)
    draw_label(frame, "cam01", (500, -20), size=14)
    changed = np.flatnonzero((frame != 128).any((0, 2)))
    assert changed[0] > 100
    assert changed[-1] == 199
    tiny = blank(4, 4)
    draw_label(tiny, "cam01", (0, 0))  # does not fit, and does not fail


def test_parts_get_distinct_colours_and_the_background_none() -> None:
    colors = part_colors()
    assert len(np.unique(colors, axis=0)) == 25
    frame = blank(5, 25)
    draw_parts(frame, np.tile(np.arange(25), (5, 1)), opacity=1.0)
    assert (frame[:, 0] == 128).all()
    assert (frame[0, 1:] == colors[1:]).all()


def test_masks_tint_by_their_value() -> None:
    frame = blank(2, 3)
    draw_mask(frame, np.array([[0, 0.5, 1.0]] * 2, np.float32), (255, 255, 255), opacity=1.0)
    assert frame[0, :, 0].tolist() == [128, 192, 255]


def test_people_keep_their_colours_and_lines_grow_with_the_frame() -> None:
    assert person_color(3) == person_color(3)
    assert person_color(0) != person_color(1)
    assert style_for(blank(1000, 1000)).thickness > style_for(blank(100, 100)).thickness
