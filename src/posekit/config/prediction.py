"""Configs of `posekit predict` and of the data sets that are made from own images and videos."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from posekit.config.base import Device, SeededConfig, StageConfig, read_path, runtime, setting, write_path
from posekit.config.training import Precision


class PreprocessPictures(StageConfig):
    """What data sets made from images and from videos share."""

    raw: Path = read_path("raw/images", "Images.")
    output: Path = write_path("data/images.h5", "Data set artifact to write.")
    boxes: Path | None = read_path(
        None, "Boxes of people: JSON, CSV, or COCO annotations; default: the whole image shows one person."
    )
    keypoints: Path | None = read_path(
        None, "Key points of people, which boxes are made from: folder of OpenPose files, or COCO annotations."
    )
    keypoint_order: Literal["auto", "body25", "body25b", "coco18"] = setting(
        "auto", "Joint order of the OpenPose files."
    )
    min_confidence: float = setting(
        0.2, "Key points below this confidence do not count for the box (SPIN: 0.2).", ge=0, le=1
    )
    crops: bool = setting(True, "Store the image crop of every person.")
    crop_size: int = setting(256, "Side of the stored crops (px).", ge=32)
    crop_margin: float = setting(1.2, "Side of the crop over the larger side of the person's box.", gt=0.1)
    jpeg_quality: int = setting(95, "JPEG quality of the crops.", ge=1, le=100)
    check: bool = runtime(False, "List everything that is missing or cannot be read, and stop.")


class PreprocessImages(PreprocessPictures):
    """`posekit preprocess images`: own images, each by itself, to one file."""

    raw: Path = read_path(
        "raw/images", "Folder of images (with its sub-folders), or one image.", workspace="raw.images"
    )


class PreprocessVideo(PreprocessPictures):
    """`posekit preprocess video`: own videos of one camera each to one file."""

    raw: Path = read_path(
        "raw/video", "Video, folder of videos, or folder of the frames of one video.", workspace="raw.video"
    )
    output: Path = write_path("data/video.h5", "Data set artifact to write.")
    stride: int = setting(1, "Take every n-th frame.", ge=1)
    fps: float | None = setting(None, "Frames per second; default: what the video says.", gt=0)


class Predict(SeededConfig):
    """`posekit predict`: bodies or joints of the people in images or videos, by a trained model.

    What trained the model decides which: a regressor gives bodies, optionally refined, and a Pose ResNet joints.
    """

    recipes: ClassVar[str] = "predict"

    dataset: Path | None = read_path(
        None, "Data set artifact with image crops; default: h36m.h5 in --data, or the only one there."
    )
    model: Path = read_path("runs/deform-and-learn", "Run folder of the trained model.")
    output: Path | None = write_path(None, "Predictions to write; default: predictions/NAME.h5.")
    media: Path | None = read_path(
        None, "Image, video, or folder of either, instead of a data set; NAME.h5 in --data is made from it."
    )
    data: Path = write_path("data", "Folder of data sets.")
    boxes: Path | None = read_path(None, "With --media: boxes of people (JSON, CSV, COCO); default: the whole image.")
    keypoints: Path | None = read_path(
        None, "With --media: key points of people (folder of OpenPose files, or COCO annotations)."
    )
    stride: int = setting(1, "With --media: take every n-th frame of videos.", ge=1)
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    split: Literal["all", "train", "test"] = setting("all", "Sequences to predict.")
    precision: Precision = setting("32-true", "Arithmetic of the network; bf16-mixed is faster on recent hardware.")
    root_depth: Literal["none", "gt"] = setting(
        "none",
        "Pose ResNet: what makes metres. none: joints about the root, all bones together --canonical long; gt: the true depth "
        "of the root and the camera, which tells size and perspective (EpipolarPose's evaluation).",
    )
    perspective: Literal["weak", "camera"] = setting(
        "weak",
        "Pose ResNet without the depth of the root: joints as they lie in the crop (weak), or along the rays of the camera, "
        "which takes its intrinsics and no depth; better where people stand aside.",
    )
    canonical: Literal["constant", "training"] = setting(
        "constant",
        "Pose ResNet without the depth of the root: bone length of everybody, 4.150 m or that of the average training "
        "subject of the data set.",
    )
    occlude: float = setting(
        0.0,
        "Pose ResNet, for studies: paste --occluders over each person before the network looks, until a share of the person's "
        "box up to this, drawn at random, is covered.",
        ge=0,
        lt=1,
    )
    occluders: Path = read_path("data/voc.occluders.h5", "With --occlude: objects to paste.")
    stature: float | None = setting(
        None, "Pose ResNet without the depth of the root: height of everybody (m), instead of --canonical.", gt=0
    )
    refine: bool = setting(False, "Refine predictions by a short registration to the labels that there are.")
    dense: Path | None = read_path(
        None, "Dense correspondences to refine with; default: labels/NAME.dense.h5 when it is there."
    )
    lifter: Path | None = read_path(None, "Run folder of the lifter that gives the key points depth while refining.")
    refine_iters: int = setting(50, "Iterations of the refinement (paper: 50).", ge=1)
    refine_lr: float = setting(0.1, "Learning rate of the refinement (paper: 0.1, as in registration).", gt=0)
    min_score: float = setting(0.0, "Dense correspondences below this confidence are not used.", ge=0, le=1)
    max_points: int = setting(500, "Dense correspondences of each body that are used at most.", ge=1)
    w_dense: float = setting(10.0, "Refinement: weight of dense correspondences; 0: do not use them.", ge=0)
    w_keypoints: float = setting(10.0, "Refinement: weight of 2D key points; 0: do not use them.", ge=0)
    w_depth: float = setting(0.3, "Refinement: weight of the lifter's depths (as in later rounds).", ge=0)
    w_scale: float = setting(10.0, "Refinement: weight of differing scales of neighbouring segments.", ge=0)
    w_pose: float = setting(
        1e-3, "Refinement: weight of joint angles and of elbows and knees bent the wrong way.", ge=0
    )
    robust_px: float = setting(
        20.0, "Labels much further off than this (px of a 224 crop) count for little; 0: all count fully (paper).", ge=0
    )
    batch: int = runtime(64, "Images that go through the network at once.", ge=1)
    device: Device = runtime("auto", "auto, cpu or cuda.")
