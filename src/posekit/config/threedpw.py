"""Configs of the stages around 3DPW."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from posekit.config.base import Device, SeededConfig, StageConfig, read_path, runtime, setting, write_path
from posekit.config.results import Evaluate


class Synthesize3DPW(SeededConfig):
    """`posekit synthesize 3dpw`: small synthetic sequences in the raw layout of 3DPW."""

    output: Path = write_path("raw/3dpw", "Folder to write the raw layout into.")
    motion: Path | None = read_path(None, "AMASS-format file or folder of motions; default: the built-in generator.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    train: int = setting(2, "Sequences for training.", ge=0)
    validation: int = setting(1, "Sequences for validation.", ge=0)
    test: int = setting(2, "Sequences for testing.", ge=1)
    frames: int = setting(8, "Pictures of a sequence (30 in a second).", ge=1)
    size: int = setting(320, "Height of the pictures (px; 3DPW: 1920).", ge=96, le=1920)
    invalid: float = setting(0.15, "Share of frames whose camera is marked as not to be trusted.", ge=0, lt=1)
    undetected: float = setting(0.15, "Share of frames in which the detector finds nobody.", ge=0, le=1)
    noise_px: float = setting(1.0, "Gaussian noise of the detected key points (px).", ge=0)
    jpeg_quality: int = setting(92, "JPEG quality of the pictures.", ge=1, le=100)
    device: Device = runtime("auto", "auto, cpu or cuda.")


class Preprocess3DPW(StageConfig):
    """`posekit preprocess 3dpw`: 3DPW to one file, with the bodies as its truth."""

    raw: Path = read_path("raw/3dpw", "Folder with sequenceFiles/ and imageFiles/.", workspace="raw.3dpw")
    output: Path = write_path("data/3dpw.h5", "Data set artifact to write.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    body_male: Path | None = read_path(None, "Body of the men; default: --body.", workspace="body.male")
    body_female: Path | None = read_path(None, "Body of the women; default: --body.", workspace="body.female")
    regressor: Path | None = read_path(
        None,
        "J_regressor_h36m.npy; default: the regressor that comes with the body.",
        workspace="body.regressor",
    )
    splits: tuple[Literal["train", "validation", "test"], ...] = setting(
        ("train", "validation", "test"), "Parts of the release to take."
    )
    stride: int = setting(1, "Take every n-th frame.", ge=1)
    boxes: Literal["detections", "bodies"] = setting(
        "detections",
        "People's boxes: extents of the release's 2D detections (Kolotouros et al. 2019; of the body where there are none), "
        "or of the projected body.",
    )
    crops: bool = setting(True, "Store the image crop of every person; without it no picture is opened.")
    crop_size: int = setting(256, "Side of the stored crops (px).", ge=32)
    crop_margin: float = setting(1.2, "Side of the crop over the larger side of the person's box.", gt=0.1)
    jpeg_quality: int = setting(95, "JPEG quality of the crops.", ge=1, le=100)
    check: bool = runtime(False, "List every missing file and stop.")


class Evaluate3DPW(Evaluate):
    """`posekit eval 3dpw`: fits and predictions against the bodies of 3DPW."""

    dataset: Path = read_path("data/3dpw.h5", "Data set artifact with ground truth.")
    truth: Path | None = read_path(
        None, "Truth artifact, for errors of vertices; default: labels/NAME.truth.h5 when it is there."
    )
    body_male: Path | None = read_path(None, "Body of the men of the truth; default: --body.", workspace="body.male")
    body_female: Path | None = read_path(
        None, "Body of the women of the truth; default: --body.", workspace="body.female"
    )
    regressor: Path | None = read_path(
        None,
        "J_regressor_h36m.npy; default: the regressor that comes with the body.",
        workspace="body.regressor",
    )
    protocol: Literal["3dpw-spin", "3dpw-vibe"] = setting(
        "3dpw-spin",
        "Published selection of frames and root; 3dpw-spin: all whose camera is trusted (35,515 of the release's test set), "
        "pelvis; 3dpw-vibe: of these those with more than 6 detected key points (34,561), middle of the hips.",
    )
    split: Literal["all", "train", "test"] = setting("test", "Sequences of the data set to take; published: test.")
