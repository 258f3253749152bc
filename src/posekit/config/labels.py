"""Configs of the stages that make 3D labels from 2D ones."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from posekit.config.base import Device, SeededConfig, read_path, runtime, setting, write_path

CameraKnowledge = Literal["known", "intrinsics"]


class Triangulate(SeededConfig):
    """`posekit triangulate`: 3D joints from several views."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact.")
    keypoints: Path | None = read_path(
        None, "2D key points made by `posekit pseudo-label keypoints`; default: those that the data set has."
    )
    output: Path | None = write_path(
        None, "Joints to write; default: labels/NAME.joints3d.h5, or labels/NAME.view3d.h5 with --views pairs."
    )
    views: Literal["rig", "pairs"] = setting(
        "rig",
        "Joints in one world from all views together, or for each image a label in its own camera's frame from pairs of "
        "neighbouring views (Pose ResNet, EpipolarPose).",
    )
    cameras: CameraKnowledge = setting("known", "Use the calibrated poses, or intrinsics alone (epipolar geometry).")
    min_confidence: float = setting(0.3, "Key points below this confidence are not used.", ge=0, le=1)
    max_error_px: float = setting(
        20.0, "Reprojection error that makes a view an outlier (px, at 1000 px image size).", gt=0
    )
    noise_px: float = setting(0.0, "Gaussian noise added to the key points (px), for studies.", ge=0)
    steady: bool = setting(True, "With --views rig: steady the joints by constant bone lengths and smooth motion.")
    steady_views: bool = setting(
        False, "With --views pairs: steady the labels of each pair of views in the same way (not in the paper)."
    )
    pose_solver: Literal["f8", "e5"] = setting("f8", "Two-view geometry from the eight-point or the five-point method.")
    pool_frames: int = setting(200, "Frames of one subject pooled to find the geometry of a camera pair.", ge=1)
    stature: float | None = setting(None, "Known stature of the person (m); intrinsics only, sets the scale.", gt=0)
    baseline: float | None = setting(None, "Known distance of the first camera pair (m); sets the scale.", gt=0)
    method: Literal["poly", "dlt", "iter_ls"] = setting(
        "poly",
        "With --views pairs: optimal correction and linear triangulation (paper), linear alone, or iterative least squares.",
    )
    merge: Literal["average", "best", "random"] = setting(
        "average",
        "With --views pairs, where a camera has two neighbours: the mean of both labels after scale alignment, the one of the "
        "smaller reprojection error, or either at random.",
    )
    scale: Literal["limbs", "cameras"] = setting(
        "limbs",
        "With --views pairs and intrinsics: metres from the lengths of limbs, one factor per person and pair, or from the known "
        "distance of the cameras.",
    )


