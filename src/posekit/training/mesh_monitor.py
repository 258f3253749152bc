"""Measures a mesh estimator on people that it does not learn from, while it is trained."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posekit.body.model import BodyModel
from posekit.config.training import Precision
from posekit.evaluation.metrics import mean_over_joints, mpjpe, pa_mpjpe
from posekit.models.backbone import Backbone, normalised
from posekit.models.mesh_estimator import MeshEstimate, MeshEstimator
from posekit.render.textured import TexturedRenderer
from posekit.training.devices import arithmetic
from posekit.training.mesh_estimator import NamedJoints
from posekit.training.mesh_samples import MeshSource

_IMAGES_AT_ONCE = 32
_MM = 1000.0
_PERCENT = 100.0


class MeshMonitor:
    """Mean errors over the samples of a source without augmentation, every `every` epochs.

    `mpjpe_mm` is of the joints that the data sets know, about the middle of the hips, `pa_mpjpe_mm` after the best
    similarity; `iou_percent` compares silhouettes with masks; `camera_scale` is the mean scale of the predicted cameras, which
    falls below about 0.5 where bodies collapse (Cha et al. 2021, section 4.3).
    """

    def __init__(
        self,
        backbone: Backbone,
        estimator: MeshEstimator,
        body: BodyModel,
        joints: NamedJoints,
        source: MeshSource,
        precision: Precision,
        *,
        focal_px: float,
        weak: bool,
        every: int = 1,
    ) -> None:
        self._backbone, self._estimator, self._body, self._joints = backbone, estimator, body, joints
        self._source, self._precision, self._every = source, precision, every
        self._focal_px, self._weak = focal_px, weak
        self._renderer = TexturedRenderer(body.faces, source.size, perspective=not weak)
        self._hips = [joints.names.index(name) for name in ("left_hip", "right_hip")]

    def __call__(self, epochs: int) -> dict[str, float]:
        """The errors, or nothing after epochs that are not measured."""
        if epochs % self._every:
            return {}
        found: dict[str, list[Tensor]] = {}
        for begin in range(0, len(self._source), _IMAGES_AT_ONCE):
            samples = np.arange(begin, min(begin + _IMAGES_AT_ONCE, len(self._source)))
            for name, values in self._errors(samples).items():
                found.setdefault(name, []).append(values.double().cpu())
        means = {name: float(torch.cat(values).nanmean()) for name, values in found.items()}
        return {name: mean for name, mean in means.items() if np.isfinite(mean)}

    @torch.no_grad()
    def _errors(self, samples: np.ndarray) -> dict[str, Float[Tensor, " B"]]:
        like = next(self._backbone.parameters())
        batch = self._source.batch(samples, 0).to(like.device)
        with arithmetic(self._precision, like.device.type):
            estimate: MeshEstimate = self._estimator(self._backbone(normalised(batch.images).to(like.dtype)))
        posed = estimate.posed(self._body)
        joints, truth = self._joints(posed).double(), batch.joints.double()
        valid = batch.joint_weights > 0
        usable = valid & valid[:, self._hips].all(1, keepdim=True)
        camera = estimate.weak() if self._weak else estimate.perspective(focal_px=self._focal_px)
        grey = joints.new_full((1, len(self._body.faces), 3), 0.5).to(posed.vertices)
        covered = self._renderer.render(posed.vertices, camera, grey).alpha > 0.5
        masks = batch.masks > 0
        both, either = (covered & masks).flatten(1).sum(1), (covered | masks).flatten(1).sum(1)
        iou = torch.where(batch.masked, _PERCENT * both / either.clamp_min(1), torch.nan)
        return {
            "mpjpe_mm": _MM * mean_over_joints(mpjpe(joints, truth, self._hips, usable), usable),
            "pa_mpjpe_mm": _MM * mean_over_joints(pa_mpjpe(joints, truth, usable), usable),
            "camera_scale": estimate.camera[:, 0],
            "iou_percent": iou,
        }
