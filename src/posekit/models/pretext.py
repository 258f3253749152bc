"""Heads that solve the pretext tasks of Cha et al. 2021 from image features (their Tables 1 to 3)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from posekit.errors import ConfigError
from posekit.models.drawing import materialize

RotationHeadForm = Literal["linear", "mlp"]

_HIDDEN = 2048
_DROPOUT = 0.5
_NARROWEST = 64
_SMALLEST_PATCH = 8


class JigsawHead(nn.Module):
    """Which permutation shuffled the tiles: logits from the tiles' features in shuffled order, then the whole image's.

    `classes` is 24 for two tiles a side. Weights are drawn from `seed` alone.
    """

    def __init__(self, features: int = 2048, tiles: int = 4, classes: int = 24, seed: int = 0) -> None:
        super().__init__()
        with torch.device("meta"):
            self.layers = _perceptron((tiles + 1) * features, classes)
        materialize(self, seed)

    def forward(self, tiles: Float[Tensor, "B T C"], whole: Float[Tensor, "B C"]) -> Float[Tensor, "B N"]:
        """Logits of the permutations."""
        return self.layers(torch.cat([tiles.flatten(1), whole], dim=1))


class RotationHead(nn.Module):
    """By which angle the picture was turned: logits from its features.

    The paper's Table 2 repeats Table 1; the authors' code has one linear layer (``linear``), and ``mlp`` is the
    perceptron that the table may have meant. Weights are drawn from `seed` alone.
    """

    def __init__(
        self, features: int = 2048, classes: int = 4, form: RotationHeadForm = "linear", seed: int = 0
    ) -> None:
        super().__init__()
        with torch.device("meta"):
            self.layers = nn.Linear(features, classes) if form == "linear" else _perceptron(features, classes)
        materialize(self, seed)

    def forward(self, features: Float[Tensor, "B C"]) -> Float[Tensor, "B N"]:
        """Logits of the angles."""
        return self.layers(features)


class InPainter(nn.Module):
    """The hole's content, in [-1, 1], from the features of the picture around it: a generator as DCGAN's.

    `patch` is the side of the hole, a power of two; each doubling of the map halves its channels down to 64. Weights are
    drawn from `seed` alone. Raises ConfigError for another side.
    """

    def __init__(self, features: int = 2048, patch: int = 64, seed: int = 0) -> None:
        super().__init__()
        if patch < _SMALLEST_PATCH or patch & (patch - 1):
            raise ConfigError(
                "the in-painted patch has a side that deconvolutions cannot reach",
                got=f"{patch} px",
                accepted="a power of two from 8 on, such as 32 or 64",
            )
        doublings = patch.bit_length() - 3
        widths = [_NARROWEST << step for step in reversed(range(doublings))]
        layers: list[nn.Module] = []
        with torch.device("meta"):
            for before, after in zip([features, *widths], widths, strict=False):
                stride, padding = (1, 0) if not layers else (2, 1)
                layers += [
                    nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                ]
            layers += [nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1, bias=False), nn.Tanh()]
            self.layers = nn.Sequential(*layers)
        materialize(self, seed)

    def forward(self, features: Float[Tensor, "B C"]) -> Float[Tensor, "B 3 P P"]:
        """The patch."""
        return self.layers(features[:, :, None, None])


def _perceptron(features: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, _HIDDEN), nn.ReLU(), nn.Dropout(_DROPOUT), nn.Linear(_HIDDEN, classes))
