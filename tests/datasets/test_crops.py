from __future__ import annotations

import numpy as np
import pytest

from posekit.datasets.crops import (
    apply_affine,
    box_of_points,
    crop_image,
    decode_image,
    encode_image,
    inverse_affine,
    square_crop,
)
from posekit.errors import FormatError


def dot(height: int, width: int, centre: tuple[float, float], sigma: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    blob = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(blob).astype(np.uint8)[..., None], 3, axis=2)


def centroid(image: np.ndarray) -> np.ndarray:
    weights = image[..., 0].astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


def test_square_crop_covers_the_box_with_its_margin() -> None:
    crop_from_image = square_crop(np.array([10.0, 20.0, 40.0, 80.0]), 256, 1.2)
    corners = apply_affine(inverse_affine(crop_from_image), np.array([[-0.5, -0.5], [255.5, 255.5]]))
    np.testing.assert_allclose(corners, [[25 - 36, 50 - 36], [25 + 36, 50 + 36]], atol=1e-9)


def test_affine_round_trip() -> None:
    points = np.random.default_rng(0).uniform(-500, 1500, (4, 30, 2))
    forward = np.array([[0.3, -0.2, 17.0], [0.25, 0.4, -5.0]])
    np.testing.assert_allclose(apply_affine(inverse_affine(forward), apply_affine(forward, points)), points, atol=1e-9)


@pytest.mark.parametrize("side", [60.0, 150.0, 210.0, 333.3, 640.0, 1100.0])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.073, -0.051), (-0.3, 0.29)])
def test_a_dot_lands_where_the_map_says(side: float, shift: tuple[float, float]) -> None:
    centre = (500 + shift[0] * side, 410 + shift[1] * side)
    image = dot(900, 1000, centre, sigma=side / 30)
    box = np.array([500 - side / 2, 410 - side / 2, 500 + side / 2, 410 + side / 2]) + 0.37
    crop_from_image = square_crop(box, 128, 1.2)
    expected = apply_affine(crop_from_image, np.array(centre))
    np.testing.assert_allclose(centroid(crop_image(image, crop_from_image, 128)), expected, atol=0.05)


def test_shrinking_averages_rather_than_samples() -> None:
    x = np.mgrid[:600, :600][1]
    stripes = np.repeat((((x // 2) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)
    crop = crop_image(stripes, square_crop(np.array([100.0, 100.0, 500.0, 500.0]), 100, 1.0), 100)
    assert np.abs(crop[5:-5, 5:-5].astype(float) - 127.5).max() < 6


def test_outside_of_the_image_is_black_and_the_border_is_kept() -> None:
    image = np.full((101, 103, 3), 200, dtype=np.uint8)
    crop_from_image = square_crop(np.array([50.0, 50.0, 150.0, 150.0]), 20, 1.0)
    crop = crop_image(image, crop_from_image, 20)
    assert (crop[0:9, 0:9] == 200).all()
    assert (crop[12:, 12:] == 0).all()
    far = crop_image(image, square_crop(np.array([5000.0, 50.0, 5400.0, 450.0]), 20, 1.0), 20)
    assert (far == 0).all()


def test_rotated_crop() -> None:
    image = dot(300, 300, (120.0, 180.0), 6.0)
    angle = np.deg2rad(35.0)
    linear = 0.4 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forward = np.concatenate([linear, (50 - linear @ np.array([130.0, 170.0]))[:, None]], axis=1)
    expected = apply_affine(forward, np.array([120.0, 180.0]))
    np.testing.assert_allclose(centroid(crop_image(image, forward, 100)), expected, atol=0.05)


def test_box_of_points_ignores_what_is_not_finite() -> None:
    points = np.array([[1.0, 5.0], [np.nan, 2.0], [4.0, 3.0], [np.inf, 0.0]])
    box = box_of_points(points)
    assert box is not None
    np.testing.assert_array_equal(box, [1, 3, 4, 5])
    assert box_of_points(points[:2]) is None


def test_a_box_without_extent_still_gives_a_map() -> None:
    assert np.isfinite(square_crop(np.array([5.0, 5.0, 5.0, 5.0]), 64, 1.2)).all()


def test_encoded_images_come_back() -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(decode_image(encode_image(image, "png")), image)
    smooth = dot(64, 64, (30.0, 30.0), 12.0)
    smooth[..., 2] = 10
    error = decode_image(encode_image(smooth, "jpeg", 95)).astype(int) - smooth
    assert np.abs(error).mean() < 3
    assert np.array_equal(encode_image(smooth), encode_image(smooth))


@pytest.mark.parametrize("content", [b"", b"nothing"])
def test_broken_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        decode_image(np.frombuffer(content, dtype=np.uint8))
