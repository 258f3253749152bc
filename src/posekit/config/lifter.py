"""Configs of `posekit train lifter` and `posekit eval lifter`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from posekit.config.base import Device, SeededConfig, read_path, read_paths, runtime, setting, write_path
from posekit.config.training import TrainingConfig

LifterJoints = Literal["common14", "mpii16"]
Orientation = Literal["knee", "nose", "none"]


class TrainLifter(TrainingConfig):
    """`posekit train lifter`: a network that gives 2D key points their depths, learned from 2D poses alone."""

    recipes: ClassVar[str] = "lifter"

    datasets: tuple[Path, ...] = read_paths(("data/h36m.h5",), "Data sets whose 2D key points are learned from.")
    output: Path = write_path("runs/lifter", "Folder of the run: weights, config, logs, checkpoint.")
    body: Path | None = read_path(
        None,
        "Body whose resting bones are the average skeleton; default: the one that posekit ships.",
        workspace="body.path",
    )
    epochs: int = setting(60, "Passes over the poses (paper: 60).", ge=1)
    batch: int = setting(1024, "Poses of one step, over all processes (paper: 1024).", ge=1)
    lr: float = setting(2e-4, "Learning rate of Adam (paper: 2e-4).", gt=0)
    decay: Literal["none", "cosine"] = setting("cosine", "Lower the learning rate to 0 by the end, or never (paper).")
    split: Literal["train", "test", "all"] = setting(
        "train", "Which part of data sets that have parts is learned from."
    )
    joints: LifterJoints = setting("common14", "Joints that get depths; mpii16 adds neck and head top.")
    width: int = setting(1024, "Width of the networks' layers (Kudo et al. 2018: 1024).", ge=1)
    discriminator_width: int = setting(0, "Width of the discriminator's layers; 0: as the generator's.", ge=0)
    flip: bool = setting(True, "Learn from mirror images as well.")
    angles: tuple[float, ...] = setting(
        (45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0),
        "Angles about the vertical, degrees, that poses are judged from; the paper's own seven are lost.",
    )
    random_angles: int = setting(
        1, "Judge each pose from this many random angles; 0: from all of `angles` (paper).", ge=0
    )
    tilt: float = setting(
        0.0,
        "How far the cameras look down, degrees: poses turn about the vertical as such a camera sees it.",
        gt=-90,
        lt=90,
    )
    learn_tilt: bool = setting(True, "Find out how far the cameras look down, beginning at `tilt` (paper: no).")
    distance: float = setting(
        10.0,
        "Distance of the camera in sizes of a pose (mean distance to the pelvis); 0: far away (paper). Chen et al. 2019: 10.",
        ge=0,
    )
    w_adversarial: float = setting(0.3, "Weight of the discriminator's verdict (paper: 0.1).", ge=0)
    w_ratio: float = setting(3.0, "Weight of bone lengths relative to the trunk (paper: 1).", ge=0)
    w_symmetry: float = setting(3.0, "Weight of equal bones left and right (paper: 1).", ge=0)
    orientation: Orientation = setting("knee", "What tells front from back: knees, nose (mpii16), or nothing.")
    w_orientation: float = setting(3.0, "Weight of `orientation`; the other losses cannot see the sign of depth.", ge=0)
    w_twist: float = setting(1.0, "Weight of shoulders that turn against the hips by more than `twist`.", ge=0)
    twist: float = setting(53.0, "Degrees that shoulders may turn against the hips.", ge=0, le=180)
    w_consistency: float = setting(
        0.3, "Weight of a turned pose getting the depths it had when it is lifted again (Chen et al. 2019).", ge=0
    )
    blur: float = setting(0.05, "Noise on all poses that the discriminator sees, in sizes of a pose.", ge=0)
    sway: float = setting(
        10.0, "In-plane rotation of all poses that the discriminator sees, standard deviation in degrees.", ge=0
    )


class EvaluateLifter(SeededConfig):
    """`posekit eval lifter`: the depths of a lifter against the ground truth of a data set."""

    dataset: Path = read_path("data/h36m.h5", "Data set artifact with ground truth.")
    lifter: Path = read_path("runs/lifter", "Folder of the lifter's training.")
    output: Path | None = write_path(None, "JSON file; default: results/NAME.lifter.json.")
    split: Literal["train", "test", "all"] = setting("test", "Which part of the data set is measured.")
    bootstrap: int = setting(1000, "Resamplings for the 95 % intervals; 0 leaves them out.", ge=0)
    device: Device = runtime("auto", "auto, cpu or cuda.")
