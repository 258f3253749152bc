"""The convolutional block attention module (CBAM, Woo et al. 2018)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

_KERNEL = 7
_SMALL = 0.01


class ChannelAttention(nn.Module):
    """Weighs channels by what an MLP makes of their means and of their maxima: sigmoid(MLP(mean) + MLP(max))."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        first, second = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.mlp = nn.Sequential(first, nn.ReLU(), second)

    def draw(self, generator: torch.Generator) -> None:
        """First weights, as PyTorch draws them but for signs; biases are zero."""
        layers = [layer for layer in self.mlp if isinstance(layer, nn.Linear)]
        for layer in layers:
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5.0), generator=generator)
            nn.init.zeros_(layer.bias)
        # What comes in is never negative: a unit whose weights sum to less than zero is silent for almost any image, and with
        # some seeds all four units of 64 channels would be, which no training could change.
        hidden = layers[0].weight
        with torch.no_grad():
            hidden.mul_(torch.where(hidden.sum(dim=1, keepdim=True) < 0, -1.0, 1.0))

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """The features, each channel times its weight."""
        weights = torch.sigmoid(self.mlp(features.mean(dim=(2, 3))) + self.mlp(features.amax(dim=(2, 3))))
        return features * weights[:, :, None, None]


class SpatialAttention(nn.Module):
    """Weighs places by a convolution over the maximum and the mean of all channels.

    `norm` puts a BatchNorm behind the convolution, as the code of CBAM's authors does.
    """

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, _KERNEL, padding=_KERNEL // 2, bias=False)
        self.norm = nn.BatchNorm2d(1) if norm else nn.Identity()

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """The features, each place times its weight."""
        pooled = torch.cat([features.amax(dim=1, keepdim=True), features.mean(dim=1, keepdim=True)], dim=1)
        return features * torch.sigmoid(self.norm(self.conv(pooled)))


class Cbam(nn.Module):
    """Attention by channel, then by place; the second sees what the first made (Pose ResNet, section 3.2).

    The hidden layer has `channels // reduction` units, one at least. After `draw` both weights are about one half.
    """

    def __init__(self, channels: int, reduction: int = 16, norm: bool = True) -> None:
        super().__init__()
        self.channels = ChannelAttention(channels, reduction)
        self.places = SpatialAttention(norm)

    def draw(self, generator: torch.Generator) -> None:
        """First weights: those of the authors' code, in which all places weigh one half whatever the convolution says."""
        self.channels.draw(generator)
        if isinstance(self.places.norm, nn.BatchNorm2d):
            nn.init.kaiming_normal_(self.places.conv.weight, mode="fan_out", generator=generator)
            self.places.norm.reset_parameters()
            nn.init.zeros_(self.places.norm.weight)
        else:
            nn.init.normal_(self.places.conv.weight, std=_SMALL, generator=generator)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Weighted features of the same shape."""
        return self.places(self.channels(features))
