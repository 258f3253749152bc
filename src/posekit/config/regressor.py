"""Config of `posekit train regressor`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from posekit.config.base import read_paths, write_path
from posekit.config.training import TrainingConfig

Supervision = Literal["fits", "labels", "labels-no-adversary"]


class TrainRegressor(TrainingConfig):
    """`posekit train regressor`: one round's network that regresses bodies from images, learned from registered bodies."""

    recipes: ClassVar[str] = "regressor"

    datasets: tuple[Path, ...] = read_paths(("data/h36m.h5",), "Data sets with image crops.")
    output: Path = write_path("runs/regressor", "Folder of the run: weights, config, logs, checkpoint.")
