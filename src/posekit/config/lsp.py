"""Configs of the stages around the Leeds Sports Pose data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from posekit.config.base import Device, SeededConfig, StageConfig, read_path, runtime, setting, write_path


class SynthesizeLSP(SeededConfig):
    """`posekit synthesize lsp`: small synthetic pictures in the raw layouts of LSP, LSP-extended and UPi-S1h."""

    output: Path = write_path("raw/lsp", "Folder to write the raw layouts into.")
    motion: Path | None = read_path(None, "AMASS-format file or folder of motions; default: the built-in generator.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    images: int = setting(24, "Pictures of LSP; the first half is for training, the other for testing.", ge=2)
    extended: int = setting(12, "Pictures of LSP-extended.", ge=0)
    size: int = setting(220, "Longest side of the largest pictures (px).", ge=96, le=640)
    part_order: Literal["upi-s1h", "rendered"] = setting(
        "upi-s1h", "Numbers of the six parts: as in UPi-S1h, or as in Unite the People's rendered sets."
    )
    unlabelled: float = setting(0.12, "Share of joints of LSP-extended without a label.", ge=0, lt=1)
    jpeg_quality: int = setting(92, "JPEG quality of the pictures.", ge=1, le=100)
    device: Device = runtime("auto", "auto, cpu or cuda.")


class PreprocessLSP(StageConfig):
    """`posekit preprocess lsp`: LSP, LSP-extended and the segmentations of UPi-S1h to one file and its segments."""

    raw: Path = read_path(
        "raw/lsp",
        "Folder with lsp_dataset/, lspet_dataset/ and upi-s1h/, each where it is wanted.",
        workspace="raw.lsp",
    )
    output: Path = write_path("data/lsp.h5", "Data set artifact to write.")
    sets: tuple[Literal["lsp", "lspet"], ...] = setting(
        ("lsp", "lspet"), "Data sets to take, as far as they are there."
    )
    pixel_origin: Literal["0", "1"] = setting(
        "1", "What the annotations call the centre of the first pixel: 1 as MATLAB does, or 0 as most code reads them."
    )
    hidden_confidence: float = setting(
        1.0,
        "Confidence of joints of LSP that are marked as occluded; 1: as seen ones (Kolotouros et al. 2019).",
        ge=0,
        le=1,
    )
    min_joints: int = setting(6, "Only people with this many labelled joints.", ge=2, le=14)
    part_order: Literal["auto", "upi-s1h", "rendered"] = setting(
        "auto",
        "Numbers of the six parts: those of UPi-S1h, or of Unite the People's rendered sets; auto: what fits the joints.",
    )
    crops: bool = setting(True, "Store the image crop of every person.")
    crop_size: int = setting(256, "Side of the stored crops (px).", ge=32)
    crop_margin: float = setting(1.2, "Side of the crop over the larger side of the extent of the joints.", gt=0.1)
    jpeg_quality: int = setting(95, "JPEG quality of the crops.", ge=1, le=100)
    check: bool = runtime(False, "List every missing file and stop.")


class EvaluateLSP(SeededConfig):
    """`posekit eval lsp`: silhouettes and six parts of fits and predictions against the segmentations of UPi-S1h."""

    dataset: Path = read_path("data/lsp.h5", "Data set artifact.")
    segments: Path | None = read_path(None, "True segmentations; default: labels/NAME.segments.h5.")
    fits: Path | None = read_path(None, "Fits to evaluate; default: fits/NAME.h5 when it is there.")
    predictions: Path | None = read_path(
        None, "Predictions to evaluate; default: predictions/NAME.h5 when it is there."
    )
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    output: Path | None = write_path(None, "Result to write; default: results/NAME.json.")
    split: Literal["all", "train", "test"] = setting("test", "Sequences of the data set to take; published: test.")
    headings: tuple[Literal["predictions", "fits"], ...] = setting((), "What to evaluate; empty: all that is there.")
    bootstrap: int = setting(1000, "Resamplings for the 95 % intervals; 0: none.", ge=0)
    device: Device = runtime("auto", "auto, cpu or cuda.")
