"""Objects pasted over people."""

from __future__ import annotations

import numpy as np
import pytest

from posekit.errors import ConfigError, InputError
from posekit.training.occlusion import Occluders, Occlusion, blend

PERSON = np.array([40.0, 20.0, 90.0, 110.0])


def solid(side: int = 200, opacity: int = 255) -> np.ndarray:
    cutout = np.full((side, side, 4), 255, np.uint8)
    cutout[..., 3] = opacity
    return cutout


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (128, 128, 3), dtype=np.uint8)


def share_of(before: np.ndarray, after: np.ndarray) -> float:
    """How much of the person's box changed."""
    changed = (before != after).any(axis=2)
    return float(changed[20:111, 40:91].mean())


def test_the_share_is_what_is_covered_and_nothing_else_changes() -> None:
    occluders, occlusion, before = Occluders([solid()]), Occlusion(p=1.0, max_degree=0.7, most=50), picture()
    kept = before.copy()
    shares = []
    for seed in range(40):
        after, share = occlusion.paste(occluders, before, PERSON, np.random.default_rng(seed))
        assert share == pytest.approx(share_of(before, after), abs=1e-3)
        changed = (before != after).any(axis=2)
        assert (after[changed] == 255).all()
        shares.append(share)
    assert np.array_equal(before, kept)
    assert min(shares) < 0.15 and max(shares) > 0.5


def test_as_many_pictures_are_occluded_as_the_probability_says() -> None:
    occluders, occlusion = Occluders([solid()]), Occlusion(p=0.3, mode="count")
    touched = [
        not np.array_equal(picture(), occlusion.paste(occluders, picture(), PERSON, np.random.default_rng(seed))[0])
        for seed in range(400)
    ]
    assert 0.22 < np.mean(touched) < 0.36


def test_the_generator_alone_decides() -> None:
    occluders, occlusion = Occluders([solid(), solid(60)]), Occlusion(p=1.0)
    one, other, third = (
        occlusion.paste(occluders, picture(), PERSON, np.random.default_rng(seed))[0] for seed in (3, 3, 4)
    )
    assert np.array_equal(one, other) and not np.array_equal(one, third)


def test_translucent_pixels_mix_with_what_is_below() -> None:
    canvas = np.dstack([picture(), np.zeros((128, 128), np.uint8)])
    layer = np.zeros((10, 12, 4), np.uint8)
    layer[..., :3], layer[..., 3] = [50, 100, 20], 128
    before = canvas.copy()
    blend(canvas, layer, left=-4, top=123)
    expected = [50, 100, 20] + (1.0 - 128 / 255.0) * before[123:, :8, :3].astype(float)
    assert np.abs(canvas[123:, :8, :3] - expected.clip(0, 255)).max() <= 1.0
    assert np.array_equal(canvas[:123], before[:123]) and np.array_equal(canvas[:, 8:], before[:, 8:])


def test_smaller_objects_keep_their_place_and_colour() -> None:
    cutout = np.zeros((64, 64, 4), np.uint8)
    cutout[16:48, 16:48] = [200, 30, 90, 255]
    for scale in (0.2, 0.5, 1.0):
        layer = Occluders([cutout]).scaled(0, scale).astype(float)
        rows, columns = np.indices(layer.shape[:2])
        weight = layer[..., 3] / layer[..., 3].sum()
        centre = [(weight * (axis + 0.5)).sum() / axis.shape[0] for axis in (rows, columns)]
        assert centre == pytest.approx([0.5, 0.5], abs=0.04)
        opaque = layer[..., 3] == 255
        assert np.abs(layer[opaque][:, :3] - [200, 30, 90]).max() <= 2
        assert layer[..., 3].sum() / 255 == pytest.approx(1024 * scale**2, rel=0.12)


def test_values_that_cannot_work_are_refused() -> None:
    for wrong in ({"p": 1.5}, {"max_degree": -0.1}, {"most": 0}, {"count_min": 3, "count_max": 2}, {"scale_min": 0.0}):
        with pytest.raises(ConfigError, match="occlusion cannot use"):
            Occlusion(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nothing to paste"):
        Occluders([])
