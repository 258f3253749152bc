"""A trained regressor applied to the stored crops of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.config.training import Precision
from posekit.errors import ConfigError, InputError
from posekit.models.backbone import normalised
from posekit.models.body_regressor import regressed_bodies
from posekit.registration.initial import resting
from posekit.registration.parameters import BodyParameters
from posekit.registration.verdicts import DIVERGED, OK
from posekit.stages.picture_batches import read_ahead
from posekit.training.devices import arithmetic, require_precision
from posekit.training.regressor import load_regressor
from posekit.training.stored_crops import StoredCrops, pixels_from_stored


class PredictionNetwork:
    """A regressor for one body.

    Raises MissingFileError or FormatError for a folder that holds no trained regressor, InputError for one that was
    trained on another body, ConfigError for arithmetic that the device does not have.
    """

    def __init__(
        self, run_folder: Path, body: SegmentScaledBody, device: torch.device, precision: Precision, batch: int
    ) -> None:
        self._regressor, facts = load_regressor(run_folder, device)
        if facts.body != body.body.digest:
            raise InputError(
                f"the model in {run_folder} was trained with another body",
                got=f"digest {body.body.digest[:12]}",
                accepted=facts.body[:12],
                hint="Give the body that it was trained with: --body FILE",
            )
        require_precision(precision, device)
        self.digest = facts.digest
        self.size = facts.input_size
        self._rotations = facts.rotations
        self._body = body
        self._device = device
        self._precision = precision
        self._batch = batch
        if precision == "64-true":
            self._regressor = self._regressor.double()

    @torch.inference_mode()
    def predict(
        self, crops: StoredCrops, unit_from_image: Float[np.ndarray, "N 2 3"]
    ) -> tuple[BodyParameters, list[str]]:
        """Bodies in normalised crop units, and why a body may not be used (or nothing); such a body is at rest."""
        found: list[BodyParameters] = []
        reasons: list[str] = []
        maps = pixels_from_stored(unit_from_image, crops.crop_from_image, self.size)
        for images, problems in read_ahead(crops, maps, self.size, self._batch):
            bodies = self._bodies(images.to(self._device, non_blocking=True))
            finite = bodies.flat().isfinite().all(1)
            reasons += [
                problem or (OK if ok else DIVERGED) for problem, ok in zip(problems, finite.tolist(), strict=True)
            ]
            usable = finite & torch.tensor([not problem for problem in problems], device=finite.device)
            found.append(bodies.where(usable, resting(self._body, len(bodies))))
        names = ("pose", "segment_scales", "betas", "orientation", "translation", "scale")
        return BodyParameters(*(torch.cat([getattr(part, name) for part in found]) for name in names)), reasons

    def _bodies(self, images: UInt8[Tensor, "B S S 3"]) -> BodyParameters:
        inputs = normalised(images)
        try:
            with arithmetic(self._precision, self._device.type):
                raw = self._regressor(inputs.double() if self._precision == "64-true" else inputs)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                "the images of one batch do not fit the device", got=f"--batch {self._batch}", hint="Give a smaller one"
            ) from error
        bodies = regressed_bodies(raw.float(), self._body.joint_count, self._rotations)
        return bodies.parameters(self._body.joint_shapedirs.shape[-1])
