"""The texture network: size, range, and where its gradients go."""

from __future__ import annotations

import torch

from posekit.models.backbone import Backbone
from posekit.models.texture import TextureNetwork


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 32, 32, generator=generator), torch.randn(2, 6, generator=generator)


def test_the_head_of_smpl_has_the_size_of_the_paper() -> None:
    with torch.device("meta"):
        network = TextureNetwork(13_776)
    assert sum(values.numel() for values in network.parameters()) == 84_681_072


def test_a_trunk_of_its_own_sees_the_picture_and_not_the_features() -> None:
    images, features = inputs()
    network = TextureNetwork(20, Backbone("resnet10")).eval()
    assert network.head.in_features == 512
    colours = network(images, features)
    assert colours.shape == (2, 20, 3)
    assert ((colours > 0) & (colours < 1)).all()
    assert torch.equal(colours, network(images, features + 1))
    assert not torch.equal(colours[0], colours[1])


def test_shared_features_are_used_but_get_no_gradient() -> None:
    images, features = inputs()
    features.requires_grad_()
    network = TextureNetwork(20, feature_count=6)
    colours = network(images, features)
    assert not torch.equal(colours, network(images, features * 2))
    colours.sum().backward()
    assert features.grad is None
    assert network.head.weight.grad.abs().sum() > 0


def test_the_seed_draws_the_head_and_leaves_the_trunk() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (TextureNetwork(5, Backbone("resnet10", 7), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
    assert torch.equal(first.backbone.conv1.weight, Backbone("resnet10", 7).conv1.weight)
