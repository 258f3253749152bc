"""The two networks of the lifter: one gives depths to a 2D pose, the other tells real 2D poses from made ones."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_HIDDEN_LAYERS = 6
_SLOPE = 0.2


class ResidualPerceptron(nn.Module):
    """Eight linear layers with leaky rectifiers, and a shortcut around every second pair of layers.

    Yoshiyasu and Gamez 2019 say "eight linear layers"; width and shortcuts are those of the public code of Kudo et al.
    2018. Weights start as He et al. 2015 have it, drawn from `generator`; the last layer starts small.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int = 1024, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        sizes = [inputs, *[width] * (_HIDDEN_LAYERS + 1), outputs]
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        for layer in layers[:-1]:
            nn.init.kaiming_normal_(layer.weight, _SLOPE, generator=generator)
        nn.init.normal_(layers[-1].weight, std=0.02, generator=generator)
        for layer in layers:
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers)

    def forward(self, values: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        """The outputs, unbounded."""
        hidden = F.leaky_relu(self.layers[0](values), _SLOPE)
        for first in range(1, 1 + _HIDDEN_LAYERS, 2):
            inner = F.leaky_relu(self.layers[first](hidden), _SLOPE)
            hidden = F.leaky_relu(self.layers[first + 1](inner) + hidden, _SLOPE)
        return self.layers[-1](hidden)


class DepthGenerator(ResidualPerceptron):
    """From the 2D joints of a normalised pose to their depths (6 347 792 parameters for 16 joints)."""

    def __init__(self, joints: int, width: int = 1024, *, generator: torch.Generator | None = None) -> None:
        super().__init__(2 * joints, joints, width, generator=generator)

    def forward(self, poses: Float[Tensor, "B J 2"]) -> Float[Tensor, "B J"]:
        """Depths of the joints, in the unit of the poses; only their differences mean something."""
        return super().forward(poses.flatten(1))


class PoseDiscriminator(ResidualPerceptron):
    """From the 2D joints of a normalised pose to how real it looks, a logit (6 332 417 parameters for 16 joints)."""

    def __init__(self, joints: int, width: int = 1024, *, generator: torch.Generator | None = None) -> None:
        super().__init__(2 * joints, 1, width, generator=generator)

    def forward(self, poses: Float[Tensor, "B J 2"]) -> Float[Tensor, " B"]:
        """Logits: above zero for poses that look like those of the data."""
        return super().forward(poses.flatten(1))[:, 0]
