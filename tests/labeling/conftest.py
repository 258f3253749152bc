"""A person of canonical size who walks about between four cameras like those of Human3.6M."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch

from posekit.geometry.cameras import Cameras
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.skeleton.catalog import H36M17
from posekit.skeleton.skeleton import Skeleton

OFFSETS = {
    "right_hip": (-0.1329, 0.0, 0.0),
    "left_hip": (0.1329, 0.0, 0.0),
    "right_knee": (0.0, 0.0, -0.4429),
    "left_knee": (0.0, 0.0, -0.4429),
    "right_ankle": (0.0, 0.0, -0.4542),
    "left_ankle": (0.0, 0.0, -0.4542),
    "spine": (0.0, 0.0, 0.2334),
    "thorax": (0.0, 0.0, 0.2571),
    "jaw": (0.0, 0.05, 0.11),
    "head": (0.0, 0.0, 0.115),
    "left_shoulder": (0.151, 0.0, 0.0),
    "right_shoulder": (-0.151, 0.0, 0.0),
    "left_elbow": (0.0, 0.0, -0.2789),
    "right_elbow": (0.0, 0.0, -0.2789),
    "left_wrist": (0.0, 0.0, -0.2517),
    "right_wrist": (0.0, 0.0, -0.2517),
}


class Recording(NamedTuple):
    """What four cameras saw (T, C, J, 2), how sure they were, and the truth (T, J, 3)."""

    cameras: Cameras
    keypoints: torch.Tensor
    confidence: torch.Tensor
    joints: torch.Tensor
    skeleton: Skeleton

    @property
    def names(self) -> list[str]:
        return ["54138969", "55011271", "58860488", "60457274"]


def make_cameras() -> Cameras:
    rotations, translations = [], []
    for x, y, z in ((1.76, -5.08, 1.6), (1.87, 5.2, 1.5), (-1.85, -5.1, 1.6), (-1.7, 4.0, 1.55)):
        centre = torch.tensor([x, y, z], dtype=torch.float64)
        forward = torch.nn.functional.normalize(torch.tensor([0.1, 0.0, 0.9], dtype=torch.float64) - centre, dim=0)
        down = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
        right = torch.nn.functional.normalize(torch.linalg.cross(down, forward), dim=0)
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
        rotations.append(rotation)
        translations.append(-rotation @ centre)
    K = torch.tensor([[1145.0, 0.0, 512.0], [0.0, 1143.0, 515.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    lens = torch.tensor([-0.2, 0.24, -0.002, -0.0009, -0.0016], dtype=torch.float64)
    return Cameras(
        K.expand(4, 3, 3),
        torch.stack(rotations),
        torch.stack(translations),
        lens.expand(4, 5),
        "human36m",
        torch.full((4, 2), 1000.0, dtype=torch.float64),
    )


def make_person(frames: int, generator: torch.Generator, skeleton: Skeleton = H36M17) -> torch.Tensor:
    """Joints (T, J, 3) in a world with z up: smooth random poses along a wandering path."""
    time = torch.linspace(0, 1, frames, dtype=torch.float64)

    def smooth(*shape: int) -> torch.Tensor:
        phase = 2 * math.pi * torch.rand(*shape, 3, generator=generator, dtype=torch.float64)
        speed = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
        waves = torch.sin(2 * math.pi * speed * time.reshape(-1, *[1] * (len(shape) + 1)) + phase)
        return waves.mean(dim=-1)

    positions = {"pelvis": torch.stack([1.2 * smooth(), 1.2 * smooth(), 0.9 + 0.1 * smooth()], dim=-1)}
    heading = torch.zeros(frames, 3, dtype=torch.float64)
    heading[:, 2] = 4 * math.pi * smooth()
    frame_of = {"pelvis": matrix_from_axis_angle(heading)}
    for name in OFFSETS:
        parent = skeleton.joints[skeleton.parents[skeleton.index(name)]]
        stiff = name.endswith(("hip", "shoulder")) or name in ("spine", "thorax", "jaw", "head")
        frame_of[name] = frame_of[parent] @ matrix_from_axis_angle((0.15 if stiff else 0.9) * smooth(3))
        offset = torch.tensor(OFFSETS[name], dtype=torch.float64)
        positions[name] = positions[parent] + frame_of[name] @ offset
    return torch.stack([positions[name] for name in skeleton.joints], dim=1)


def record(frames: int, *, noise_px: float = 0.0, outliers: float = 0.0, seed: int = 0) -> Recording:
    generator = torch.Generator().manual_seed(seed)
    cameras, joints = make_cameras(), make_person(frames, generator)
    seen = cameras.project(joints.reshape(-1, 3)).reshape(4, frames, -1, 2).transpose(0, 1).clone()
    seen += noise_px * torch.randn(seen.shape, generator=generator, dtype=torch.float64)
    wrong = torch.rand(seen.shape[:-1], generator=generator) < outliers
    seen[wrong] += 80 * torch.randn(int(wrong.sum()), 2, generator=generator, dtype=torch.float64)
    return Recording(cameras, seen, torch.ones(seen.shape[:-1], dtype=torch.float64), joints, H36M17)


@pytest.fixture(scope="session")
def clean() -> Recording:
    return record(60)


@pytest.fixture(scope="session")
def noisy() -> Recording:
    return record(200, noise_px=2.0, outliers=0.05, seed=1)
