"""Config of `posekit train regressor`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from posekit.config.base import read_path, read_paths, setting, write_path
from posekit.config.training import CropTrainingConfig

Supervision = Literal["fits", "labels", "labels-no-adversary"]


class TrainRegressor(CropTrainingConfig):
    """`posekit train regressor`: one round's network that regresses bodies from images, learned from registered bodies."""

    recipes: ClassVar[str] = "regressor"

    datasets: tuple[Path, ...] = read_paths(("data/h36m.h5",), "Data sets with image crops.")
    fits: tuple[Path, ...] = read_paths((), "Registered bodies, one file for each data set; default: fits/NAME.h5.")
    dense: tuple[Path, ...] = read_paths(
        (),
        "Dense correspondences, one file for each data set; default: labels/NAME.dense.h5 where it is there.",
    )
    lifter: Path | None = read_path(
        None, "Run folder of a lifter, whose depths of the key points are learned as well; default: none."
    )
    init: Path | None = read_path(None, "Run folder of a regressor whose weights are trained further.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    output: Path = write_path("runs/regressor", "Folder of the run: weights, config, logs, checkpoint.")
    split: Literal["train", "all"] = setting(
        "train", "Learn from training subjects only, where a data set tells them from others, or from everybody."
    )
    supervision: Supervision = setting(
        "fits",
        "Learn from registered bodies and 2D labels; or from labels alone, with or without the adversarial and joint "
        "terms (the single-step trainings that the paper compares with).",
    )
    unfitted: Literal["leave-out", "labels"] = setting(
        "leave-out", "What becomes of images without a usable fit: left out, or learned from by their labels alone."
    )
    backbone: Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"] = setting(
        "resnet50", "Trunk (paper: ResNet-50); resnet10 has one block a stage, for CPUs."
    )
    weights: Literal["imagenet", "none"] = setting(
        "imagenet", "First weights of the trunk: torchvision's of ImageNet (paper), or random ones."
    )
    weights_file: Path | None = read_path(
        None,
        "File of first weights for the trunk (.safetensors or .pth), in torchvision's names; instead of `weights`.",
    )
    input_size: int = setting(224, "Side of the crops (px); the paper does not say, 224 is usual for the trunk.", ge=32)
    rotations: Literal["quaternion", "axis-angle"] = setting(
        "quaternion", "How joint rotations are regressed (paper: quaternions, which trained more stably)."
    )
    lr: float = setting(1e-4, "Learning rate of Adam (paper: 1e-4).", gt=0)
    w_parameters: float = setting(1.0, "Weight of the registered parameters (the paper's value is lost).", ge=0)
    w_dense: float = setting(10.0, "Weight of dense correspondences (lost; as in registration).", ge=0)
    w_keypoints: float = setting(10.0, "Weight of 2D key points (lost; as in registration).", ge=0)
    w_depth: float = setting(10.0, "Weight of the lifter's depths, fits only (lost; as in registration).", ge=0)
    regression_loss: Literal["smooth-l1", "l2"] = setting(
        "smooth-l1", "How parameters are compared (paper: smooth L1)."
    )
    beta: float = setting(1.0, "Where smooth L1 turns linear; 0.1 lets go of outliers.", gt=0)
    antipodal: bool = setting(True, "Let quaternions come close to q or -q, which mean the same (not in the paper).")
    robust_px: float = setting(
        0.0, "Labels much further off than this (px of a 224 crop) count for little; 0: all count fully (paper).", ge=0
    )
    w_scale: float = setting(10.0, "Weight of differing scales of neighbouring segments; labels only.", ge=0)
    w_pose: float = setting(
        1e-3,
        "Weight of joint angles and of elbows and knees bent the wrong way; labels only (the paper leaves it out with the "
        "adversary).",
        ge=0,
    )
    w_det: float = setting(1.0, "Weight of the determinant term of the nine-number rotation; labels only.", ge=0)
    squared_limits: bool = setting(False, "Square the exponential of the joint limits, as SMPLify does.")
    w_adversary: float = setting(0.1, "Weight of the discriminator's verdict; labels only (as the lifter's).", ge=0)
    adversary_lr: float = setting(2e-4, "Learning rate of the discriminator (as the lifter's).", gt=0)
    adversary_width: int = setting(1024, "Width of the discriminator's layers (Kudo et al. 2018: 1024).", ge=1)
    angles: tuple[float, ...] = setting(
        (45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0),
        "Angles about the vertical, degrees, that the adversary looks from.",
    )
