"""A data set of random poses of three subjects, one sample each frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.records import Camera, Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import H36M17


@dataclass
class Poses:
    """Six samples of S1, two of S5 (both for training), five of S9 (test); each a pose of its own."""

    path: Path
    joints: np.ndarray = field(
        default_factory=lambda: np.random.default_rng(0).normal(size=(13, 17, 3)).astype(np.float32)
    )
    splits: tuple[str, str, str] = ("train", "train", "test")

    def write(self, *, truth: bool = True) -> Path:
        count = len(self.joints)
        clips = [
            Clip(name, 50.0, name, split=split) for name, split in zip(("S1", "S5", "S9"), self.splits, strict=True)
        ]
        samples = {
            "sequence": np.repeat([0, 1, 2], [6, 2, 5]),
            "frame": np.arange(count),
            "person": np.zeros(count),
            "camera": np.zeros(count),
            "bbox": np.tile([0.0, 0.0, 10.0, 10.0], (count, 1)),
            "keypoints2d": np.zeros((count, 17, 3)),
        }
        with ArtifactWriter(self.path, Header("dataset", "test", skeleton=H36M17)) as writer:
            writer.append("cameras", camera_columns([Camera("c", 100, 100, np.eye(3))]))
            writer.append("sequences", clip_columns(clips))
            writer.append("samples", samples | ({"joints3d": self.joints} if truth else {}))
        return self.path


@pytest.fixture
def poses(tmp_path: Path) -> Poses:
    """Poses that are not written yet."""
    return Poses(tmp_path / "poses.h5")
