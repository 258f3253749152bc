"""A small recording whose truth is known: two sequences, three cameras, one or two people, labels and fits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.landmarks import regressor
from posekit.body.model import BodyModel
from posekit.body.smpl_file import load_body
from posekit.camera_stack import stack_cameras
from posekit.geometry.conventions import Y_UP_FROM_Z_UP
from posekit.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle
from posekit.records import Camera, Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import H36M17, MPII16
from posekit.skeleton.mapping import joint_map

FRAMES = 6
STEP = 5
PEOPLE = 2
CLIPS = [
    Clip("S1 Directions", 50.0, "S1", "Directions", 1, "train"),
    Clip("S9 Walking 1", 50.0, "S9", "Walking", 1, "test"),
]


def rig() -> list[Camera]:
    """Cameras around a world with z up, as Human3.6M has it."""
    cameras = []
    for name, angle in (("54138969", 0.3), ("55011271", 2.4), ("60457274", 4.6)):
        centre = np.array([5 * np.cos(angle), 5 * np.sin(angle), 1.5])
        forward = np.array([0.0, 0.0, 1.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        K = np.array([[1145.0, 0.0, 512.5], [0.0, 1144.0, 515.5], [0.0, 0.0, 1.0]])
        lens = (-0.207, 0.248, -0.003, -0.0014, -0.0010)
        cameras.append(Camera(name, 1000, 1002, K, "human36m", lens, rotation, -rotation @ centre))
    return cameras


@dataclass
class Recording:
    """Artifacts of the recording, and what is true in it."""

    root: Path
    keys: dict[str, np.ndarray]
    betas: np.ndarray
    pose: np.ndarray
    translation: np.ndarray
    roots: np.ndarray
    vertices: np.ndarray
    joints: np.ndarray
    cameras: list[Camera] = field(default_factory=rig)

    @property
    def dataset(self) -> Path:
        return self.root / "data" / "toy.h5"

    @property
    def truth(self) -> Path:
        return self.root / "data" / "toy.truth.h5"

    def write_dataset(self, *, with_truth: bool = True, seed: int = 0) -> Path:
        count, views = len(self.joints), len(self.cameras)
        lenses = stack_cameras(self.cameras)
        world = torch.from_numpy(self.joints)[:, None]
        seen = lenses.camera_from_world(world).numpy().reshape(count * views, -1, 3)
        pixels = lenses.project(world).numpy().reshape(count * views, -1, 2)
        boxes = np.concatenate([pixels.min(1), pixels.max(1)], axis=1)
        keys = {name: np.repeat(values, views) for name, values in self.keys.items()}
        samples: dict[str, Any] = {
            **keys,
            "camera": np.tile(np.arange(views), count),
            "bbox": boxes,
            "keypoints2d": np.pad(pixels, ((0, 0), (0, 0), (0, 1)), constant_values=1.0),
        }
        if with_truth:
            samples["joints3d"] = seen
        header = Header("dataset", "test", {"seed": seed}, skeleton=H36M17)
        with ArtifactWriter(self.dataset, header) as writer:
            writer.append("cameras", camera_columns(self.cameras))
            writer.append("sequences", clip_columns(CLIPS))
            writer.append("samples", samples)
        return self.dataset

    def write_labels(
        self, joints: np.ndarray | None = None, cameras: list[Camera] | None = None, **changes: np.ndarray
    ) -> Path:
        points = self.joints if joints is None else joints
        count, size = points.shape[:2]
        poses: dict[str, Any] = {
            **self.keys,
            "joints3d": points,
            "confidence": np.ones((count, size)),
            "error_px": np.zeros((count, size)),
            "views": np.full((count, size), 7),
            "ok": np.ones(count, dtype=bool),
        }
        path = self.root / "labels" / "toy.joints3d.h5"
        header = Header("joints3d", "test", inputs=self._made_from_dataset(), skeleton=H36M17)
        with ArtifactWriter(path, header) as writer:
            writer.append("cameras", camera_columns(cameras or self.cameras))
            writer.append("poses", poses | changes)
        return path

    def write_fits(self, *, facts: dict[str, Any] | None = None, **changes: np.ndarray) -> Path:
        count, joints = self.pose.shape[:2]
        pose = self.pose.copy()
        pose[:, 0] = 0.0
        turn = matrix_from_axis_angle(torch.from_numpy(self.pose[:, 0])).numpy()
        fits: dict[str, Any] = {
            **self.keys,
            "camera": np.full(count, -1),
            "pose": pose,
            "segment_scales": np.ones((count, joints)),
            "betas": self.betas,
            "orientation": turn,
            "translation": self.roots,
            "scale": np.ones(count),
            "losses": np.zeros((count, 2)),
            "residual_px": np.zeros(count),
            "ok": np.ones(count, dtype=bool),
            "reason": [""] * count,
        }
        path = self.root / "fits" / "toy.h5"
        header = Header("fits", "test", inputs=self._made_from_dataset(), facts=facts or {})
        with ArtifactWriter(path, header) as writer:
            writer.append("cameras", camera_columns(self.cameras))
            writer.append("fits", fits | changes)
        return path

    def write_poses(self, *, metric: bool = False, **changes: Any) -> Path:
        """The true joints as predictions of a Pose ResNet: in the frame of the camera (`metric`), or about the root."""
        with Artifact(self.dataset) as dataset:
            truth = joint_map(H36M17, MPII16).points(dataset.read("samples", "joints3d").astype(np.float64))
            columns: dict[str, Any] = {n: dataset.read("samples", n) for n in (*self.keys, "camera")}
        columns["keypoints2d"] = np.ones((*truth.shape[:2], 3))
        for number, camera in enumerate(self.cameras):
            rows = columns["camera"] == number
            seen = stack_cameras([camera])[0].project_camera(torch.from_numpy(truth[rows]))
            columns["keypoints2d"][rows, :, :2] = seen.numpy()
        root = MPII16.index("pelvis")
        columns |= {
            "joints3d": truth if metric else truth - truth[:, [root]],
            "ok": np.ones(len(truth), dtype=bool),
            "reason": [""] * len(truth),
        }
        facts = {
            "root_depth": "gt" if metric else "none",
            "frame": "in the frame of the camera" if metric else "about the root",
            "scale": "as it is in truth",
        }
        path = self.root / "predictions" / "toy.h5"
        header = Header("poses", "test", inputs=self._made_from_dataset(), skeleton=MPII16, facts=facts)
        with ArtifactWriter(path, header) as writer:
            writer.append("cameras", camera_columns(self.cameras))
            writer.append("samples", columns | changes)
        return path

    def write_truth(self) -> Path:
        with ArtifactWriter(self.truth, Header("truth", "test")) as writer:
            writer.append("cameras", camera_columns(self.cameras))
            # The truth numbers its sequences in its own way.
            writer.append("sequences", clip_columns(CLIPS[::-1]))
            bodies = {"betas": self.betas, "pose": self.pose, "translation": self.translation}
            writer.append("bodies", {**self.keys, "sequence": 1 - self.keys["sequence"], **bodies})
        return self.truth

    def _made_from_dataset(self) -> dict[str, str]:
        with Artifact(self.dataset) as dataset:
            return {"dataset": dataset.digest}


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """A recording with a data set written, and nothing else."""
    generator = np.random.default_rng(0)
    sequence, frame, person = (
        axis.reshape(-1)
        for axis in np.meshgrid(np.arange(len(CLIPS)), np.arange(FRAMES) * STEP, np.arange(PEOPLE), indexing="ij")
    )
    count = len(sequence)
    data = load_body()
    pose = 0.2 * generator.normal(size=(count, data.joint_count, 3))
    upright = matrix_from_axis_angle(torch.from_numpy(pose[:, 0])).numpy()
    pose[:, 0] = axis_angle_from_matrix(torch.from_numpy(Y_UP_FROM_Z_UP.T @ upright)).numpy()
    shapes = np.repeat(0.5 * generator.normal(size=(1, data.shapedirs.shape[2])), count, axis=0)
    place = np.stack([0.2 * frame / STEP, 1.5 * person - 0.7, np.full(count, 0.95)], axis=1)
    model = BodyModel(data, dtype=torch.float64)
    posed = model(*(torch.from_numpy(values) for values in (shapes, pose, place)))
    joints = regressor(data, H36M17) @ posed.vertices.numpy()
    recording = Recording(
        root=tmp_path,
        keys={"sequence": sequence, "frame": frame, "person": person},
        betas=shapes,
        pose=pose,
        translation=place,
        roots=posed.joints[:, 0].numpy(),
        vertices=posed.vertices.numpy(),
        joints=joints,
    )
    recording.write_dataset()
    return recording
