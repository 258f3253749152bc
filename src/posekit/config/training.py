"""What the configs of all trainings share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from posekit.config.base import Device, SeededConfig, runtime, setting, write_path

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]
Decay = Literal["none", "cosine", "steps", "exponential"]


class TrainingConfig(SeededConfig):
    """What every training has."""

    output: Path = write_path("runs/model", "Folder of the run: weights, config, logs, checkpoint.")
    epochs: int = setting(50, "Passes over the data.", ge=1)
    batch: int = setting(30, "Samples of one step, over all processes.", ge=1)
    lr: float = setting(1e-4, "Learning rate of Adam.", gt=0)
    decay: Decay = setting(
        "none",
        "Lower the learning rate never, to 0 by the end, to a tenth at --decay-epochs, or by a factor every epoch.",
    )
    decay_epochs: tuple[int, ...] = setting((), "Epochs after which --decay steps lowers the learning rate.")
    precision: Precision = setting("32-true", "Arithmetic of the networks; bf16-mixed is faster on recent hardware.")
    workers: int = runtime(2, "Threads that read and augment samples.", ge=1)
    log_every: int = runtime(50, "Steps between two lines of the log.", ge=1)
    checkpoint_every: int = runtime(
        500, "Steps between two checkpoints, from which an interrupted training goes on.", ge=1
    )
    device: Device = runtime("auto", "auto, cpu or cuda.")


class CropTrainingConfig(TrainingConfig):
    """What trainings on crops of people have that change them as SPIN does (Kolotouros et al. 2019)."""

    augment: bool = setting(True, "Change the crops at random, as the settings below say.")
    flip: float = setting(0.5, "Probability of a mirror image (SPIN, Kolotouros et al. 2019).", ge=0, le=1)
    gain: float = setting(0.4, "Colour channels are multiplied by up to 1 more or less this (SPIN).", ge=0, le=1)
    zoom_sd: float = setting(0.25, "Deviation of the factor of the crop's side from 1 (SPIN).", ge=0)
    zoom_max: float = setting(0.25, "Bound of that deviation (SPIN).", ge=0, le=0.9)
    turn_sd: float = setting(30.0, "Deviation of the crop's rotation, degrees (SPIN).", ge=0)
    turn_max: float = setting(60.0, "Bound of the crop's rotation, degrees (SPIN).", ge=0, le=180)
    turn_p: float = setting(0.4, "Probability that a crop is rotated (SPIN).", ge=0, le=1)
    monitor_samples: int = runtime(
        0, "Images of test subjects to measure after an epoch, where there is truth; logged, never learned from.", ge=0
    )
    monitor_every: int = runtime(1, "Epochs between two measurements.", ge=1)
