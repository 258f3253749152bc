"""Light: one soft lamp above, a weaker one from the side, and the glow of ceiling and floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from posekit.synthetic.seeding import stream

_GAMMA = 2.2


@dataclass(frozen=True)
class RoomLight:
    """Directions point towards the lamps (unit vectors, z up); colours are linear light."""

    key_direction: Float[np.ndarray, "3"]
    key: Float[np.ndarray, "3"]
    fill_direction: Float[np.ndarray, "3"]
    fill: Float[np.ndarray, "3"]
    sky: Float[np.ndarray, "3"]
    ground: Float[np.ndarray, "3"]
    shadow: float

    def shade(self, colours: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Lambertian surfaces with unit normals under this light (linear light)."""
        key, fill = self._of(self.key_direction, normals), self._of(self.fill_direction, normals)
        up = 0.5 + 0.5 * normals[:, 2:]
        glow = up * normals.new_tensor(self.sky) + (1.0 - up) * normals.new_tensor(self.ground)
        lit = glow + key * normals.new_tensor(self.key) + fill * normals.new_tensor(self.fill)
        return colours * lit

    @staticmethod
    def _of(direction: np.ndarray, normals: Tensor) -> Tensor:
        return (normals @ normals.new_tensor(direction))[:, None].clamp_min(0.0)


def random_light(seed: int, subject: str) -> RoomLight:
    """The light of a subject's session."""
    rng = stream(seed, "light", subject)
    around, height = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 1.25)
    key = _direction(around, height)
    fill = _direction(around + rng.uniform(2.0, 4.2), rng.uniform(0.2, 0.6))
    warm = np.array([1.0, 1.0, 1.0]) + rng.uniform(-0.06, 0.06) * np.array([1.0, 0.1, -1.0])
    power = rng.uniform(0.9, 1.1)
    return RoomLight(
        key_direction=key,
        key=0.62 * power * warm,
        fill_direction=fill,
        fill=0.22 * power * warm[::-1].copy(),
        sky=0.46 * power * np.ones(3),
        ground=0.20 * power * warm,
        shadow=float(rng.uniform(0.35, 0.5)),
    )


def to_pixels(light: Float[Tensor, "*batch 3"]) -> UInt8[Tensor, "*batch 3"]:
    """8-bit sRGB (gamma 2.2) of linear light."""
    return (light.clamp(0.0, 1.0).pow(1.0 / _GAMMA) * 255.0).round().to(torch.uint8)


def _direction(around: float, height: float) -> np.ndarray:
    return np.array([np.cos(around) * np.cos(height), np.sin(around) * np.cos(height), np.sin(height)])
