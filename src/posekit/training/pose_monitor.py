"""Measures a Pose ResNet on people that it does not learn from, while it is trained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posekit.config.training import Precision
from posekit.evaluation.metrics import mean_over_joints, n_mpjpe, pa_mpjpe
from posekit.models.backbone import normalised
from posekit.models.pose_resnet import PoseResNet
from posekit.training.devices import arithmetic
from posekit.training.pose_samples import PoseSource

_IMAGES_AT_ONCE = 64
_PERCENT, _MM = 100.0, 1000.0

Errors = Callable[
    [Float[Tensor, "B J 3"], Float[Tensor, "B J 3"], Float[Tensor, "B J 3"], np.ndarray], dict[str, Tensor]
]
"""Errors of each sample from predicted and labelled joints, weights and the numbers of the samples."""


def flat_errors(
    predicted: Float[Tensor, "B J 3"], labelled: Float[Tensor, "B J 3"], weights: Float[Tensor, "B J 3"], _: np.ndarray
) -> dict[str, Float[Tensor, " B"]]:
    """Mean distance in the image, in percent of the crop's side."""
    distance = (predicted - labelled)[..., :2].norm(dim=-1)
    return {"error_percent": _PERCENT * mean_over_joints(distance, weights[..., 0] > 0)}


def spatial_errors(root: int, unit_metres: Float[np.ndarray, " N"]) -> Errors:
    """Errors in mm after the best scale about the joint `root` and after the best similarity.

    `unit_metres` are metres of one unit of each sample's coordinates.
    """

    def errors(
        predicted: Float[Tensor, "B J 3"],
        labelled: Float[Tensor, "B J 3"],
        weights: Float[Tensor, "B J 3"],
        samples: np.ndarray,
    ) -> dict[str, Float[Tensor, " B"]]:
        metres = torch.from_numpy(_MM * unit_metres[samples])[:, None, None]
        ours, true, valid = metres * predicted, metres * labelled, weights[..., 2] > 0
        usable = valid & valid[:, root : root + 1]
        return {
            "n_mpjpe_mm": mean_over_joints(n_mpjpe(ours, true, [root], usable), usable),
            "pa_mpjpe_mm": mean_over_joints(pa_mpjpe(ours, true, usable), usable),
        }

    return errors


class PoseMonitor:
    """Mean errors over the samples of a source without augmentation, every `every` epochs."""

    def __init__(
        self, network: PoseResNet, source: PoseSource, errors: Errors, precision: Precision, every: int = 1
    ) -> None:
        self._network, self._source, self._errors = network, source, errors
        self._precision, self._every = precision, every

    def __call__(self, epochs: int) -> dict[str, float]:
        """The errors, or nothing after epochs that are not measured."""
        if epochs % self._every:
            return {}
        found: dict[str, list[Tensor]] = {}
        for begin in range(0, len(self._source), _IMAGES_AT_ONCE):
            samples = np.arange(begin, min(begin + _IMAGES_AT_ONCE, len(self._source)))
            batch = self._source.batch(samples, 0)
            like = next(self._network.parameters())
            with arithmetic(self._precision, like.device.type):
                predicted = self._network(normalised(batch.images.to(like.device)).to(like.dtype)).joints
            values = self._errors(predicted.double().cpu(), batch.joints.double(), batch.weights.double(), samples)
            for name, each in values.items():
                found.setdefault(name, []).append(each)
        return {name: float(torch.cat(values).nanmean()) for name, values in found.items()}
