from __future__ import annotations

import pytest
import torch

from posekit.geometry.cameras import Cameras, CropPerspective, WeakPerspective
from posekit.render.rasterizer import RasterSettings, rasterize
from posekit.render.screen import apply_affine, screen_from_cameras, screen_from_crop_camera


def rig(lens: str = "pinhole", distortion: list[float] | None = None) -> Cameras:
    K = torch.tensor([[[400.0, 0, 159.5], [0, 400.0, 119.5], [0, 0, 1.0]]] * 2)
    turn = torch.tensor([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
    return Cameras.checked(
        K,
        torch.stack([torch.eye(3), turn]),
        torch.tensor([[0.0, 0, 3], [0.0, 0, 4]]),
        image_size=[320, 240],
        distortion=distortion,
        lens=lens,
    )


def test_pixels_and_depth_come_from_the_cameras() -> None:
    cameras = rig("opencv", [-0.2, 0.05, 0.001, -0.002])
    points = torch.rand(7, 3) - 0.5
    screen = screen_from_cameras(cameras, points)
    assert screen.shape == (2, 7, 3)
    torch.testing.assert_close(screen[..., :2], cameras.project(points))
    torch.testing.assert_close(screen[..., 2], cameras.camera_from_world(points)[..., 2])


def test_points_that_a_lens_would_fold_back_into_the_image_are_left_out() -> None:
    cameras = rig("opencv", [-0.5, 0.0, 0.0, 0.0])[:1]
    points = torch.tensor([[0.1, 0.0, 0.0], [2.0 * 3 / 1.4, 0.0, 0.0]])
    folded = cameras.project(points)[0, 1]
    assert 0 < folded[0] < 320  # the polynomial alone would draw it
    screen = screen_from_cameras(cameras, points)
    assert screen[0, 0].isfinite().all()
    assert screen[0, 1, :2].isnan().all()


def test_gradients_reach_points_through_the_lens() -> None:
    points = (torch.rand(5, 3) - 0.5).requires_grad_()
    screen_from_cameras(rig("opencv", [-0.2, 0.05, 0.001, -0.002]), points).sum().backward()
    assert points.grad.isfinite().all()


def test_affine_maps_move_pixels_and_keep_depth() -> None:
    screen = torch.tensor([[[10.0, 20.0, 5.0]]])
    crop = torch.tensor([[2.0, 0.0, -4.0], [0.0, 3.0, 1.0]])
    torch.testing.assert_close(apply_affine(screen, crop), torch.tensor([[[16.0, 61.0, 5.0]]]))
    torch.testing.assert_close(apply_affine(screen, crop[None]), torch.tensor([[[16.0, 61.0, 5.0]]]))


@pytest.mark.parametrize("kind", ["weak", "perspective"])
def test_crop_cameras_draw_the_body_upright_in_the_crop(body_mesh, body_topology, kind) -> None:
    rest = (body_mesh[0] - body_mesh[0].mean(0)) * torch.tensor([1.0, -1.0, -1.0])
    scale, shift = torch.tensor([0.9]), torch.tensor([[0.1, 0.0]])
    camera = WeakPerspective(scale, shift) if kind == "weak" else CropPerspective(scale, shift / 0.9)
    screen = screen_from_crop_camera(camera, rest[None], 224)
    seen = rasterize(screen, body_topology, (224, 224), RasterSettings(perspective=kind == "perspective"))
    rows, columns = seen.mask[0].nonzero().unbind(1)
    height = float(rest[:, 1].max() - rest[:, 1].min())
    assert float(rows.max() - rows.min()) == pytest.approx(0.9 * height * 112, abs=3)
    assert float(columns.float().mean()) == pytest.approx(111.5 + 0.1 * 112, abs=4)
    # Seen from the front: the toes (largest body z) are nearer than the heels.
    assert screen[0, rest[:, 2].argmin(), 2] < screen[0, rest[:, 2].argmax(), 2]
