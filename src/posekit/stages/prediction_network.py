"""A trained network that gives bodies, applied to the stored crops of a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from posekit.body.model import BodyModel
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.config.training import Precision
from posekit.errors import ConfigError, InputError
from posekit.models.backbone import normalised
from posekit.models.body_regressor import regressed_bodies
from posekit.registration.initial import resting
from posekit.registration.parameters import BodyParameters
from posekit.registration.verdicts import DIVERGED, OK
from posekit.stages.picture_batches import read_ahead
from posekit.training.crop_fits import PARTS
from posekit.training.devices import arithmetic, require_precision
from posekit.training.mesh_estimator import STAGE as MESH_STAGE
from posekit.training.mesh_estimator import STAGE_SSL, load_mesh_estimator
from posekit.training.regressor import load_regressor
from posekit.training.runs import stage_of
from posekit.training.stored_crops import StoredCrops, pixels_from_stored


class PredictionNetwork(ABC):
    """A network that gives the parameters of one body, applied to stored crops.

    `size` is the side of its crops (px), `digest` that of its weights.
    """

    def __init__(
        self,
        body: SegmentScaledBody,
        device: torch.device,
        precision: Precision,
        batch: int,
        size: int,
        digest: str,
    ) -> None:
        require_precision(precision, device)
        self.size, self.digest = size, digest
        self._body = body
        self._device, self._precision, self._batch = device, precision, batch

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
        return BodyParameters(*(torch.cat([getattr(part, name) for part in found]) for name in PARTS)), reasons

    def _bodies(self, images: UInt8[Tensor, "B S S 3"]) -> BodyParameters:
        inputs = normalised(images)
        try:
            with arithmetic(self._precision, self._device.type):
                return self._regressed(inputs.double() if self._precision == "64-true" else inputs)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                "the images of one batch do not fit the device", got=f"--batch {self._batch}", hint="Give a smaller one"
            ) from error

    @abstractmethod
    def _regressed(self, inputs: Float[Tensor, "B 3 S S"]) -> BodyParameters:
        """Bodies in normalised units of the crops."""


class _RegressorNetwork(PredictionNetwork):
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
        super().__init__(body, device, precision, batch, facts.input_size, facts.digest)
        self._rotations = facts.rotations
        if precision == "64-true":
            self._regressor = self._regressor.double()

    def _regressed(self, inputs: Float[Tensor, "B 3 S S"]) -> BodyParameters:
        bodies = regressed_bodies(self._regressor(inputs).float(), self._body.joint_count, self._rotations)
        return bodies.parameters(self._body.joint_shapedirs.shape[-1])


class _MeshNetwork(PredictionNetwork):
    """A mesh estimator. Its perspective, of a body some 45 m away, is taken for a weak one: within the depth of a body that
    makes a difference of 0.6 %."""

    def __init__(
        self, run_folder: Path, body: SegmentScaledBody, device: torch.device, precision: Precision, batch: int
    ) -> None:
        self._backbone, self._estimator, facts = load_mesh_estimator(run_folder, device)
        facts.require_body(body.body, run_folder)
        super().__init__(body, device, precision, batch, facts.input_size, facts.digest)
        self._weak = facts.camera == "weak"
        self._model = BodyModel(body.body).to(device)
        if precision == "64-true":
            self._backbone, self._estimator = self._backbone.double(), self._estimator.double()
            self._model = self._model.double()

    def _regressed(self, inputs: Float[Tensor, "B 3 S S"]) -> BodyParameters:
        estimate = self._estimator(self._backbone(inputs))
        camera = estimate.weak()
        # The root of the posed body lies where the shape puts it; registered bodies have theirs at the origin.
        root = estimate.posed(self._model).joints[:, 0, :2]
        shift = camera.scale[:, None] * root + (
            camera.translation if self._weak else camera.scale[:, None] * camera.translation
        )
        pose = estimate.axis_angles()
        pose[:, 0] = 0.0
        parameters = BodyParameters(
            pose=pose,
            segment_scales=torch.ones_like(pose[..., 0]),
            betas=estimate.betas,
            orientation=estimate.rotations[:, 0],
            translation=nn.functional.pad(shift, (0, 1)),
            scale=camera.scale,
        )
        return BodyParameters(*(getattr(parameters, name).float() for name in PARTS))


def prediction_network(
    run_folder: Path, body: SegmentScaledBody, device: torch.device, precision: Precision, batch: int
) -> PredictionNetwork:
    """The network of a run folder, whichever kind it is.

    Raises MissingFileError or FormatError for a folder that holds none that gives bodies, InputError for one that was
    trained on another body, ConfigError for arithmetic that the device does not have.
    """
    mesh = stage_of(run_folder) in (MESH_STAGE, STAGE_SSL)
    kind = _MeshNetwork if mesh else _RegressorNetwork
    return kind(run_folder, body, device, precision, batch)
