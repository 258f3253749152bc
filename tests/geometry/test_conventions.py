from __future__ import annotations

import numpy as np
import torch

from posekit.geometry import conventions


def test_crop_borders_are_plus_and_minus_one() -> None:
    borders = torch.tensor([[-0.5, -0.5], [223.5, 223.5], [111.5, 111.5]])
    expected = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(conventions.normalized_from_crop(borders, 224.0), expected)


def test_crop_normalisation_round_trip_with_a_side_per_sample() -> None:
    pixels = torch.rand(7, 2, dtype=torch.float64) * 100
    sides = torch.rand(7, 1, dtype=torch.float64) * 50 + 10
    there = conventions.normalized_from_crop(pixels, sides)
    torch.testing.assert_close(conventions.crop_from_normalized(there, sides), pixels)


def test_axis_changes_are_rotations_with_the_stated_effect() -> None:
    for matrix in (
        conventions.CAMERA_FROM_UPRIGHT_BODY,
        conventions.Y_UP_FROM_Z_UP,
        conventions.OPENCV_FROM_OPENGL_CAMERA,
    ):
        np.testing.assert_array_equal(matrix @ matrix.T, np.eye(3))
        assert np.linalg.det(matrix) == 1.0
    np.testing.assert_array_equal(conventions.Y_UP_FROM_Z_UP @ [0.0, 0.0, 1.0], [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(conventions.CAMERA_FROM_UPRIGHT_BODY @ [0.0, 1.0, 0.0], [0.0, -1.0, 0.0])
    # A body that faces the camera has its left on the right of the image.
    np.testing.assert_array_equal(conventions.CAMERA_FROM_UPRIGHT_BODY @ [1.0, 0.0, 0.0], [1.0, 0.0, 0.0])
