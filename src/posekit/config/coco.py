"""Configs of the stages that make COCO and DensePose data sets."""

from __future__ import annotations

from pathlib import Path

from posekit.config.base import Device, SeededConfig, StageConfig, read_path, runtime, write_path


class SynthesizeCoco(SeededConfig):
    """`posekit synthesize coco`: small synthetic pictures in the raw layout of COCO with DensePose annotations."""

    output: Path = write_path("raw/coco", "Folder to write the raw layout into.")
    device: Device = runtime("auto", "auto, cpu or cuda.")


class PreprocessCoco(StageConfig):
    """`posekit preprocess coco`: COCO people with their key points and DensePose annotations to one file."""

    raw: Path = read_path("raw/coco", "Folder of the raw release.", workspace="raw.coco")
    output: Path = write_path("data/coco.h5", "Data set artifact to write.")
    check: bool = runtime(False, "List every missing file and stop.")
