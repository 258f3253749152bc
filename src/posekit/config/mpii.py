"""Configs of the stages that make data sets of MPII Human Pose and evaluate key points on them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from posekit.config.base import Device, SeededConfig, StageConfig, read_path, runtime, setting, write_path


class SynthesizeMpii(SeededConfig):
    """`posekit synthesize mpii`: small synthetic pictures in the raw layout of MPII Human Pose."""

    output: Path = write_path("raw/mpii", "Folder to write the raw layout into.")
    motion: Path | None = read_path(None, "AMASS-format file or folder of motions; default: the built-in generator.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    train: int = setting(100, "Pictures for training.", ge=1)
    val: int = setting(20, "Pictures for validation.", ge=0)
    test: int = setting(5, "Pictures for testing; their people have a position and a scale only.", ge=0)
    people: int = setting(2, "People in a picture, at most.", ge=1, le=4)
    size: int = setting(400, "Longest side of the largest pictures (px).", ge=96, le=1280)
    truncated: float = setting(0.2, "Share of pictures whose people the frame cuts off.", ge=0, le=1)
    occluded: float = setting(0.2, "Share of pictures with something in front of the people.", ge=0, le=1)
    unlabelled: float = setting(
        0.05,
        "Share of people in training pictures without key points, and of training pictures without people.",
        ge=0,
        le=1,
    )
    jpeg_quality: int = setting(92, "JPEG quality of the pictures.", ge=1, le=100)
    device: Device = runtime("auto", "auto, cpu or cuda.")


class PreprocessMpii(StageConfig):
    """`posekit preprocess mpii`: people of MPII with their key points and head sizes to one file."""

    raw: Path = read_path("raw/mpii", "Folder of the raw release.", workspace="raw.mpii")
    output: Path = write_path("data/mpii.h5", "Data set artifact to write.")
    layout: Literal["auto", "mat", "json"] = setting(
        "auto",
        "Annotations to read: the release's mpii_human_pose_v1_u12_1.mat, or the lists train.json, valid.json and test.json "
        "(or mpii_annotations.json) made of it; auto: the release's, where it is there.",
    )
    splits: tuple[str, ...] = setting(("train", "val"), "Parts to take, of train, val and test.")
    val_share: float = setting(
        0.12, "Share of the training videos to validate on, where no list says which people these are.", ge=0, lt=1
    )
    people: Literal["all", "single"] = setting(
        "all", "People to take: all, or those that the release calls sufficiently separated from others."
    )
    boxes: Literal["objpos", "keypoints"] = setting(
        "objpos", "Boxes of people: from position and scale as published code does it, or the bounds of the key points."
    )
    min_keypoints: int = setting(
        1, "Only people with this many labelled key points (parts train and val).", ge=0, le=16
    )
    hidden_confidence: float = setting(1.0, "Confidence of joints that are labelled but hidden.", ge=0, le=1)
    crops: bool = setting(True, "Store the image crop of every person.")
    crop_size: int = setting(256, "Side of the stored crops (px).", ge=32)
    crop_margin: float = setting(1.25, "Side of the crop over the longer side of the person's box.", gt=0.1)
    jpeg_quality: int = setting(95, "JPEG quality of the crops.", ge=1, le=100)
    check: bool = runtime(False, "List every missing file and stop.")


class EvaluateMpii(SeededConfig):
    """`posekit eval mpii`: PCKh of 2D key points against the labels of a data set."""

    dataset: Path = read_path("data/mpii.h5", "Data set artifact with head sizes.")
    keypoints: Path | None = read_path(
        None, "Key points to evaluate; default: labels/NAME.keypoints.h5 when it is there."
    )
    predictions: Path | None = read_path(
        None, "Predicted poses to evaluate by their key points; default: predictions/NAME.h5 when it is there."
    )
    output: Path | None = write_path(None, "Result to write; default: results/NAME.json.")
    split: Literal["all", "train", "test"] = setting(
        "test", "Sequences of the data set to take; test: those to validate on."
    )
    not_predicted: Literal["wrong", "left-out"] = setting(
        "wrong", "How people without a prediction count: as wrong in every labelled joint, or not at all."
    )
    bootstrap: int = setting(1000, "Resamplings for the 95 % intervals; 0: none.", ge=0)
