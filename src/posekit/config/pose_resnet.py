"""Configs of `posekit train pose-resnet-2d` and `posekit train pose-resnet`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from posekit.config.base import read_path, read_paths, runtime, setting, write_path
from posekit.config.training import Decay, TrainingConfig

PoseSupervision = Literal["self", "self-2dgt", "extrinsics-given", "full"]
DepthUnits = Literal["crop", "box2000"]


class TrainPoseNetwork(TrainingConfig):
    """What both branches of Pose ResNet share: the network, its crops, and how it is trained."""

    epochs: int = setting(130, "Passes over the data (paper: 130).", ge=1)
    batch: int = setting(16, "Samples of one step, over all processes (paper: 16).", ge=1)
    lr: float = setting(1e-3, "Learning rate of Adam (paper: 1e-3).", gt=0)
    decay: Decay = setting(
        "steps", "Lower the learning rate never, to 0 by the end, or to a tenth at --decay-epochs (EpipolarPose)."
    )
    decay_epochs: tuple[int, ...] = setting((90, 120), "Epochs after which --decay steps lowers it (EpipolarPose).")
    backbone: Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"] = setting(
        "resnet50", "Trunk (paper: ResNet-50; 18, 34 and 101 compared); resnet10 has one block a stage, for CPUs."
    )
    weights: Literal["imagenet", "none"] = setting(
        "imagenet", "First weights of the trunk: torchvision's of ImageNet (paper), or random ones."
    )
    weights_file: Path | None = read_path(
        None,
        "File of first weights for the trunk (.safetensors or .pth), in torchvision's names; instead of `weights`.",
    )
    cbam: bool = setting(True, "Attention by channel and place (CBAM) before the first and after the last stage.")
    cbam_reduction: int = setting(16, "Channels over the width of CBAM's hidden layer (Woo et al. 2018: 16).", ge=1)
    cbam_bn: bool = setting(True, "Normalise CBAM's map of places (as its authors' code does).")
    pool: Literal["wasp", "aspp", "none"] = setting(
        "wasp", "Atrous convolutions before the deconvolutions: in a waterfall (paper: WASP), side by side, or none."
    )
    rates: tuple[int, int, int] = setting(
        (2, 3, 4), "Rates of the atrous convolutions (the paper's are not given; these cover a map of 8 x 8)."
    )
    unipose_extra: bool = setting(False, "The shared convolutions that UniPose's code has besides.")
    output_stride: Literal[32, 16] = setting(32, "Pixels of the crop for one cell of the trunk's last map.")
    depth_bins: int = setting(64, "Cells of the heat map in depth (paper: 64).", ge=2)
    deconv_width: int = setting(256, "Channels of the deconvolutions (Xiao et al. 2018: 256).", ge=1)
    half_cell: bool = setting(True, "Soft-argmax at the centres of cells; EpipolarPose's code takes their corners.")
    input_size: int = setting(256, "Side of the crops (px), a multiple of 32 (paper: 256).", ge=32)
    crop_margin: float = setting(1.25, "Side of the crop over the longer side of the person's box.", gt=0.1)
    flip: float = setting(0.0, "Probability of a mirror image (EpipolarPose: off).", ge=0, le=1)
    gain: float = setting(
        0.2, "Colour channels are multiplied by up to 1 more or less this (EpipolarPose).", ge=0, le=1
    )
    zoom_sd: float = setting(0.25, "Deviation of the factor of the crop's side from 1 (EpipolarPose).", ge=0)
    zoom_max: float = setting(0.25, "Bound of that deviation (EpipolarPose).", ge=0, le=0.9)
    turn_sd: float = setting(30.0, "Deviation of the crop's rotation, degrees (EpipolarPose).", ge=0)
    turn_max: float = setting(60.0, "Bound of the crop's rotation, degrees (EpipolarPose).", ge=0, le=180)
    turn_p: float = setting(0.6, "Probability that a crop is rotated (EpipolarPose).", ge=0, le=1)
    augment: bool = setting(True, "Change the crops at random, as the settings above say.")
    gamma: float = setting(
        64.0,
        "Smooth L1 turns linear at an error of 1 / gamma of the crop's side; 64: one cell of the heat map, 1: a squared error "
        "(EpipolarPose's code).",
        gt=0,
    )
    heat_map_weight: float = setting(
        0.0,
        "Weight of the cross-entropy between heat maps and Gaussian ones about the labels (EpipolarPose starts from a network "
        "that learned such maps); 0: joints alone (paper).",
        ge=0,
    )
    heat_map_sd: float = setting(1.0, "Deviation of those Gaussians, in cells.", gt=0)
    max_samples: int = setting(0, "Samples to learn from, a random choice by the seed; 0: all (paper: 51,765).", ge=0)
    monitor_samples: int = runtime(
        0, "Images of test subjects to measure after an epoch, where there is truth; logged, never learned from.", ge=0
    )
    monitor_every: int = runtime(1, "Epochs between two measurements.", ge=1)


class TrainPoseResNet2D(TrainPoseNetwork):
    """`posekit train pose-resnet-2d`: the upper branch of Pose ResNet, which learns 2D key points (the paper: of MPII)."""

    recipes: ClassVar[str] = "pose_resnet_2d"

    datasets: tuple[Path, ...] = read_paths(("data/mpii.h5",), "Data sets with image crops and 2D key points.")
    output: Path = write_path("runs/pose-resnet-2d", "Folder of the run: weights, config, logs, checkpoint.")
    init: Path | None = read_path(None, "Run folder of a network of the same form whose weights are trained further.")
    split: Literal["train", "all"] = setting(
        "train", "Learn from training subjects only, where a data set tells them from others, or from everybody."
    )
    loss: Literal["l1", "smooth-l1"] = setting("l1", "How key points are compared (EpipolarPose: L1; paper: unsaid).")


class TrainPoseResNet(TrainPoseNetwork):
    """`posekit train pose-resnet`: the lower branch of Pose ResNet, which learns 3D joints of one image."""

    recipes: ClassVar[str] = "pose_resnet"

    dataset: Path = read_path("data/h36m.h5", "Data set with image crops.")
    labels: Path | None = read_path(None, "3D labels made from two views; default: labels/NAME.view3d.h5.")
    init: Path | None = read_path(
        None, "Run folder of the 2D network whose weights are taken over; default: runs/pose-resnet-2d."
    )
    transfer: bool = setting(True, "Begin with the weights of the 2D network (paper); else with those of the trunk.")
    output: Path = write_path("runs/pose-resnet", "Folder of the run: weights, config, logs, checkpoint.")
    occluders: Path = read_path("data/voc.occluders.h5", "Objects that are pasted over people.")
    supervision: PoseSupervision = setting(
        "self",
        "What is learned from: labels from intrinsics alone (self), from true 2D key points (self-2dgt), from known cameras "
        "(extrinsics-given), or the ground truth of the data set (full).",
    )
    depth_units: DepthUnits = setting(
        "crop",
        "What depths are measured in: the crop's width at the root, which needs no metric information, or boxes of 2 m, which "
        "needs the true depth of the root (EpipolarPose).",
    )
    min_motion: float = setting(
        0.0,
        "Leave out frames in which no joint moved by this (px of the image) since the last one kept; 0: none.",
        ge=0,
    )
    stride: int = setting(1, "Learn from every n-th labelled frame of each camera.", ge=1)
    occlusion_p: float = setting(0.5, "Probability that something is pasted over a person (paper).", ge=0, le=1)
    occlusion_mode: Literal["degree", "count"] = setting(
        "degree", "Paste until a share of the person's box is covered (paper), or 1 to 7 objects (EpipolarPose)."
    )
    occlusion_degree: float = setting(0.7, "Largest share of the person's box to cover (paper: 0.7).", ge=0, lt=1)
    occlusion_objects: int = setting(8, "Objects that are pasted at most to cover that share.", ge=1)
