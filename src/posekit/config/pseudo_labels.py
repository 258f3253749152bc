"""Configs of the stages that make labels from what was fitted or predicted before."""

from __future__ import annotations

from pathlib import Path

from posekit.config.base import Device, SeededConfig, read_path, runtime, setting, write_path


class PseudoLabelSurface(SeededConfig):
    """`posekit pseudo-label surface`: dense correspondences from the visible vertices of fitted bodies."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact.")
    fits: Path | None = read_path(None, "Fits of the body to this data set; default: fits/NAME.h5.")
    body: Path | None = read_path(
        None, "Body model file that was fitted; default: the body that posekit ships.", workspace="body.path"
    )
    output: Path | None = write_path(None, "Correspondences to write; default: labels/NAME.dense.h5.")
    points: int = setting(
        120,
        "Visible vertices noted for each person in each image, evenly from the surface that is seen (DensePose "
        "has about 100 for a person).",
        ge=1,
    )
    max_residual_px: float | None = setting(
        None,
        "Fits with a larger mean residual (px of a 224 crop) give no labels; default: all that registration calls ok. The "
        "paper leaves out poorly aligned fits and does not say by which rule.",
        gt=0,
    )
    device: Device = runtime("auto", "auto, cpu or cuda.")
