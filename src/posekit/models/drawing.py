"""Weights that depend on a seed and on nothing else."""

from __future__ import annotations

import math

import torch
from torch import nn

_DEVIATION = 0.02


def materialize(network: nn.Module, seed: int) -> torch.Generator:
    """Gives memory to a network that was built on the meta device, and draws its weights from `seed`.

    Convolutions are drawn from N(0, 0.02), BatchNorm weights from N(1, 0.02) (Radford et al. 2016, "DCGAN"), linear
    layers as PyTorch does by default. Under ``with torch.device("meta")`` the network stays without memory, to be counted.
    Returns the generator, for what else is to be drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    if torch.get_default_device().type == "meta":
        return generator
    network.to_empty(device="cpu")
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=_DEVIATION, generator=generator)
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()
            nn.init.normal_(part.weight, mean=1.0, std=_DEVIATION, generator=generator)
        elif isinstance(part, nn.Linear):
            nn.init.kaiming_uniform_(part.weight, a=math.sqrt(5.0), generator=generator)
            bound = 1.0 / math.sqrt(part.in_features)
            nn.init.uniform_(part.bias, -bound, bound, generator=generator)
    return generator
