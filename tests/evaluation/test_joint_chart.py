from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from posekit.evaluation.joint_chart import JointErrors, draw_joint_chart


def part(title: str, heights: dict[str, float]) -> JointErrors:
    spread = {name: [0.3 * h, 0.7 * h, 0.9 * h, 1.2 * h, 1.9 * h] for name, h in heights.items()}
    return JointErrors(title, heights, spread)


def bars(path: Path) -> np.ndarray:
    """Rows of the blue of the first part's bars, column by column."""
    image = cv2.imread(str(path))[:, :, ::-1].astype(int)
    # 55 % of the colour over white.
    color = np.array([0x4F, 0x7C, 0xAC]) * 0.55 + 255 * 0.45
    return (np.abs(image - color).max(axis=2) < 6).sum(axis=0)


def test_bars_are_as_high_as_the_mean_errors(tmp_path: Path) -> None:
    names = ("pelvis", "right_hip", "left_wrist")
    path = draw_joint_chart(
        tmp_path / "a.png", [part("fits", dict(zip(names, (0.0, 40.0, 80.0), strict=True)))], "mpjpe", "mm"
    )
    columns = bars(path)
    inside = np.flatnonzero(columns > 20)
    cuts = np.flatnonzero(np.diff(inside) > 20) + 1
    heights = [np.max(columns[group]) for group in np.split(inside, cuts)]
    # The legend's patch is a bar, too, but a low one; the pelvis has none.
    assert len(heights) == 2
    assert abs(heights[1] / heights[0] - 2.0) < 0.1


def test_the_same_errors_give_the_same_file(tmp_path: Path) -> None:
    parts = [part("fits", {"a": 3.0, "b": 5.0}), part("predictions", {"b": 4.0})]
    first = draw_joint_chart(tmp_path / "a.png", parts, "mpjpe", "mm").read_bytes()
    assert first == draw_joint_chart(tmp_path / "b.png", parts, "mpjpe", "mm").read_bytes()


def test_without_quantiles_there_are_bars_alone(tmp_path: Path) -> None:
    path = draw_joint_chart(tmp_path / "a.png", [JointErrors("fits", {"a": 3.0}, {})], "mpjpe", "mm")
    assert bars(path).max() > 100
