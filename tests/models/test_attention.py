"""CBAM against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from posekit.models.attention import Cbam


def features(channels: int) -> torch.Tensor:
    return torch.randn(2, channels, 9, 7, generator=torch.Generator().manual_seed(0))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("channels", "parameters"), [(64, 680), (2048, 526_564)])
def test_parameters(channels: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(Cbam(channels)) == parameters
        assert count(Cbam(channels, norm=False)) == parameters - 2


def test_it_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    cbam, x = Cbam(32, 8, norm=False), features(32)
    first, _, second = cbam.channels.mlp

    def mlp(pooled: torch.Tensor) -> torch.Tensor:
        return F.linear(F.relu(F.linear(pooled, first.weight, first.bias)), second.weight, second.bias)

    by_channel = torch.sigmoid(
        mlp(F.adaptive_avg_pool2d(x, 1).flatten(1)) + mlp(F.adaptive_max_pool2d(x, 1).flatten(1))
    )
    refined = x * by_channel[..., None, None]
    pooled = torch.stack([refined.max(1).values, refined.mean(1)], dim=1)
    by_place = torch.sigmoid(F.conv2d(pooled, cbam.places.conv.weight, padding=3))
    torch.testing.assert_close(cbam(x), refined * by_place)


def test_a_fresh_one_halves_twice() -> None:
    torch.manual_seed(0)
    x = features(64)
    ratio = (Cbam(64).eval()(x) / x).median()
    assert 0.15 < ratio < 0.35
