"""Configs of `posekit predict` and of the data sets that are made from own images and videos."""

from __future__ import annotations

from pathlib import Path

from posekit.config.base import Device, SeededConfig, read_path, runtime, write_path


class Predict(SeededConfig):
    """`posekit predict`: bodies of the people in images or videos, by a trained model, optionally refined."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact with image crops.")
    model: Path = read_path("runs/deform-and-learn", "Run folder of the trained model.")
    output: Path | None = write_path(None, "Predictions to write; default: predictions/NAME.h5.")
    device: Device = runtime("auto", "auto, cpu or cuda.")
