from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from posekit.errors import InputError
from posekit.geometry.cameras import Cameras, CropPerspective, WeakPerspective
from posekit.geometry.conventions import normalized_from_crop
from posekit.geometry.lenses import Lens
from posekit.geometry.rotations import matrix_from_axis_angle

H36M_LENS = [-0.207, 0.248, -0.003, -0.0014, -0.0010]
OPENCV_LENSES = [
    [-0.2, 0.12, -0.0014, 0.0021],
    [-0.2, 0.24, -0.0014, -0.0010, 0.01],
    [0.3, 0.05, 0.001, -0.002, 0.01, 0.5, 0.08, 0.02],
]


def _cameras(lens: Lens = "pinhole", distortion: list[float] | None = None, count: int = 3) -> Cameras:
    generator = torch.Generator().manual_seed(3)
    K = torch.tensor([[1145.0, 0.0, 512.5], [0.0, 1144.0, 515.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
    turn = matrix_from_axis_angle(0.3 * torch.randn(count, 3, dtype=torch.float64, generator=generator))
    shift = torch.tensor([0.1, -0.2, 5.0], dtype=torch.float64).expand(count, 3).clone()
    return Cameras.checked(
        K.expand(count, 3, 3).clone(), turn, shift, image_size=(1000, 1002), distortion=distortion, lens=lens
    )


def _points(count: int = 50) -> torch.Tensor:
    return torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 0.7


@pytest.mark.parametrize("distortion", OPENCV_LENSES)
def test_projection_agrees_with_opencv(distortion: list[float]) -> None:
    cameras = _cameras("opencv", distortion)
    pixels = cameras.project(_points())
    for index in range(3):
        rvec, _ = cv2.Rodrigues(cameras.rotation[index].numpy())
        expected, _ = cv2.projectPoints(
            _points().numpy(),
            rvec,
            cameras.translation[index].numpy(),
            cameras.intrinsics[index].numpy(),
            np.array(distortion),
        )
        np.testing.assert_allclose(pixels[index], expected[:, 0], atol=1e-9)


def test_projection_agrees_with_the_human36m_formula() -> None:
    cameras = _cameras("human36m", H36M_LENS)
    pixels = cameras.project(_points())
    k1, k2, k3, p1, p2 = H36M_LENS
    for index in range(3):
        K = cameras.intrinsics[index].numpy()
        for point, pixel in zip(_points().numpy(), pixels[index].numpy(), strict=True):
            X, Y, Z = cameras.rotation[index].numpy() @ point + cameras.translation[index].numpy()
            x, y = X / Z, Y / Z
            r2 = x * x + y * y
            factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * y + p2 * x
            expected = K[0, 0] * (x * factor + p2 * r2) + K[0, 2], K[1, 1] * (y * factor + p1 * r2) + K[1, 2]
            np.testing.assert_allclose(pixel, expected, atol=1e-10)


def test_human36m_lens_is_not_the_opencv_one() -> None:
    ours = _cameras("human36m", H36M_LENS).project(_points())
    k1, k2, k3, p1, p2 = H36M_LENS
    theirs = _cameras("opencv", [k1, k2, p1, p2, k3]).project(_points())
    assert 0.005 < (ours - theirs).norm(dim=-1).max().item() < 1.0


@pytest.mark.parametrize(
    ("lens", "distortion"),
    [("pinhole", None), ("human36m", H36M_LENS), *(("opencv", coefficients) for coefficients in OPENCV_LENSES)],
)
def test_undistortion_inverts_the_lens_over_the_whole_image(lens: Lens, distortion: list[float] | None) -> None:
    cameras = _cameras(lens, distortion)
    u, v = torch.meshgrid(torch.linspace(0, 999, 40), torch.linspace(0, 1001, 40), indexing="xy")
    pixels = torch.stack([u, v], dim=-1).reshape(-1, 2).double()
    ideal = cameras.undistort(pixels)
    again = cameras.pixels_from_normalized(cameras.distort(ideal))
    assert (again - pixels).abs().max().item() < 1e-9
    torch.testing.assert_close(cameras.undistort_pixels(pixels), cameras.pixels_from_normalized(ideal))


@pytest.mark.parametrize("distortion", OPENCV_LENSES)
def test_undistortion_agrees_with_opencv(distortion: list[float]) -> None:
    camera = _cameras("opencv", distortion)[0]
    pixels = camera.project(_points())
    expected = cv2.undistortPoints(
        pixels.numpy(),
        camera.intrinsics.numpy(),
        np.array(distortion),
        criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-14),
    )
    np.testing.assert_allclose(camera.undistort(pixels), expected[:, 0], atol=1e-9)


def test_undistortion_says_nan_where_the_lens_has_no_inverse() -> None:
    camera = _cameras("opencv", [-0.4, 0.0, 0.0, 0.0])[0]
    ideal = camera.undistort(torch.tensor([[512.0, 515.0], [6000.0, 6000.0], [torch.nan, 1.0]], dtype=torch.float64))
    assert ideal.isnan().tolist() == [[False, False], [True, True], [True, True]]


def test_undistortion_keeps_single_precision() -> None:
    cameras = _cameras("human36m", H36M_LENS)
    pixels = cameras.project(_points())
    single = cameras.to(dtype=torch.float32).undistort(pixels.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), cameras.undistort(pixels), rtol=0, atol=1e-6)


def test_projection_is_differentiable() -> None:
    cameras = _cameras("human36m", H36M_LENS)
    assert torch.autograd.gradcheck(cameras.project, _points(4).requires_grad_())


def test_frames_round_trip_and_centres() -> None:
    cameras = _cameras()
    points = _points()
    torch.testing.assert_close(cameras.world_from_camera(cameras.camera_from_world(points)), points.expand(3, 50, 3))
    at_centre = cameras.camera_from_world(cameras.centers()[:, None])
    torch.testing.assert_close(at_centre, torch.zeros(3, 1, 3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_projection_matrices_project() -> None:
    cameras = _cameras()
    homogeneous = torch.cat([_points(), torch.ones(50, 1, dtype=torch.float64)], dim=-1)
    lifted = homogeneous @ cameras.projection_matrices().mT
    torch.testing.assert_close(cameras.project(_points()), lifted[..., :2] / lifted[..., 2:])


def test_broadcasting_of_points_against_cameras() -> None:
    cameras = _cameras("human36m", H36M_LENS)
    points = _points(40).reshape(5, 1, 8, 3)
    everything = cameras.project(points)
    assert everything.shape == (5, 3, 8, 2)
    torch.testing.assert_close(everything[2, 1], cameras[1].project(points[2, 0]))
    per_camera = torch.stack([points[0, 0], points[1, 0], points[2, 0]])
    torch.testing.assert_close(cameras.project(per_camera)[2], everything[2, 2])
    assert cameras.undistort(everything).shape == (5, 3, 8, 2)


def test_indexing_and_stacking() -> None:
    cameras = _cameras("human36m", H36M_LENS)
    assert len(cameras) == 3 and cameras[0].batch_shape == () and len(cameras[[2, 0]]) == 2 and len(cameras[1:]) == 2
    again = Cameras.stack([cameras[index] for index in range(3)])
    torch.testing.assert_close(again.project(_points()), cameras.project(_points()))
    with pytest.raises(TypeError):
        len(cameras[0])
    with pytest.raises(IndexError):
        cameras[0][0]


def test_stacking_mixes_pinholes_and_lenses_of_several_lengths() -> None:
    mixed = [_cameras()[0], _cameras("opencv", OPENCV_LENSES[0])[1], _cameras("opencv", OPENCV_LENSES[2])[2]]
    stacked = Cameras.stack(mixed)
    expected = torch.stack([camera.project(_points()) for camera in mixed])
    torch.testing.assert_close(stacked.project(_points()), expected)
    with pytest.raises(InputError, match="one lens model"):
        Cameras.stack([_cameras("opencv", OPENCV_LENSES[0])[0], _cameras("human36m", H36M_LENS)[0]])
    with pytest.raises(InputError, match="no camera"):
        Cameras.stack([])


def _checked(**changes: object) -> Cameras:
    cameras = _cameras()
    values: dict[str, object] = {
        "intrinsics": cameras.intrinsics.numpy().copy(),
        "rotation": cameras.rotation.numpy().copy(),
        "translation": cameras.translation.numpy().copy(),
        "image_size": (1000, 1002),
    }
    return Cameras.checked(**{**values, **changes}, names=["left", "middle", "right"])  # type: ignore[arg-type]  # broken on purpose


def _spoilt(name: str, index: tuple[int, ...], value: float) -> np.ndarray:
    array = getattr(_cameras(), name).numpy().copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intrinsics": _spoilt("intrinsics", (1, 0, 0), -5.0)}, "camera middle has a focal length"),
        ({"intrinsics": _spoilt("intrinsics", (2, 2, 2), 2.0)}, "camera right has intrinsics"),
        ({"translation": _spoilt("translation", (0, 1), np.nan)}, "camera left has values that are not finite"),
        (
            {"rotation": _spoilt("rotation", (1, 0, 0), 3.0)},
            "camera middle has a rotation matrix that is not orthonormal",
        ),
        ({"rotation": -_cameras().rotation}, "camera left has a reflection"),
        ({"image_size": (0, 10)}, "camera left has an empty image"),
        ({"lens": "fisheye"}, "unknown lens model"),
        ({"lens": "opencv", "distortion": [0.1, 0.2]}, "wrong number of distortion coefficients"),
        ({"distortion": [0.1, 0.2, 0.0, 0.0]}, "wrong number of distortion coefficients"),
        ({"rotation": np.eye(4)}, "wrong shape"),
    ],
)
def test_checked_names_the_camera_and_the_fault(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _checked(**changes)


def test_weak_perspective_adds_its_translation_after_scaling() -> None:
    camera = WeakPerspective(torch.tensor([0.8]), torch.tensor([[0.1, -0.3]]))
    points = torch.tensor([[[0.5, -0.25, 2.0]]])
    torch.testing.assert_close(camera.project(points), torch.tensor([[[0.5, -0.5]]]))
    torch.testing.assert_close(camera.depth(points), torch.tensor([[1.6]]))


def test_crop_perspective_is_nearly_weak_perspective_with_a_scaled_translation() -> None:
    scale, shift = torch.tensor([0.9], dtype=torch.float64), torch.tensor([[0.05, -0.1]], dtype=torch.float64)
    points = _points(20)[None] * 0.5
    perspective = CropPerspective(scale, shift)
    flat = WeakPerspective(scale, scale[:, None] * shift)
    assert (perspective.project(points) - flat.project(points)).abs().max().item() < 0.03
    torch.testing.assert_close(perspective.depth(points), points[..., 2] + 2 * 5000 / (224 * scale + 1e-9))


def test_crop_perspective_as_a_pinhole_sees_the_same() -> None:
    camera = CropPerspective(torch.tensor([0.9, 1.1]), torch.tensor([[0.05, -0.1], [0.0, 0.2]]))
    points = _points(20).float().expand(2, 20, 3)
    pixels = camera.pinhole().project(points)
    torch.testing.assert_close(
        normalized_from_crop(pixels, float(camera.side)), camera.project(points), rtol=0, atol=1e-4
    )


def test_only_points_within_the_fold_of_a_lens_are_undistorted():
    eye = torch.eye(3, dtype=torch.float64)
    camera = Cameras.checked(eye, eye, torch.zeros(3), image_size=[2, 2], distortion=[-0.4, 0, 0, 0], lens="opencv")
    side = torch.linspace(-1.0, 1.0, 81, dtype=torch.float64)
    seen = torch.cartesian_prod(side, side)
    radius = torch.linalg.vector_norm(seen, dim=-1)
    # r (1 - 0.4 r^2) is largest where its slope 1 - 1.2 r^2 is zero.
    fold = math.sqrt(1 / 1.2) * (1 - 0.4 / 1.2)
    found = camera.undistort(seen)
    assert found[radius > fold + 1e-6].isnan().all()
    inside = radius < fold - 1e-3
    assert torch.linalg.vector_norm(found[inside], dim=-1).max() < math.sqrt(1 / 1.2)
    assert torch.allclose(camera.distort(found[inside]), seen[inside], atol=1e-10)
