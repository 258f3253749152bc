"""Frames of another size than was calibrated: where the calibrated picture lies in them."""

from __future__ import annotations

import numpy as np
import pytest

from posekit.datasets.calibration_images import PLACEMENTS, image_fit
from posekit.datasets.multiview_fit import candidate_fits
from posekit.errors import InputError
from posekit.records import Camera

CALIBRATED = (1088, 1920)
CAMERA = Camera("cam01", *CALIBRATED, np.array([[1680.0, 0, 530], [0, 1680.0, 950], [0, 0, 1]]), "opencv", (0.0,) * 4)


def frame(width: int, height: int, bars: int = 0) -> np.ndarray:
    image = np.full((height, width, 3), 120, dtype=np.uint8)
    if bars:
        image[:bars] = image[height - bars :] = 2
    return image


@pytest.mark.parametrize("placement", PLACEMENTS[1:])
def test_pixels_go_there_and_back_and_the_camera_with_them(placement: str) -> None:
    fit = image_fit(CALIBRATED, (1080, 1900), placement)  # type: ignore[arg-type]
    rays = np.random.default_rng(0).uniform(-0.3, 0.3, (20, 2))
    pixels = rays * 1680 + [530, 950]
    np.testing.assert_allclose(fit.from_video(fit.to_video(pixels)), pixels)
    K = fit.camera(CAMERA, 1080, 1900).intrinsics
    np.testing.assert_allclose(rays @ K[:2, :2].T + K[:2, 2], fit.to_video(pixels))


def test_outer_borders_stay_borders_under_scale() -> None:
    fit = image_fit((1920, 1080), (960, 540), "scale")
    corners = np.array([[-0.5, -0.5], [1919.5, 1079.5]])
    np.testing.assert_allclose(fit.to_video(corners), [[-0.5, -0.5], [959.5, 539.5]])


def test_crops_lose_the_side_they_name() -> None:
    offsets = [image_fit((100, 50), (90, 50), p).offset[0] for p in ("crop-start", "crop-centre", "crop-end")]
    assert offsets == [0.0, -5.0, -10.0]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (frame(1088, 1920), ["same"]),
        (frame(544, 960), ["scale"]),
        (frame(1080, 1920, bars=7), ["letterbox"]),
        (frame(1080, 1920), ["crop-centre", "crop-start", "crop-end"]),
        (frame(1080, 1920, bars=60), ["crop-centre", "crop-start", "crop-end"]),
    ],
)
def test_what_can_be_told_from_the_frame(image: np.ndarray, expected: list[str]) -> None:
    assert [fit.placement for fit in candidate_fits(CAMERA, image)] == expected


def test_a_setting_wins() -> None:
    assert [fit.placement for fit in candidate_fits(CAMERA, frame(1080, 1920, bars=7), "crop-end")] == ["crop-end"]


def test_frames_that_cannot_be_of_this_camera() -> None:
    with pytest.raises(InputError, match=r"cam01 do not fit its calibration.*--frame-fit"):
        candidate_fits(CAMERA, frame(1920, 1088))
    with pytest.raises(InputError, match="no crop of it"):
        image_fit((100, 50), (120, 40), "crop-end")
    with pytest.raises(InputError, match="differ in size"):
        image_fit((100, 50), (90, 50), "same")
