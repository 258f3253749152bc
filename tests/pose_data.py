"""A small data set of people before cameras, with pictures of noise, true joints, and labels made from two views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.datasets.crops import encode_image, square_crop
from posekit.records import Camera, Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import H36M17

FRAMES, STORED, FOCAL = 4, 48, 500.0
CLIPS = (
    Clip("S1/Walking", 50.0, subject="S1", split="train"),
    Clip("S5/Sitting", 50.0, subject="S5", split="train"),
    Clip("S9/Walking", 50.0, subject="S9", split="test"),
)
CAMERAS = tuple(
    Camera(name, 400, 300, np.array([[FOCAL, 0.0, 200.0], [0.0, FOCAL, 150.0], [0.0, 0.0, 1.0]]), posed=False)
    for name in ("a", "b")
)


@dataclass(frozen=True)
class PoseFiles:
    """A data set, and labels of both its cameras."""

    dataset: Path
    labels: Path


def keys() -> dict[str, np.ndarray]:
    """Of every frame of every clip, seen by both cameras."""
    sequence, frame, camera = (axis.ravel() for axis in np.indices((len(CLIPS), FRAMES, len(CAMERAS))))
    return {"sequence": sequence, "frame": 5 * frame, "person": np.zeros_like(frame), "camera": camera}


def true_joints(seed: int = 0) -> np.ndarray:
    """Joints some four metres before the camera, in its frame."""
    random = np.random.default_rng(seed)
    count = len(keys()["frame"])
    root = np.array([0.0, 0.0, 4.0]) + random.uniform(-0.3, 0.3, (count, 1, 3))
    joints = root + random.uniform(-0.7, 0.7, (count, 17, 3))
    joints[:, :1] = root
    return joints


def projected(joints: np.ndarray) -> np.ndarray:
    """Pixels of joints in the frame of a camera."""
    return FOCAL * joints[..., :2] / joints[..., 2:] + [200.0, 150.0]


def write_dataset(path: Path, *, without: int = -1, truth: bool = True) -> str:
    """The picture of row `without` is missing. Returns the digest."""
    random, joints = np.random.default_rng(1), true_joints()
    pixels = projected(joints)
    boxes = np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=1)
    pictures = random.integers(0, 256, (len(joints), STORED, STORED, 3), dtype=np.uint8)
    samples: dict[str, Any] = keys() | {
        "bbox": boxes,
        "keypoints2d": np.concatenate([pixels, np.ones((*pixels.shape[:2], 1))], axis=2),
        "image": [
            np.zeros(0, np.uint8) if row == without else encode_image(picture, "png")
            for row, picture in enumerate(pictures)
        ],
        "crop_from_image": np.stack([square_crop(box, STORED, 1.2) for box in boxes]),
    }
    if truth:
        samples["joints3d"] = joints
    with ArtifactWriter(path, Header("dataset", "test", skeleton=H36M17)) as writer:
        writer.append("cameras", camera_columns(CAMERAS))
        writer.append("sequences", clip_columns(CLIPS))
        sequence, camera = (axis.ravel() for axis in np.indices((len(CLIPS), len(CAMERAS))))
        writer.append(
            "videos",
            {"sequence": sequence, "camera": camera, "path": ["a.mp4"] * len(camera), "frames": 0 * camera + 20},
        )
        writer.append("samples", samples)
    with Artifact(path) as dataset:
        return dataset.digest


def write_labels(
    path: Path, digest: str, *, scale: float = 1.0, cameras: str = "intrinsics", source: str = "network"
) -> None:
    """True joints as labels, `scale` times too large; the first frame is not ok, the left wrist of the second dropped."""
    joints, columns = scale * true_joints(), keys()
    weights = np.ones(joints.shape[:2])
    weights[columns["frame"] == 5, H36M17.index("left_wrist")] = 0.0
    header = Header(
        "view-labels",
        "triangulate",
        settings={"cameras": cameras},
        inputs={"dataset": digest},
        skeleton=H36M17,
        facts={"keypoints_source": source},
    )
    with ArtifactWriter(path, header) as writer:
        writer.append("cameras", camera_columns(CAMERAS))
        writer.append(
            "samples",
            columns
            | {
                "partner": 1 - columns["camera"],
                "joints3d": np.where(weights[..., None] > 0, joints, np.nan),
                "pixels": projected(joints),
                "weights": weights,
                "error_px": np.zeros_like(weights),
                "ok": columns["frame"] > 0,
            },
        )


def write_files(folder: Path) -> PoseFiles:
    """A data set in the folders of a workspace, the picture of its third row missing, and its labels."""
    files = PoseFiles(folder / "data" / "a.h5", folder / "labels" / "a.view3d.h5")
    write_labels(files.labels, write_dataset(files.dataset, without=2))
    return files
