"""Config of `posekit train deform-and-learn`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from posekit.config.base import Device, SeededConfig, read_path, read_paths, runtime, setting, write_path

Strategy = Literal["rounds", "single-step", "single-step-noadv"]


class TrainDeformAndLearn(SeededConfig):
    """`posekit train deform-and-learn`: registers bodies to images, learns from them, registers again from what was learned.

    Settings of the stages that it runs are given as mappings; their own configs check them and hold their defaults.
    """

    recipes: ClassVar[str] = "deform_and_learn"

    datasets: tuple[Path, ...] = read_paths(("data/h36m.h5",), "Data sets with image crops and dense correspondences.")
    last_datasets: tuple[Path, ...] = read_paths(
        (), "Data sets of the last of several rounds (paper: Human3.6M alone); empty: those of all rounds."
    )
    dense: tuple[Path, ...] = read_paths(
        (), "Dense correspondences, one file for each data set; default: labels/NAME.dense.h5."
    )
    truth: tuple[Path, ...] = read_paths((), "Truth of the studio, one file for each data set, for errors of vertices.")
    lifter: Path | None = read_path(
        None, "Trained lifter; default: runs/lifter when it is there, else one is trained first."
    )
    body: Path | None = read_path(None, "Body model file; default: the body that posekit ships.", workspace="body.path")
    output: Path = write_path(
        "runs/deform-and-learn", "Folder of the run: a folder for each round, and the last model."
    )
    strategy: Strategy = setting(
        "rounds",
        "Alternate registration and training (rounds), or train from labels alone with or without the adversarial term.",
    )
    rounds: int = setting(5, "Rounds of registration and training (paper: 5).", ge=1)
    epochs: int = setting(50, "Passes over the data in each round (paper: 50); single-step: times the rounds.", ge=1)
    continue_weights: bool = setting(True, "Each round goes on with the weights of the round before.")
    lifter_settings: Mapping[str, Any] = setting({}, "Settings of `posekit train lifter`.")
    use_lifter: bool = setting(True, "Guide registration and training by the lifter's depths.")
    first_register: Mapping[str, Any] = setting({}, "Settings of `posekit register` in the first round.")
    register_settings: Mapping[str, Any] = setting({}, "Settings of `posekit register` in the later rounds.")
    regressor: Mapping[str, Any] = setting({}, "Settings of `posekit train regressor`.")
    evaluate: bool = setting(True, "Measure every round where data sets have ground truth.")
    device: Device = runtime("auto", "auto, cpu or cuda.")
