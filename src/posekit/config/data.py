"""Configs of the stages that make data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from posekit.config.base import Device, SeededConfig, StageConfig, read_path, runtime, setting, write_path


class SynthesizeH36M(SeededConfig):
    """`posekit synthesize h36m`: a small synthetic recording in the raw layout of Human3.6M."""

    output: Path = write_path("raw/h36m", "Folder to write the raw layout into.")
    motion: Path | None = read_path(None, "AMASS-format file or folder of motions; default: the built-in generator.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    subjects: tuple[str, ...] = setting(("S1", "S9"), "Subjects to make, by Human3.6M's names.")
    actions: tuple[str, ...] = setting(("Directions", "Walking"), "Actions to make, by Human3.6M's names.")
    trials: int = setting(1, "Trials of each action.", ge=1, le=2)
    frames: int = setting(50, "Frames of each sequence.", ge=2)
    fps: float = setting(50.0, "Frames per second.", gt=0)
    resolution: int = setting(
        1000, "Width of the videos (px); heights follow Human3.6M (1000 or 1002 at full size).", ge=64
    )
    correspondences: int = setting(120, "Visible dense correspondences noted for each person in each view.", ge=0)
    device: Device = runtime("auto", "auto, cpu or cuda.")


class PreprocessH36M(StageConfig):
    """`posekit preprocess h36m`: the raw release of Human3.6M to one file."""

    raw: Path = read_path("raw/h36m", "Folder of the raw release.", workspace="raw.h36m")
    output: Path = write_path("data/h36m.h5", "Data set artifact to write.")
    layout: Literal["auto", "videos", "frames"] = setting(
        "auto", "Whether images come from videos or extracted frames."
    )
    protocol: Literal["all", "p1", "p2"] = setting("all", "Frames to take: all, or those of protocol 1 or 2.")
    subjects: tuple[str, ...] = setting((), "Subjects to take; empty: all that the protocol names and are there.")
    train_stride: int = setting(5, "Take every n-th frame of training subjects.", ge=1)
    test_stride: int = setting(5, "Take every n-th frame of test subjects.", ge=1)
    known_bad: Literal["drop", "drop-displaced", "keep"] = setting(
        "drop",
        "drop: leave out the camera whose video is missing in the release (S11 Directions, 54138969); drop-displaced: also"
        " the three sequences of S9 whose ground truth is shifted; keep: take all.",
    )
    boxes: Literal["auto", "keypoints"] = setting(
        "auto", "Boxes of people: from the release's box files where they are there, or always from the key points."
    )
    crops: bool = setting(True, "Store the image crop of every person.")
    crop_size: int = setting(256, "Side of the stored crops (px).", ge=32)
    crop_margin: float = setting(1.2, "Side of the crop over the larger side of the person's box.", gt=0.1)
    jpeg_quality: int = setting(95, "JPEG quality of the crops.", ge=1, le=100)
    check: bool = runtime(False, "List every missing file and stop.")


class PreprocessMultiview(SeededConfig):
    """`posekit preprocess multiview`: own videos, calibration and OpenPose key points to one file."""

    raw: Path = read_path(
        "raw/multiview", "Folder with videos/, openpose/ and a calibration.", workspace="raw.multiview"
    )
    output: Path = write_path("data/multiview.h5", "Data set artifact to write.")
    calibration: Path | None = read_path(None, "Calibration file or folder; default: the one found in the raw folder.")
    keypoint_order: Literal["auto", "body25", "body25b", "coco18"] = setting(
        "auto", "Joint order of the OpenPose files."
    )
    max_people: int = setting(1, "People to follow; those seen best in most views come first.", ge=1)
    min_confidence: float = setting(0.2, "Key points below this confidence are not used for matching.", ge=0, le=1)
    max_epipolar_px: float = setting(
        40.0, "Largest mean distance between matched people (px, at 1000 px image width).", gt=0
    )
    frame_fit: Literal["auto", "scale", "letterbox", "crop-start", "crop-centre", "crop-end"] = setting(
        "auto", "How frames of another size than the calibration's were made from the calibrated picture."
    )
    keypoint_pixels: Literal["auto", "video", "calibration"] = setting(
        "auto", "Whether key points are px of the videos or of the calibrated picture, where these differ."
    )
    principal_points: Literal["auto", "given"] = setting(
        "auto", "auto: mirror those that a turned calibration lost, when key points agree far better so; given: never."
    )
    max_length_difference: float = setting(
        0.1, "Videos of different length are cut to the shortest; up to this share of the longest.", ge=0, le=1
    )
    fps: float | None = setting(None, "Frames per second; default: what the videos say.", gt=0)
    crops: bool = setting(True, "Store the image crop of every person.")
    crop_size: int = setting(256, "Side of the stored crops (px).", ge=32)
    crop_margin: float = setting(1.2, "Side of the crop over the larger side of the person's box.", gt=0.1)
    jpeg_quality: int = setting(95, "JPEG quality of the crops.", ge=1, le=100)
    check: bool = runtime(False, "List every missing file and stop.")
