"""WASP and ASPP: shapes, sizes, and which cells see which (conformance check 16 of the method)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from posekit.errors import ConfigError
from posekit.models.atrous import AtrousPool, AtrousPooling

SIDE = 8


def reach(rates: tuple[int, ...]) -> Tensor:
    """For each cell of the last atrous branch, which cells of the map its chain of atrous convolutions sees."""
    pool = AtrousPooling(1, 1, rates).eval()
    for module in pool.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    seen = torch.zeros(SIDE * SIDE, SIDE * SIDE, dtype=torch.bool)
    for cell in range(SIDE * SIDE):
        x = torch.ones(1, 1, SIDE, SIDE, requires_grad=True)
        pool.branches(x)[-1].flatten()[cell].backward()
        assert x.grad is not None
        seen[cell] = x.grad.flatten() != 0
    return seen


def test_the_waterfall_of_these_rates_lets_every_cell_see_every_other() -> None:
    assert reach((2, 3, 4)).all()


def test_smaller_and_larger_rates_do_not() -> None:
    small = reach((1, 2, 3)).double().mean(1)
    assert 0.76 < small.min() < 0.78 and small.max() == 1.0
    large = reach((18, 12, 6)).double().mean(1)
    assert 0.015 < large.min() < 0.017 and large.mean() < 0.04


@pytest.mark.parametrize("kind", ["wasp", "aspp"])
def test_the_map_keeps_its_size(kind: AtrousPool) -> None:
    torch.manual_seed(0)
    pool = AtrousPooling(32, 16, (2, 3, 4), kind)
    assert pool(torch.randn(2, 32, SIDE, SIDE)).shape == (2, 16, SIDE, SIDE)


def test_parameters_of_the_paper_s_size() -> None:
    with torch.device("meta"):
        sizes = {
            name: sum(parameter.numel() for parameter in module.parameters())
            for name, module in {
                "wasp": AtrousPooling(2048, 256, (2, 3, 4)),
                "extra": AtrousPooling(2048, 256, (2, 3, 4), unipose_extra=True),
                "aspp": AtrousPooling(2048, 256, (2, 3, 4), "aspp"),
            }.items()
        }
    assert sizes["wasp"] == 3_148_800
    assert sizes["extra"] == 3_148_800 + 256 * 256
    assert sizes["aspp"] == 3_148_800 + 3 * 9 * (2048 - 256) * 256


def test_each_branch_of_a_waterfall_is_fed_by_the_one_before() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 8, SIDE, SIDE)
    for kind, fed in (("wasp", True), ("aspp", False)):
        pool = AtrousPooling(8, 8, (2, 3, 4), kind).eval()  # type: ignore[arg-type]
        before = [branch.clone() for branch in pool.branches(x)]
        nn.init.zeros_(pool.first[0].weight)
        after = pool.branches(x)
        changed = [not torch.equal(one, other) for one, other in zip(before, after, strict=True)]
        assert changed == [True, fed, fed, fed]


def test_the_extra_convolution_passes_twice() -> None:
    torch.manual_seed(0)
    pool = AtrousPooling(8, 8, (2, 3, 4), unipose_extra=True).eval()
    assert pool.extra is not None
    nn.init.zeros_(pool.extra.weight)
    for channel in range(8):
        pool.extra.weight.data[channel, channel] = 2.0
    x = torch.randn(1, 8, SIDE, SIDE)
    with_extra = pool.branches(x)
    pool.extra = None
    for one, other in zip(with_extra, pool.branches(x), strict=True):
        torch.testing.assert_close(one, 4.0 * other)


def drawn(channels: int, width: int) -> AtrousPooling:
    pool = AtrousPooling(channels, width, (2, 3, 4))
    pool.draw(torch.Generator().manual_seed(0))
    return pool


def test_weights_start_as_he_et_al_have_it_and_half_is_dropped_in_training() -> None:
    pool, given = drawn(64, 128), torch.randn(4, 64, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert pool.atrous[1][0].weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert pool.join[0].weight.std().item() == pytest.approx((2 / (5 * 128)) ** 0.5, rel=0.02)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kept = (pool.train()(given) != 0).double().mean().item()
    assert kept == pytest.approx(0.25, abs=0.04)  # half of what ReLU leaves
    assert (pool.eval()(given) != 0).double().mean().item() > 1.5 * kept


def test_one_sample_can_be_evaluated_but_not_trained_with() -> None:
    pool, given = drawn(6, 4), torch.ones(1, 6, SIDE, SIDE)
    with pytest.raises(ConfigError, match=r"batch of 1.*--pool none"):
        pool.train()(given)
    assert pool.eval()(given).shape == (1, 4, SIDE, SIDE)
