"""Configs of the stages that make COCO and DensePose data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from posekit.config.base import Device, SeededConfig, StageConfig, read_path, runtime, setting, write_path


class SynthesizeCoco(SeededConfig):
    """`posekit synthesize coco`: small synthetic pictures in the raw layout of COCO with DensePose annotations."""

    output: Path = write_path("raw/coco", "Folder to write the raw layout into.")
    motion: Path | None = read_path(None, "AMASS-format file or folder of motions; default: the built-in generator.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    train: int = setting(100, "Pictures for training.", ge=1)
    val: int = setting(20, "Pictures for testing.", ge=0)
    people: int = setting(2, "People in a picture, at most.", ge=1, le=4)
    size: int = setting(400, "Longest side of the largest pictures (px).", ge=96, le=640)
    truncated: float = setting(0.2, "Share of pictures whose people the frame cuts off.", ge=0, le=1)
    occluded: float = setting(0.2, "Share of pictures with something in front of the people.", ge=0, le=1)
    without_densepose: float = setting(0.1, "Share of people without DensePose annotations.", ge=0, le=1)
    crowds: float = setting(
        0.1, "Share of pictures of several people where the last is marked as a crowd only.", ge=0, le=1
    )
    points: int = setting(120, "DensePose points of each person, at most (COCO: about 100 to 150).", ge=1, le=196)
    jpeg_quality: int = setting(92, "JPEG quality of the pictures.", ge=1, le=100)
    device: Device = runtime("auto", "auto, cpu or cuda.")


class PreprocessCoco(StageConfig):
    """`posekit preprocess coco`: COCO people with their key points and DensePose annotations to one file."""

    raw: Path = read_path("raw/coco", "Folder of the raw release.", workspace="raw.coco")
    output: Path = write_path("data/coco.h5", "Data set artifact to write.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    uv_data: Path | None = read_path(
        None, "DensePose's UV_Processed.mat; real annotations need it, with a body of SMPL's topology."
    )
    people: Literal["densepose", "all"] = setting(
        "densepose", "People to take: those with DensePose annotations, or all with key points."
    )
    splits: tuple[str, ...] = setting(("train", "val"), "Parts of the release to take.")
    whole_body: bool = setting(
        True, "Only people whose shoulders, elbows, wrists, hips, knees and ankles are all labelled."
    )
    min_keypoints: int = setting(1, "Only people with this many labelled key points.", ge=0, le=17)
    min_box_px: float = setting(64.0, "Only people whose box has a longer side of at least this (px).", ge=0)
    min_points: int = setting(15, "Only people with this many DensePose points (people: densepose).", ge=0)
    min_parts: int = setting(5, "... on this many of the 24 parts.", ge=0, le=24)
    keep_crowds: bool = setting(False, "Take regions that are marked as crowds, too.")
    hidden_confidence: float = setting(
        1.0, "Confidence of joints that are labelled but hidden; 1: as seen ones (Kanazawa et al. 2018).", ge=0, le=1
    )
    box_side: Literal["256", "255"] = setting(
        "256", "Units that boxes measure in DensePose points: 256 as in training code, 255 as in the first evaluation."
    )
    crops: bool = setting(True, "Store the image crop of every person.")
    crop_size: int = setting(256, "Side of the stored crops (px).", ge=32)
    crop_margin: float = setting(1.2, "Side of the crop over the larger side of the person's box.", gt=0.1)
    jpeg_quality: int = setting(95, "JPEG quality of the crops.", ge=1, le=100)
    check: bool = runtime(False, "List every missing file and stop.")
