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


def drawn(seed: int, norm: bool = True) -> Cbam:
    attention = Cbam(64, norm=norm)
    attention.draw(torch.Generator().manual_seed(seed))
    return attention


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_drawn_weights_multiply_by_about_a_quarter_whatever_the_seed(norm: bool, training: bool) -> None:
    given = features(64).relu()
    for seed in range(10):
        with torch.no_grad():
            ratio = (drawn(seed, norm).train(training)(given) / given)[given > 0]
        assert ratio.mean().item() == pytest.approx(0.25, abs=0.06)


def test_no_seed_silences_the_hidden_layer() -> None:
    pooled = features(64).relu().amax((2, 3))
    assert all((drawn(seed).channels.mlp[0](pooled) > 0).any() for seed in range(100))


def test_all_weights_learn_once_the_norm_has_left_its_start() -> None:
    attention, given = drawn(0), features(64).relu()
    optimizer = torch.optim.SGD(attention.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (attention(given) * features(64)).sum().backward()
        optimizer.step()
    assert all(values.grad is not None and values.grad.any() for values in attention.parameters())
