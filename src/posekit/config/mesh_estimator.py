"""Config of `posekit train mesh-estimator`, and what it shares with that of `posekit train image-ssl`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from posekit.config.base import read_path, read_paths, setting, write_path
from posekit.config.training import CropTrainingConfig


class TrainMesh(CropTrainingConfig):
    """What both trainings of mesh estimators have: data sets, how crops are changed, and what is measured meanwhile."""

    datasets: tuple[Path, ...] = read_paths(("data/h36m.h5",), "Data sets with image crops.")
    masks: tuple[Path, ...] = read_paths(
        (), "Masks of the people, one file for each data set; default: labels/NAME.masks.h5 where it is there."
    )
    shares: tuple[float, ...] = setting(
        (),
        "Share of each data set in a batch; default: in proportion to size (authors: 0.3 Human3.6M, 0.1 MPI-INF-3DHP).",
    )
    split: Literal["train", "all"] = setting(
        "train", "Learn from training subjects only, where a data set tells them from others, or from everybody."
    )
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    w_joints: float = setting(60.0, "Weight of the loss of key points and joints (SPIN, authors' code).", ge=0)
    w_keypoints_2d: float = setting(5.0, "Weight of 2D key points in it (SPIN).", ge=0)
    w_joints_3d: float = setting(5.0, "Weight of 3D joints in it (SPIN).", ge=0)


class TrainMeshEstimator(TrainMesh):
    """`posekit train mesh-estimator`: a network that regresses a body model's parameters from images, learned from labels."""

    recipes: ClassVar[str] = "mesh_estimator"

    output: Path = write_path("runs/mesh-estimator", "Folder of the run: weights, config, logs, checkpoint.")
    init: Path | None = read_path(None, "Run folder of a mesh estimator of the same form that is trained further.")
    checkpoint: Path | None = read_path(
        None, "File of weights as the authors of HMR and SPIN publish them in PyTorch; instead of --init."
    )
    checkpoint_of: Literal["hmr", "spin", "other"] = setting(
        "spin", "Whose weights --checkpoint holds, for the record that every result carries."
    )
    means: Path | None = read_path(
        None, "Mean parameters (npz with pose, shape, cam); default: a body at rest that faces the camera."
    )
    supervision: Literal["weak", "full"] = setting(
        "full", "Learn from 2D key points alone (weak), or also from the 3D joints that data sets have (full)."
    )
    epochs: int = setting(50, "Passes over the data.", ge=0)
    batch: int = setting(64, "Samples of one step, over all processes (SPIN: 64).", ge=1)
    lr: float = setting(5e-5, "Learning rate of Adam (SPIN: 5e-5).", gt=0)
    backbone: Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"] = setting(
        "resnet50", "Trunk (HMR, SPIN: ResNet-50); resnet10 has one block a stage, for CPUs."
    )
    weights: Literal["imagenet", "none"] = setting(
        "imagenet", "First weights of the trunk: torchvision's of ImageNet, or random ones."
    )
    weights_file: Path | None = read_path(
        None,
        "File of first weights for the trunk (.safetensors or .pth), in torchvision's names; instead of `weights`.",
    )
    pose_form: Literal["6d", "aa"] = setting("6d", "How rotations are regressed: 6D (SPIN), or axis-angle (HMR).")
    hidden_act: Literal["none", "relu"] = setting(
        "none", "After the hidden layers: nothing (SPIN's code), or ReLU (HMR)."
    )
    camera: Literal["perspective", "weak"] = setting(
        "perspective", "Cameras of the crops: perspective with --focal-px (SPIN), or weak perspective."
    )
    focal_px: float = setting(5000.0, "Focal length of the crops' perspective, px of a crop of 224 (SPIN: 5000).", gt=0)
    input_size: int = setting(224, "Side of the crops (px), a multiple of 32 (SPIN: 224).", ge=32)
