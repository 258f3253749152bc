"""The discriminator: size, range, and which pictures it takes."""

from __future__ import annotations

import pytest
import torch

from posekit.errors import ConfigError
from posekit.models.discriminator import Discriminator


def test_it_has_the_size_of_the_authors_code() -> None:
    with torch.device("meta"):
        network = Discriminator()
        scores = network(torch.empty(2, 3, 224, 224))
    assert sum(values.numel() for values in network.parameters()) == 2_848_128
    assert scores.shape == (2,)


def test_the_sigmoid_is_all_that_differs_between_the_outputs() -> None:
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    squashed, linear = (Discriminator(output, side=64, seed=1).eval() for output in ("sigmoid", "linear"))
    with torch.no_grad():
        torch.testing.assert_close(squashed(images), linear(images).sigmoid())
    assert squashed.state_dict().keys() == linear.state_dict().keys()
    assert not torch.equal(linear(images)[0], linear(images)[1])


def test_weights_come_from_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (Discriminator(side=32, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


@pytest.mark.parametrize("side", [0, 100])
def test_other_sides_are_refused(side: int) -> None:
    with pytest.raises(ConfigError, match="multiple of 32"):
        Discriminator(side=side)
