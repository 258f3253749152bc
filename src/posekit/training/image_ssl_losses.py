"""The losses of Cha et al. 2021, "Towards Single 2D Image-Level Self-Supervision for 3D Human Pose and Shape Estimation".

Squares are means over elements, classifications means over samples. Numbers in brackets are the paper's equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

GanForm = Literal["lsgan", "bce"]


@dataclass(frozen=True)
class InPaintingWeights:
    """Shares of the likeness to the true patch and of the discriminator's opinion."""

    likeness: float = 0.999
    realness: float = 0.001


@dataclass(frozen=True)
class JointWeights:
    """Weights of the keypoint loss, as in SPIN."""

    total: float = 60.0
    keypoints: float = 5.0
    joints: float = 5.0


def classification_loss(logits: Float[Tensor, "B N"], classes: Int64[Tensor, " B"]) -> Float[Tensor, ""]:
    """Cross-entropy of the jigsaw's permutation (2) or of the rotation (3)."""
    return nn.functional.cross_entropy(_precise(logits), classes)


def accuracy(logits: Float[Tensor, "B N"], classes: Int64[Tensor, " B"]) -> Float[Tensor, ""]:
    """The share of samples whose class was found."""
    return (logits.argmax(1) == classes).float().mean()


def realness_loss(scores: Float[Tensor, " B"], form: GanForm = "lsgan") -> Float[Tensor, ""]:
    """How far the discriminator is from taking imitations for photographs: of rendered pictures (9), and within (4).

    ``lsgan`` is least squares, the paper's; ``bce`` the cross-entropy of the authors' first stage, for scores in [0, 1].
    """
    return _apart(scores, 1.0, form)


def inpainting_loss(
    given: Float[Tensor, "B 3 P P"],
    target: Float[Tensor, "B 3 P P"],
    scores: Float[Tensor, " B"],
    weights: InPaintingWeights | None = None,
    form: GanForm = "lsgan",
) -> Float[Tensor, ""]:
    """Likeness of the patch, and what the discriminator holds of the pictures it was pasted into (4)."""
    weights = weights or InPaintingWeights()
    return weights.likeness * _mean_square(given, target) + weights.realness * realness_loss(scores, form)


def discriminator_loss(
    photographs: Float[Tensor, " B"], imitations: Sequence[Float[Tensor, " _"]], form: GanForm = "lsgan"
) -> Float[Tensor, ""]:
    """Of scores: photographs are to get 1, each kind of imitation 0.

    With in-painted pictures alone it is (5); with rendered pictures over backgrounds and in-painted ones it is (11).
    """
    loss = _apart(photographs, 1.0, form)
    for scores in imitations:
        loss = loss + _apart(scores, 0.0, form)
    return loss


def rgb_loss(
    rendered: Float[Tensor, "B 3 S S"],
    target: Float[Tensor, "B 3 S S"],
    valid: Bool[Tensor, " B"] | None = None,
    count: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Rendered bodies against masked pictures, over the samples that have a mask (6); 0 where none has.

    `count` is how many have one, by default those of this batch; with its mean over several processes, their losses have
    the mean that one process finds.
    """
    return _mean_square(rendered, target, valid, count)


def mask_loss(
    rendered: Float[Tensor, "B S S"],
    target: Float[Tensor, "B S S"],
    valid: Bool[Tensor, " B"] | None = None,
    count: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Silhouettes against masks of 0 and 1, over the samples that have a mask (10); see `rgb_loss`."""
    return _mean_square(rendered, target, valid, count)


def keypoint_loss(
    found: Float[Tensor, "B J 2"], wanted: Float[Tensor, "B J 2"], confidences: Float[Tensor, "B J"]
) -> Float[Tensor, ""]:
    """Square distances in normalised crop units by confidence, over all joints and coordinates of the batch.

    Joints of zero confidence count in the mean's denominator, as in SPIN, and may be NaN.
    """
    return _weighted(found, wanted, confidences).mean()


def joint_loss(
    found: Float[Tensor, "B J 3"],
    wanted: Float[Tensor, "B J 3"],
    confidences: Float[Tensor, "B J"],
    hips: tuple[int, int],
    count: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Square distances (m²) of 3D joints from the middle of their own hips, by confidence.

    The mean is over the joints and coordinates of the samples with both hips, as in SPIN; 0 without. `count` is how many
    have them, see `rgb_loss`.
    """
    usable = (confidences[:, hips[0]] > 0) & (confidences[:, hips[1]] > 0)
    weights = confidences * usable[:, None]
    centred = [joints - joints[:, list(hips)].mean(1, keepdim=True) for joints in (found, wanted)]
    squares = _weighted(centred[0], centred[1], weights)
    samples = usable.sum() if count is None else count
    return squares.flatten(1).mean(1).sum() / torch.where(samples == 0, 1, samples)


def joints_loss(
    keypoints: Float[Tensor, ""], joints: Float[Tensor, ""] | float = 0.0, weights: JointWeights | None = None
) -> Float[Tensor, ""]:
    """The optional supervision: 2D terms alone are weak supervision, both are semi-supervision."""
    weights = weights or JointWeights()
    return weights.total * (weights.keypoints * keypoints + weights.joints * joints)


def _weighted(found: Tensor, wanted: Tensor, confidences: Float[Tensor, "B J"]) -> Tensor:
    known = (confidences > 0)[..., None]
    apart = torch.where(known, _precise(found) - torch.where(known, wanted, 0.0), 0.0)
    return torch.where(known, confidences[..., None], 0.0) * apart.square()


def _mean_square(
    found: Tensor,
    wanted: Tensor,
    valid: Bool[Tensor, " B"] | None = None,
    count: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    squares = (_precise(found) - wanted).square().flatten(1)
    if valid is None:
        return squares.mean()
    total = torch.where(valid, squares.mean(1), 0.0).sum()
    return total / valid.sum().clamp_min(1) if count is None else total / torch.where(count == 0, 1.0, count)


def _apart(scores: Float[Tensor, " B"], target: float, form: GanForm) -> Float[Tensor, ""]:
    scores = _precise(scores)
    if form == "lsgan":
        return (scores - target).square().mean()
    with torch.autocast(scores.device.type, enabled=False):
        return nn.functional.binary_cross_entropy(scores, torch.full_like(scores, target))


def _precise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
