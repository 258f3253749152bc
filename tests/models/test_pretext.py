"""The heads of the pretext tasks: sizes of the paper, ranges, and weights from seeds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from posekit.errors import ConfigError
from posekit.models.pretext import InPainter, JigsawHead, RotationHead


def parameters(network: nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: JigsawHead(), 21_022_744),
        (lambda: RotationHead(), 8_196),
        (lambda: RotationHead(form="mlp"), 2048 * 2048 + 2048 + 8_196),
        (lambda: InPainter(), 19_534_720),
    ],
)
def test_the_heads_have_the_sizes_of_the_paper(build: Callable[[], nn.Module], count: int) -> None:
    with torch.device("meta"):
        assert parameters(build()) == count


def test_the_jigsaw_head_knows_the_order_of_its_inputs() -> None:
    head = JigsawHead(features=8).eval()
    tiles, whole = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0)), torch.ones(2, 8)
    logits = head(tiles, whole)
    assert logits.shape == (2, 24)
    assert not torch.allclose(logits, head(tiles.flip(1), whole))
    expected = head.layers(torch.stack([torch.cat([*sample, torch.ones(8)]) for sample in tiles]))
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("patch", [8, 32, 64])
def test_the_in_painter_gives_patches_in_its_range(patch: int) -> None:
    painter = InPainter(features=16, patch=patch)
    given = painter(torch.randn(2, 16, generator=torch.Generator().manual_seed(0)))
    assert given.shape == (2, 3, patch, patch)
    assert given.abs().max() <= 1
    assert given.std() > 0


@pytest.mark.parametrize("patch", [0, 4, 48])
def test_the_in_painter_refuses_other_sides(patch: int) -> None:
    with pytest.raises(ConfigError, match="power of two"):
        InPainter(features=16, patch=patch)


@pytest.mark.parametrize(
    "build",
    [
        lambda seed: JigsawHead(features=4, seed=seed),
        lambda seed: RotationHead(features=4, seed=seed),
        lambda seed: InPainter(features=4, patch=8, seed=seed),
    ],
)
def test_weights_come_from_the_seed_alone(build: Callable[[int], nn.Module]) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (build(seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert all(values.isfinite().all() for values in first.values())


def test_new_layers_start_as_in_the_authors_code() -> None:
    painter = InPainter(features=64)
    assert painter.layers[0].weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert painter.layers[1].weight.mean().item() == pytest.approx(1.0, abs=0.01)
    assert painter.layers[1].bias.abs().max() == 0
    linear = RotationHead().layers
    assert linear.weight.abs().max().item() == pytest.approx(2048**-0.5, rel=0.02)
