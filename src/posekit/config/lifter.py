"""Configs of `posekit train lifter` and `posekit eval lifter`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from posekit.config.base import read_paths, setting, write_path
from posekit.config.training import TrainingConfig


class TrainLifter(TrainingConfig):
    """`posekit train lifter`: a network that gives 2D key points their depths, learned from 2D poses alone."""

    recipes: ClassVar[str] = "lifter"

    datasets: tuple[Path, ...] = read_paths(("data/h36m.h5",), "Data sets whose 2D key points are learned from.")
    output: Path = write_path("runs/lifter", "Folder of the run: weights, config, logs, checkpoint.")
    epochs: int = setting(60, "Passes over the poses (paper: 60).", ge=1)
    batch: int = setting(1024, "Poses of one step, over all processes (paper: 1024).", ge=1)
    lr: float = setting(2e-4, "Learning rate of Adam (paper: 2e-4).", gt=0)
