"""Atrous convolutions of several rates over one map: in a waterfall (WASP) or side by side (ASPP)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from posekit.errors import ConfigError

AtrousPool = Literal["wasp", "aspp"]

_DROPOUT = 0.5


class _ConvNorm(nn.Sequential):
    def __init__(self, channels: int, width: int, rate: int = 0) -> None:
        """A 3x3 convolution of a rate, or (0) a 1x1 convolution."""
        kernel = 3 if rate else 1
        conv = nn.Conv2d(channels, width, kernel, padding=rate, dilation=max(1, rate), bias=False)
        super().__init__(conv, nn.BatchNorm2d(width), nn.ReLU())


class AtrousPooling(nn.Module):
    """Five branches, concatenated and brought to `width` channels.

    A 1x1 convolution; three 3x3 convolutions of the `rates`, each fed by the branch before it (`wasp`, Artacho and Savakis
    2020) or by the map itself (`aspp`, Chen et al. 2017); and the mean of the map. With `unipose_extra` the first four pass
    twice through one shared 1x1 convolution, as in the code of UniPose. Dropout of one half stands last. A rate as large as
    the map reaches padding alone, but for the centre of its kernel.
    """

    def __init__(
        self, channels: int, width: int, rates: Sequence[int], kind: AtrousPool = "wasp", unipose_extra: bool = False
    ) -> None:
        super().__init__()
        self.kind = kind
        self.first = _ConvNorm(channels, width)
        source = width if kind == "wasp" else channels
        self.atrous = nn.ModuleList(_ConvNorm(source, width, rate) for rate in rates)
        self.mean = _ConvNorm(channels, width)
        self.extra = nn.Conv2d(width, width, 1, bias=False) if unipose_extra else None
        self.join = _ConvNorm((len(rates) + 2) * width, width)
        self.dropout = nn.Dropout(_DROPOUT)

    def draw(self, generator: torch.Generator) -> None:
        """First weights, as He et al. (2015) have it."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, generator=generator)
            elif isinstance(part, nn.BatchNorm2d):
                part.reset_parameters()

    def branches(self, features: Float[Tensor, "B C h w"]) -> list[Float[Tensor, "B W h w"]]:
        """The first convolution and the atrous ones."""
        found = [self.first(features)]
        for conv in self.atrous:
            found.append(conv(found[-1] if self.kind == "wasp" else features))
        if self.extra is not None:
            found = [self.extra(self.extra(branch)) for branch in found]
        return found

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B W h w"]:
        """A map of the same size with `width` channels; ConfigError for a training step with a single sample."""
        if self.training and len(features) == 1 and isinstance(self.mean[1], nn.BatchNorm2d):
            # The mean of a map is one cell; synchronised norms see those of other processes as well.
            raise ConfigError(
                "the means of the maps cannot be normalised over one sample",
                got="a batch of 1",
                accepted="2 samples or more",
                hint="Give a larger --batch, or --pool none",
            )
        branches = self.branches(features)
        whole = self.mean(features.mean(dim=(2, 3), keepdim=True)).expand_as(branches[0])
        return self.dropout(self.join(torch.cat([*branches, whole], dim=1)))
