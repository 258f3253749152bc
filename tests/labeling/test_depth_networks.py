"""The networks of the lifter: their sizes, their wiring, their first weights."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import leaky_relu

from posekit.labeling.depth_networks import DepthGenerator, PoseDiscriminator, ResidualPerceptron


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_sixteen_joints_make_the_published_counts() -> None:
    assert parameters(DepthGenerator(16)) == 6_347_792
    assert parameters(PoseDiscriminator(16)) == 6_332_417


@pytest.mark.parametrize("joints", [14, 16])
def test_outputs_are_a_depth_for_each_joint_and_a_logit_for_each_pose(joints: int) -> None:
    poses = torch.randn(5, joints, 2)
    assert DepthGenerator(joints, 8)(poses).shape == (5, joints)
    assert PoseDiscriminator(joints, 8)(poses).shape == (5,)


def test_shortcuts_go_around_pairs_of_layers() -> None:
    network = ResidualPerceptron(3, 2, 5).double()
    values = torch.randn(4, 3, dtype=torch.float64)
    layers = list(network.layers)
    assert len(layers) == 8
    first = leaky_relu(layers[0](values), 0.2)
    third = leaky_relu(layers[2](leaky_relu(layers[1](first), 0.2)) + first, 0.2)
    fifth = leaky_relu(layers[4](leaky_relu(layers[3](third), 0.2)) + third, 0.2)
    seventh = leaky_relu(layers[6](leaky_relu(layers[5](fifth), 0.2)) + fifth, 0.2)
    torch.testing.assert_close(network(values), layers[7](seventh))


def test_first_weights_follow_the_generator_given() -> None:
    first, again, other = (DepthGenerator(14, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)
    assert all(not layer.bias.any() for layer in first.layers)
