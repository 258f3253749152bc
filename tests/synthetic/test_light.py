from __future__ import annotations

import numpy as np
import torch

from posekit.synthetic.light import random_light, to_pixels


def test_surfaces_that_face_the_lamp_are_brightest() -> None:
    light = random_light(0, "S1")
    normals = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    shaded = light.shade(torch.full((500, 3), 0.5), normals).mean(dim=1)
    towards = torch.from_numpy(light.key_direction).float()
    faced = light.shade(torch.full((1, 3), 0.5), towards[None])
    averted = light.shade(torch.full((1, 3), 0.5), -towards[None])
    assert faced.mean() > shaded.median() > averted.mean()
    assert averted.min() > 0.05
    assert light.key_direction[2] > 0.7


def test_shading_scales_with_the_surface() -> None:
    light, up = random_light(3, "S9"), torch.tensor([[0.0, 0.0, 1.0]])
    one, two = (light.shade(torch.full((1, 3), value), up) for value in (0.2, 0.4))
    torch.testing.assert_close(two, 2 * one)


def test_pixels_invert_the_gamma() -> None:
    values = torch.tensor([[0.0, 0.5**2.2, 1.0], [2.0, -1.0, 1.0]])
    np.testing.assert_array_equal(to_pixels(values), [[0, 128, 255], [255, 0, 255]])
