"""Meshes for the renderer's tests."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

import numpy as np
import pytest
import torch
from torch import Tensor

from posekit.render.topology import MeshTopology

BodyOnScreen = Callable[..., Tensor]


@pytest.fixture(scope="session")
def body_mesh() -> tuple[Tensor, Tensor]:
    """Rest vertices (6890, 3) and faces (13776, 3) of the packaged body."""
    with resources.as_file(resources.files("posekit.body") / "assets" / "free_body.npz") as path, np.load(path) as data:
        return torch.tensor(data["v_template"]), torch.tensor(data["f"].astype(np.int64))


@pytest.fixture(scope="session")
def body_topology(body_mesh: tuple[Tensor, Tensor]) -> MeshTopology:
    return MeshTopology.from_faces(body_mesh[1])


@pytest.fixture(scope="session")
def body_on_screen(body_mesh: tuple[Tensor, Tensor]) -> BodyOnScreen:
    """Makes screen vertices of bodies turned at random, three quarters of the image high, 4 m away."""

    def make(count: int, size: tuple[int, int] = (96, 96), seed: int = 0, zoom: float = 1.0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        angle = torch.rand(count, generator=generator) * 2 * torch.pi
        cosine, sine, zero, one = angle.cos(), angle.sin(), torch.zeros(count), torch.ones(count)
        rows = [[cosine, zero, sine], [zero, -one, zero], [-sine, zero, cosine]]
        turn = torch.stack([torch.stack(row, -1) for row in rows], 1)
        rest = body_mesh[0] - (body_mesh[0].amax(0) + body_mesh[0].amin(0)) / 2
        camera = rest @ turn.transpose(1, 2) + torch.tensor([0.0, 0.0, 4.0])
        focal = zoom * 0.75 * size[0] * 4 / 1.7
        middle = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2])
        return torch.cat([camera[..., :2] / camera[..., 2:] * focal + middle, camera[..., 2:]], -1)

    return make


@pytest.fixture
def grid_mesh() -> Callable[[int, int], tuple[Tensor, Tensor]]:
    """Makes a flat grid of rows x columns squares: positions (x, y) and faces."""

    def make(rows: int, columns: int) -> tuple[Tensor, Tensor]:
        y, x = torch.meshgrid(torch.arange(rows + 1.0), torch.arange(columns + 1.0), indexing="ij")
        index = torch.arange((rows + 1) * (columns + 1)).view(rows + 1, columns + 1)
        a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
        faces = torch.cat([torch.stack([a, b, c], -1).view(-1, 3), torch.stack([b, d, c], -1).view(-1, 3)])
        return torch.stack([x, y], -1).view(-1, 2), faces

    return make
