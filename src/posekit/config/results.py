"""Configs of the stages that evaluate, show and pass on results."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from posekit.config.base import Device, SeededConfig, StageConfig, read_path, runtime, setting, write_path

EvaluationProtocol = Literal[
    "all",
    "p1",
    "p2",
    "h36m-hmr-p1",
    "h36m-hmr-p2",
    "h36m-spin-p1",
    "h36m-spin-p2",
    "h36m-17",
    "deform-and-learn",
    "deform-and-learn-train",
    "pose-resnet",
    "pose-resnet-train",
    "3dpw-spin",
    "3dpw-vibe",
]

Heading = Literal["predictions", "fits", "joints3d", "mean-pose"]
ComparedHeading = Literal["predictions", "fits", "joints3d", "keypoints", "mean-pose"]


class Evaluate(SeededConfig):
    """`posekit eval`: labels, fits and predictions against the ground truth of a data set."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact with ground truth.")
    joints3d: Path | None = read_path(None, "Labels to evaluate; default: labels/NAME.joints3d.h5 when it is there.")
    fits: Path | None = read_path(None, "Fits to evaluate; default: fits/NAME.h5 when it is there.")
    predictions: Path | None = read_path(
        None, "Predictions to evaluate; default: predictions/NAME.h5 when it is there."
    )
    truth: Path | None = read_path(None, "Truth artifact of the studio, for errors of vertices.")
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    output: Path | None = write_path(None, "Result to write; default: results/NAME.json.")
    protocol: EvaluationProtocol = setting("all", "Published protocol that selects frames, joints and root.")
    split: Literal["all", "train", "test"] = setting(
        "all", "Sequences of the data set to take, where the protocol does not choose the subjects itself."
    )
    canonical: Literal["training", "constant"] = setting(
        "training",
        "Bone length that the protocols deform-and-learn rescale to: that of the average training subject of the data "
        "set, or 4.150 m; 4.150 m as well where the data set has no training subjects with ground truth.",
    )
    nmpjpe_scale: Literal["lsq", "procrustes"] = setting(
        "lsq", "Scale of N-MPJPE: the best by least squares, or that of the full similarity (EpipolarPose's code)."
    )
    headings: tuple[Heading, ...] = setting((), "What to evaluate; empty: all that is there.")
    baseline: bool = setting(False, "Evaluate the mean pose of the training samples, too.")
    bootstrap: int = setting(1000, "Resamplings for the 95 % intervals; 0: none.", ge=0)
    histogram: bool = runtime(
        False, "Draw the errors of each joint, their means and their spread, beside the result: NAME.joints.png."
    )
    device: Device = runtime("auto", "auto, cpu or cuda.")


class Render(StageConfig):
    """`posekit render`: meshes and skeletons on the original frames, and from other sides."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact.")
    raw: Path | None = read_path(None, "Folder of the original frames; default: where preprocess read them.")
    joints3d: Path | None = read_path(None, "Joints to draw; default: labels/NAME.joints3d.h5 when it is there.")
    fits: Path | None = read_path(
        None, "Fits, or predicted joints, to draw; default: fits/NAME.h5, else predictions/NAME.h5."
    )
    model: Path | None = read_path(
        None,
        "Run folder of what draws: with --kind heatmaps a Pose ResNet, with --kind columns a mesh estimator or image-ssl.",
    )
    heads: Path | None = read_path(
        None,
        "With --kind columns: run folder of the heads of image-ssl, which colour the bodies; default: heads in --model where it "
        "is there.",
    )
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    output: Path | None = write_path(None, "Folder to write into; default: renders/NAME.")
    kind: Literal["overlay", "side", "turntable", "heatmaps", "columns"] = setting(
        "overlay",
        "What to draw; heatmaps: where a Pose ResNet (--model) sees each joint, over the crop of every person; columns: the "
        "crop, the body of a mesh estimator (--model) with its joints, its six parts, and its colours (Cha et al. 2021, Fig. 3).",
    )
    draw: Literal["auto", "mesh", "skeleton", "both"] = setting("auto", "What to draw on the frames.")
    sequence: str | None = setting(None, "Name of the sequence; default: the first that has something to draw.")
    camera: tuple[str, ...] = setting((), "Names of the cameras; empty: all.")
    frames: int = setting(0, "Number of frames to draw; 0: all.", ge=0)
    images: bool = setting(False, "Write PNG images instead of a video.")
    opacity: float = setting(0.75, "Opacity of the mesh.", gt=0, le=1)
    scale: float = setting(1.0, "Size of the output over the size of the frames.", gt=0, le=4)
    device: Device = runtime("auto", "auto, cpu or cuda.")


class Export(StageConfig):
    """`posekit export`: results in the formats of other programs."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact.")
    joints3d: Path | None = read_path(None, "Joints to export; default: labels/NAME.joints3d.h5 when it is there.")
    fits: Path | None = read_path(
        None, "Fits, or predicted joints, to export; default: fits/NAME.h5, else predictions/NAME.h5."
    )
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    output: Path | None = write_path(None, "Folder to write into; default: exports/NAME.")
    formats: tuple[Literal["trc", "csv", "npz", "obj", "ply", "glb"], ...] = setting(
        ("trc", "glb"), "Formats to write."
    )
    sequence: str | None = setting(None, "Name of the sequence; default: all.")
    person: int | None = setting(None, "Number of the person; default: all.", ge=0)
    up: Literal["auto", "y", "z"] = setting(
        "auto", "Up axis of the written files; auto: y, as OpenSim and glTF want it."
    )


class Compare(SeededConfig):
    """`posekit eval compare`: two results, paired sample by sample."""

    first: Path = read_path(None, "Result of `posekit eval`.", positional=True)
    second: Path = read_path(None, "Result to compare it with.", positional=True)
    output: Path | None = write_path(None, "JSON file to write the comparison to; default: none.")
    heading: ComparedHeading | None = setting(
        None,
        "What to compare; default: the first of predictions, fits, joints3d, keypoints, mean-pose that both results hold.",
    )
    second_heading: ComparedHeading | None = setting(None, "What to take of the second result; default: the same.")
    bootstrap: int = setting(1000, "Resamplings for the 95 % intervals; 0: none.", ge=0)
