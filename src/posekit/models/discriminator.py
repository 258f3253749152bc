"""The network that tells photographs from pictures that were in-painted or rendered (Cha et al. 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from posekit.errors import ConfigError
from posekit.models.drawing import materialize

DiscriminatorOutput = Literal["sigmoid", "linear"]

_WIDTHS = (64, 64, 128, 256, 512)
_SHRINKS = 1 << len(_WIDTHS)
_SLOPE = 0.2


class Discriminator(nn.Module):
    """One number for each picture: 1 for a photograph, 0 for an imitation.

    The paper does not describe it; the layers are those of the authors' code, for pictures of `side` pixels. ``sigmoid``
    keeps the number in [0, 1], as the paper says; ``linear`` is the usual choice for least squares. Weights are drawn from
    `seed` alone. Raises ConfigError for a side that is no multiple of 32.
    """

    def __init__(self, output: DiscriminatorOutput = "sigmoid", side: int = 224, seed: int = 0) -> None:
        super().__init__()
        if side < _SHRINKS or side % _SHRINKS:
            raise ConfigError(
                "the discriminator halves pictures five times",
                got=f"{side} px",
                accepted="a multiple of 32, such as 224",
            )
        layers: list[nn.Module] = []
        with torch.device("meta"):
            for before, after in zip((3, *_WIDTHS), _WIDTHS, strict=False):
                first = not layers
                layers.append(nn.Conv2d(before, after, 4, 2, 1, bias=False))
                if not first:
                    layers.append(nn.BatchNorm2d(after))
                layers.append(nn.LeakyReLU(_SLOPE))
            layers.append(nn.Conv2d(_WIDTHS[-1], 1, side // _SHRINKS, bias=False))
            self.layers = nn.Sequential(*layers)
        self.squash = nn.Sigmoid() if output == "sigmoid" else nn.Identity()
        materialize(self, seed)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
        """How much normalised pictures look like photographs."""
        return self.squash(self.layers(images).flatten())
