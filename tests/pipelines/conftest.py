"""A workspace with a tiny data set: people near a T-pose before a far camera, pictures of noise, correspondences, no lifter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.landmarks import regressor
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.datasets.crops import encode_image, square_crop
from posekit.datasets.pictures import guessed_camera
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.records import Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import H36M17

FRAMES, STORED, POINTS = 4, 32, 60
BOX = np.array([20.0, 20.0, 180.0, 180.0])
CLIPS = (
    Clip("S1 Walking", 50.0, "S1", "Walking", 1, "train"),
    Clip("S5 Sitting", 50.0, "S5", "Sitting", 1, "train"),
    Clip("S9 Walking", 50.0, "S9", "Walking", 1, "test"),
)


@dataclass(frozen=True)
class Workspace:
    """Data sets by name, each with its correspondences."""

    root: Path

    def dataset(self, name: str) -> Path:
        return self.root / "data" / f"{name}.h5"

    def dense(self, name: str) -> Path:
        return self.root / "labels" / f"{name}.dense.h5"

    def add(self, name: str, clips: tuple[Clip, ...] = CLIPS, seed: int = 0, *, with_truth: bool = True) -> Path:
        """Writes a data set with one picture for each of the `FRAMES` frames of every clip."""
        random = np.random.default_rng(seed)
        count = len(clips) * FRAMES
        units = people(count, random)
        pixels = 100.0 + 96.0 * units[..., :2]
        joints = regressor(load_body(), H36M17) @ units
        noise = random.integers(0, 255, (count, 4, 4, 3)).astype(np.uint8)
        sequence, frame = (axis.ravel() for axis in np.indices((len(clips), FRAMES)))
        zeros = np.zeros(count, np.int64)
        keys = {"sequence": sequence, "frame": 5 * frame, "person": zeros, "camera": zeros}
        keypoints = 100.0 + 96.0 * joints[..., :2]
        samples: dict[str, Any] = keys | {
            "bbox": [BOX] * count,
            "keypoints2d": np.pad(keypoints, ((0, 0), (0, 0), (0, 1)), constant_values=1.0),
            "crop_from_image": [square_crop(BOX, STORED, 1.2)] * count,
            "image": [encode_image(cv2.resize(picture, (STORED, STORED)), "png") for picture in noise],
        }
        if with_truth:
            samples["joints3d"] = joints + np.array([0.0, 0.0, 5.0])
        with ArtifactWriter(self.dataset(name), Header("dataset", "test", {"seed": seed}, skeleton=H36M17)) as writer:
            writer.append("cameras", camera_columns([guessed_camera("view", 200, 200)]))
            writer.append("sequences", clip_columns(list(clips)))
            writer.append("samples", samples)
        self._add_dense(name, keys, pixels, random)
        return self.dataset(name)

    def _add_dense(
        self, name: str, keys: dict[str, np.ndarray], pixels: np.ndarray, random: np.random.Generator
    ) -> None:
        chosen = random.choice(pixels.shape[1], POINTS, replace=False)
        points = {
            "pixels": list(pixels[:, chosen]),
            "vertices": [chosen] * len(pixels),
            "weights": [np.ones(POINTS)] * len(pixels),
        }
        with Artifact(self.dataset(name)) as dataset:
            header = Header("correspondences", "test", inputs={"dataset": dataset.digest})
        with ArtifactWriter(self.dense(name), header) as writer:
            writer.append("samples", keys | points)


def people(count: int, random: np.random.Generator) -> np.ndarray:
    """Vertices of people near a T-pose who face the camera, in camera axes."""
    data = load_body()
    pose = 0.25 * torch.from_numpy(random.normal(size=(count, data.joint_count, 3))).float()
    pose[:, 0] = 0.0
    with torch.no_grad():
        posed = SegmentScaledBody(data).posed_vertices(
            matrix_from_axis_angle(pose), torch.ones(count, data.joint_count), None
        )
    return 0.85 * posed.points.double().numpy() * [1.0, -1.0, -1.0]


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The data set `a` of Human3.6M's subjects, `b` of nobody in particular without ground truth; not to be changed."""
    made = Workspace(tmp_path_factory.mktemp("workspace"))
    made.add("a")
    made.add("b", (Clip("clip", 50.0),), 1, with_truth=False)
    return made