class Register(SeededConfig):
    """`posekit register`: fits the body to correspondences, key points and 3D joints."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact.")
    joints3d: Path | None = read_path(None, "Triangulated joints; default: labels/NAME.joints3d.h5 when it is there.")
    dense: Path | None = read_path(None, "Dense correspondences; default: labels/NAME.dense.h5 when it is there.")
    lifter: Path | None = read_path(
        None,
        "Run of a lifter that gives key points depth; default: runs/lifter when it is there and there are no 3D joints.",
    )
    start: Path | None = read_path(
        None, "Fits to start from, predicted or made earlier; default: T-poses, or 3D joints where there are some."
    )
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    output: Path | None = write_path(None, "Fits to write; default: fits/NAME.h5.")
    camera: Literal["auto", "perspective", "weak"] = setting(
        "auto",
        "Camera model; auto: that of --start, weak perspective of the crop with --lifter, else perspective when cameras are "
        "posed.",
    )
    views: Literal["auto", "joint", "single"] = setting(
        "auto", "One body per instant from all views, or one per image; auto: joint when cameras are posed."
    )
    depths: Literal["auto", "joints3d", "lifter", "none"] = setting(
        "auto",
        "Where depths come from under weak perspective; auto: --lifter, else 3D joints, else the default lifter.",
    )
    shape: Literal["auto", "per-person", "per-frame"] = setting(
        "auto", "One shape for all instants of a person, or one per body; auto: per person in sequences of 10 or more."
    )
    shape_frames: int = setting(48, "Instants of each person that its shape is fitted to.", ge=1)
    fit_betas: bool = setting(True, "Fit the shape coefficients, too; the paper fits segment scales alone.")
    iters: int = setting(300, "Iterations of the optimiser (paper: 300 from a T-pose, then 100, 50 to refine).", ge=1)
    lr: float = setting(0.1, "Learning rate of Adam (paper: 0.1).", gt=0)
    lr_warm: float = setting(0.1, "Learning rate for bodies that begin from --start (paper: the same 0.1).", gt=0)
    beta2: float = setting(
        0.95, "Second decay of Adam; 0.999 is usual and needs about three times the iterations.", gt=0, lt=1
    )
    decay: Literal["cosine", "none"] = setting("cosine", "Lower the learning rate to 0 over the second half, or never.")
    stiff: Literal["auto", "anneal", "constant", "none"] = setting(
        "auto",
        "A stiff body for the first third (anneal), always, or never, to find the global rotation first (the paper's "
        "first round is stiff); auto: anneal for starts from a T-pose, none for others.",
    )
    stiff_scale: float = setting(100.0, "Weight of the scale term while stiff.", ge=0)
    stiff_pose: float = setting(1.0, "Weight of the pose term while stiff (constant: 0.3 does better).", ge=0)
    starts: int = setting(1, "T-poses of different yaw to start from where nothing tells the orientation.", ge=1, le=16)
    compete: bool = setting(False, "T-poses compete with --start, too, and the lowest loss wins; else the start alone.")
    w_dense: float = setting(10.0, "Weight of dense correspondences (the paper's value is lost; measured).", ge=0)
    w_keypoints: float = setting(10.0, "Weight of 2D key points (the paper's value is lost; measured).", ge=0)
    w_depth: float = setting(
        10.0,
        "Weight of depths under weak perspective (the paper's key-point term holds them); 1 to 3 for noisy ones.",
        ge=0,
    )
    w_joints3d: float = setting(10.0, "Weight of 3D joints seen by posed cameras.", ge=0)
    w_scale: float = setting(10.0, "Weight of differing scales of neighbouring segments.", ge=0)
    w_pose: float = setting(1e-3, "Weight of joint angles and of elbows and knees bent the wrong way.", ge=0)
    w_hinge: float = setting(0.0, "Weight of sideways bends of elbows and knees (not in the paper).", ge=0)
    w_det: float = setting(1.0, "Weight of the determinant term of the nine-number rotation.", ge=0)
    w_size: float = setting(0.1, "Weight of the body's size against the template's; perspective only.", ge=0)
    w_shape: float = setting(1e-3, "Weight of the squared shape coefficients.", ge=0)
    w_temporal: float = setting(
        0.0, "Weight of the joints' steps between consecutive instants (not in the paper).", ge=0
    )
    limits: bool = setting(
        True, "Let the pose term hold elbows and knees from bending the wrong way; else angles alone."
    )
    squared_limits: bool = setting(False, "Square the exponential of the joint limits, as SMPLify does.")
    robust_px: float = setting(
        20.0, "Labels much further off than this (px of a 224 crop) count for little; 0: all count fully (paper).", ge=0
    )
    max_residual_px: float = setting(15.0, "Mean residual (px of a 224 crop) from which a fit is not ok.", gt=0)
    min_joints: int = setting(8, "A fit is ok only with this many labelled joints...", ge=0)
    min_points: int = setting(15, "...or this many dense correspondences...", ge=0)
    min_parts: int = setting(5, "...on at least this many of the 24 parts of the body.", ge=0, le=24)
    require: Literal["either", "both"] = setting(
        "either",
        "Either joints or correspondences are enough, or correspondences and every key point that MPII, COCO and Human3.6M "
        "share are needed (paper: the whole body in the image).",
    )
    max_points: int = setting(500, "Correspondences used in one image, evenly from the parts of the body.", ge=1)
    noise_px: float = setting(0.0, "Gaussian noise added to key points and correspondences (px), for studies.", ge=0)
    stride: int = setting(1, "Fit every n-th instant of each sequence.", ge=1)
    split: Literal["all", "train", "test"] = setting("all", "Sequences to fit.")
    batch: int = runtime(64, "Bodies fitted at once.", ge=1)
    device: Device = runtime("auto", "auto, cpu or cuda.")
