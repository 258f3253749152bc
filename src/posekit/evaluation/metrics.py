"""Errors of poses, joint by joint, in the unit of the points given.

`valid` says which joints take part; the others come back as NaN. Without it every joint takes part. A NaN coordinate of a
joint that takes part is not skipped: its error, and the mean of its sample, are NaN. Leave joints out by `valid`, and
count them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posekit.geometry.conventions import HEAD_SIZE_FACTOR
from posekit.geometry.transforms import Similarity, fit_similarity, similarity_distances


def root_aligned(points: Float[Tensor, "*batch J 3"], roots: Sequence[int]) -> Float[Tensor, "*batch J 3"]:
    """Points moved so that the root, the mean of the joints `roots`, is the origin."""
    return points - points[..., list(roots), :].mean(dim=-2, keepdim=True)


def mpjpe(
    prediction: Float[Tensor, "*batch J 3"],
    target: Float[Tensor, "*batch J 3"],
    roots: Sequence[int],
    valid: Bool[Tensor, "*batch J"] | None = None,
) -> Float[Tensor, "*batch J"]:
    """Distances after root alignment: a translation only, no rotation. The root joint is among the joints, at zero."""
    return _distances(root_aligned(prediction, roots), root_aligned(target, roots), valid)


def procrustes_fit(
    prediction: Float[Tensor, "*batch N D"],
    target: Float[Tensor, "*batch N D"],
    valid: Bool[Tensor, "*batch N"] | None = None,
) -> Similarity:
    """The similarity that brings each prediction nearest to its target by its valid points."""
    return fit_similarity(prediction, target, None if valid is None else valid.to(prediction.dtype))


def pa_mpjpe(
    prediction: Float[Tensor, "*batch J 3"],
    target: Float[Tensor, "*batch J 3"],
    valid: Bool[Tensor, "*batch J"] | None = None,
) -> Float[Tensor, "*batch J"]:
    """Distances after the best similarity of each sample (reconstruction error, P-MPJPE); never a reflection.

    A prediction that is a single point is compared as the target's mean; `procrustes_fit` tells which ones are.
    """
    weights = None if valid is None else valid.to(prediction.dtype)
    distances = similarity_distances(prediction, target, weights)
    return distances if valid is None else torch.where(valid, distances, torch.nan)


def n_mpjpe(
    prediction: Float[Tensor, "*batch J 3"],
    target: Float[Tensor, "*batch J 3"],
    roots: Sequence[int],
    valid: Bool[Tensor, "*batch J"] | None = None,
    scale: Literal["lsq", "procrustes"] = "lsq",
) -> Float[Tensor, "*batch J"]:
    """Distances after root alignment and the best scale (Rhodin et al. 2018).

    `lsq` finds the scale by least squares; `procrustes` takes that of the full similarity without its rotation, as
    EpipolarPose does.
    """
    p, q = root_aligned(prediction, roots), root_aligned(target, roots)
    if scale == "procrustes":
        factor = procrustes_fit(prediction, target, valid).scale
    else:
        used_p, used_q = (p, q) if valid is None else (_zeroed(p, valid), _zeroed(q, valid))
        size = used_p.square().sum((-1, -2))
        factor = (used_p * used_q).sum((-1, -2)) / torch.where(size == 0, 1.0, size)
    return _distances(factor[..., None, None] * p, q, valid)


def bone_rescaled(
    points: Float[Tensor, "*batch J 3"],
    bones: Sequence[tuple[int, int]],
    total_length: float,
    roots: Sequence[int],
) -> Float[Tensor, "*batch J 3"]:
    """Points about their root, scaled so that the lengths of all `bones` sum to `total_length` (Zhou et al. 2017)."""
    parents, children = [bone[0] for bone in bones], [bone[1] for bone in bones]
    length = (points[..., children, :] - points[..., parents, :]).norm(dim=-1).sum(-1)
    return root_aligned(points, roots) * (total_length / length)[..., None, None]


def bone_rescaled_mpjpe(
    prediction: Float[Tensor, "*batch J 3"],
    target: Float[Tensor, "*batch J 3"],
    bones: Sequence[tuple[int, int]],
    total_length: float,
    roots: Sequence[int],
    valid: Bool[Tensor, "*batch J"] | None = None,
) -> Float[Tensor, "*batch J"]:
    """MPJPE of the prediction rescaled to a canonical total bone length; NaN for samples that lack the end of a bone.

    `total_length` is that of the average training subject, in the unit of the points.
    """
    return mpjpe(bone_rescaled(prediction, bones, total_length, roots), target, roots, valid)


def per_vertex_error(
    prediction: Float[Tensor, "*batch V 3"], target: Float[Tensor, "*batch V 3"]
) -> Float[Tensor, "*batch V"]:
    """Distances of vertices after the best similarity over all of them (per-vertex reconstruction error)."""
    return pa_mpjpe(prediction, target)


def per_pixel_error(
    prediction: Float[Tensor, "*batch N 2"],
    target: Float[Tensor, "*batch N 2"],
    valid: Bool[Tensor, "*batch N"] | None = None,
) -> Float[Tensor, "*batch N"]:
    """Distances in the image. Say in which image: published figures are pixels of the 224 px crop."""
    return _distances(prediction, target, valid)


def pck(
    prediction: Float[Tensor, "*batch J 2"],
    target: Float[Tensor, "*batch J 2"],
    reference: Float[Tensor, "*batch"],
    threshold: float,
    valid: Bool[Tensor, "*batch J"] | None = None,
) -> Float[Tensor, "*batch J"]:
    """1 where a joint is at most `threshold` times the reference length of its sample away, else 0."""
    return _within(_distances(prediction, target, valid) / reference[..., None], threshold, inclusive=True)


def pckh(
    prediction: Float[Tensor, "*batch J 2"],
    target: Float[Tensor, "*batch J 2"],
    head_boxes: Float[Tensor, "*batch 4"],
    threshold: float = 0.5,
    valid: Bool[Tensor, "*batch J"] | None = None,
) -> Float[Tensor, "*batch J"]:
    """PCK by the head size of MPII: 0.6 of the diagonal of the head box (x0, y0, x1, y1)."""
    size = HEAD_SIZE_FACTOR * (head_boxes[..., 2:] - head_boxes[..., :2]).norm(dim=-1)
    return pck(prediction, target, size, threshold, valid)


def pck3d(errors: Float[Tensor, "*batch J"], threshold: float = 0.15) -> Float[Tensor, "*batch J"]:
    """1 where a root-aligned error is below the threshold (150 mm, here in metres), else 0; NaN stays NaN."""
    return _within(errors, threshold, inclusive=False)


def auc(errors: Float[Tensor, "*batch J"], maximum: float = 0.15, steps: int = 31) -> Float[Tensor, "*batch J"]:
    """Mean of `pck3d` over `steps` thresholds from zero to `maximum` (0, 5, ... 150 mm); NaN stays NaN."""
    thresholds = torch.linspace(0.0, maximum, steps, dtype=errors.dtype, device=errors.device)
    below = (errors[..., None] < thresholds).to(errors.dtype).mean(-1)
    return torch.where(errors.isnan(), torch.nan, below)


def mean_over_joints(
    values: Float[Tensor, "*batch J"], valid: Bool[Tensor, "*batch J"] | None = None
) -> Float[Tensor, "*batch"]:
    """Mean of each sample over its valid joints; NaN where there is none, or where a valid one is NaN."""
    if valid is None:
        return values.mean(-1)
    return torch.where(valid, values, 0.0).sum(-1) / valid.sum(-1)


def _distances(
    first: Float[Tensor, "*batch J D"], second: Float[Tensor, "*batch J D"], valid: Bool[Tensor, "*batch J"] | None
) -> Float[Tensor, "*batch J"]:
    distances = torch.linalg.vector_norm(first - second, dim=-1)
    return distances if valid is None else torch.where(valid, distances, torch.nan)


def _zeroed(points: Float[Tensor, "*batch J 3"], valid: Bool[Tensor, "*batch J"]) -> Float[Tensor, "*batch J 3"]:
    return torch.where(valid[..., None], points, 0.0)


def _within(errors: Float[Tensor, "*batch J"], threshold: float, *, inclusive: bool) -> Float[Tensor, "*batch J"]:
    passed = errors <= threshold if inclusive else errors < threshold
    return torch.where(errors.isnan(), torch.nan, passed.to(errors.dtype))
