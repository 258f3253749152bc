"""Config of `posekit pseudo-label keypoints`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from posekit.config.base import Device, SeededConfig, read_path, runtime, setting, write_path
from posekit.config.training import Precision

KeypointSource = Literal["network", "truth", "files"]


class PseudoLabelKeypoints(SeededConfig):
    """`posekit pseudo-label keypoints`: 2D key points for the people of a data set, by a trained network or from files."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact.")
    output: Path | None = write_path(None, "Key points to write; default: labels/NAME.keypoints.h5.")
    source: KeypointSource = setting(
        "network",
        "Where key points come from: a trained network (--model), the data set's own ones, for studies with --noise-px and "
        "--outliers (truth), or --files.",
    )
    model: Path | None = read_path(
        None, "Run folder of the network; default: runs/pose-resnet-2d. Any Pose ResNet will do."
    )
    files: Path | None = read_path(None, "Folder of OpenPose files, or COCO annotations with key points.")
    order: Literal["auto", "body25", "body25b", "coco18"] = setting("auto", "Joint order of the OpenPose files.")
    min_overlap: float = setting(
        0.3,
        "Somebody in --files is somebody of the data set if their boxes share this much of their union.",
        gt=0,
        le=1,
    )
    noise_px: float = setting(0.0, "With --source truth: Gaussian noise added to the key points (px).", ge=0)
    outliers: float = setting(
        0.0, "With --source truth: share of key points that lie anywhere in the person's box instead.", ge=0, le=1
    )
    confidence: Literal["one", "mass"] = setting(
        "one",
        "With --source network: trust every key point alike, or by the probability within two cells of the most likely one. "
        "Training without --heat-map-weight leaves heat maps wide, and then that is small however right the key point is.",
    )
    mirror: bool = setting(
        False,
        "With --source network: take the mean of what it says of each crop and of its mirror image, which takes twice the time "
        "(Xiao et al. 2018, when testing).",
    )
    precision: Precision = setting("32-true", "Arithmetic of the network; bf16-mixed is faster on recent hardware.")
    batch: int = runtime(64, "Images that go through the network at once.", ge=1)
    device: Device = runtime("auto", "auto, cpu or cuda.")
