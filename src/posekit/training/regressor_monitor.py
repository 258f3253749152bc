"""Measures a regressor on people that it does not learn from, while it is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.config.training import Precision
from posekit.evaluation.metrics import mean_over_joints, mpjpe, n_mpjpe, pa_mpjpe
from posekit.models.backbone import normalised
from posekit.models.body_regressor import BodyRegressor, regressed_bodies
from posekit.registration.matched import MatchedBody
from posekit.training.body_losses import LossBody
from posekit.training.crops import CropSource
from posekit.training.devices import arithmetic

_IMAGES_AT_ONCE = 64
_MM = 1000.0


class RegressorMonitor:
    """Errors of joints against the ground truth of a few samples, every `every` epochs.

    The bodies have the template's size, for a single image does not tell the person's: `mpjpe_mm` is after root alignment,
    `n_mpjpe_mm` after the best scale, `pa_mpjpe_mm` after the best similarity. `source` has one part for each of `datasets`
    and no augmentation.
    """

    def __init__(
        self,
        regressor: BodyRegressor,
        body: LossBody,
        source: CropSource,
        datasets: Sequence[Artifact],
        precision: Precision,
        every: int = 1,
    ) -> None:
        self._regressor, self._body, self._source = regressor, body, source
        self._precision, self._every = precision, every
        rows = [np.flatnonzero(source.part == number) for number in range(len(datasets))]
        self._parts = [
            _Part(samples, body, dataset, bodies.samples[:, 0])
            for samples, dataset, bodies in zip(rows, datasets, source.bodies, strict=True)
            if len(samples)
        ]

    def __call__(self, epochs: int) -> dict[str, float]:
        """The errors (mm), or nothing after epochs that are not measured."""
        if epochs % self._every:
            return {}
        errors: dict[str, list[Tensor]] = {}
        for part in self._parts:
            for begin in range(0, len(part.samples), _IMAGES_AT_ONCE):
                chosen = slice(begin, begin + _IMAGES_AT_ONCE)
                joints = self._joints(part.samples[chosen])[:, part.columns]
                for name, values in part.errors(joints, chosen).items():
                    errors.setdefault(name, []).append(values)
        return {name: _MM * float(torch.cat(values).nanmean()) for name, values in errors.items()}

    @torch.no_grad()
    def _joints(self, samples: Int[np.ndarray, " B"]) -> Float[Tensor, "B J 3"]:
        """Landmarks in metres in the camera's axes, in double precision on the CPU."""
        like = next(self._regressor.parameters())
        images = normalised(self._source.batch(samples, 0).images.to(like.device)).to(like.dtype)
        with arithmetic(self._precision, like.device.type):
            raw = self._regressor(images)
        bodies = regressed_bodies(raw, self._regressor.joint_count, self._regressor.rotations)
        none = torch.zeros(len(samples), 0, dtype=torch.long, device=like.device)
        scales = bodies.segment_scales / bodies.segment_scales.mean(1, keepdim=True)
        posed = MatchedBody(self._body.body, self._body.landmarks, none).posed(bodies.matrices(), scales)
        return (posed.landmarks @ bodies.orientation.transpose(1, 2).to(posed.landmarks)).double().cpu()


class _Part:
    """The samples of one data set, and their ground truth."""

    def __init__(
        self, samples: Int[np.ndarray, " N"], body: LossBody, dataset: Artifact, rows: Int[np.ndarray, " N"]
    ) -> None:
        skeleton = dataset.skeleton
        known = [name for name in skeleton.joints if name in body.joint_names]
        self.samples = samples
        self.columns = [body.joint_names.index(name) for name in known]
        self.roots = [known.index(skeleton.joints[root]) for root in skeleton.roots]
        self._truth = torch.from_numpy(dataset.read("samples", "joints3d", rows)[:, skeleton.indices(*known)]).double()
        self._valid = self._truth.isfinite().all(-1)

    def errors(self, joints: Float[Tensor, "B J 3"], chosen: slice) -> dict[str, Float[Tensor, " B"]]:
        """Each sample's mean errors; NaN without truth."""
        truth, valid = self._truth[chosen], self._valid[chosen]
        usable = valid & valid[:, self.roots].all(1, keepdim=True)
        truth = torch.where(valid[..., None], truth, 0.0)
        return {
            "mpjpe_mm": mean_over_joints(mpjpe(joints, truth, self.roots, usable), usable),
            "n_mpjpe_mm": mean_over_joints(n_mpjpe(joints, truth, self.roots, usable), usable),
            "pa_mpjpe_mm": mean_over_joints(pa_mpjpe(joints, truth, usable), usable),
        }
