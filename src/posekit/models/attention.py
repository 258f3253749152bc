"""The convolutional block attention module (CBAM, Woo et al. 2018)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

_KERNEL = 7


class ChannelAttention(nn.Module):
    """Weighs channels by what an MLP makes of their means and of their maxima: sigmoid(MLP(mean) + MLP(max))."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

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
    """Attention by channel, then by place; the second sees what the first made (Pose ResNet, section 3.2)."""

    def __init__(self, channels: int, reduction: int = 16, norm: bool = True) -> None:
        super().__init__()
        self.channels = ChannelAttention(channels, reduction)
        self.places = SpatialAttention(norm)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Weighted features of the same shape."""
        return self.places(self.channels(features))
