"""3D labels from two synchronised views without extrinsics: each view's label in its own camera frame.

The geometry of a pair comes from `posekit.labeling.rig.estimate_pairs`, pooled over many frames; here single frames are
triangulated with it, given one scale per person and pair, and filtered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posekit.geometry.cameras import Cameras
from posekit.geometry.epipolar import homogeneous
from posekit.geometry.optimal_correction import correct_matches
from posekit.geometry.triangulation import triangulate_dlt
from posekit.labeling.anthropometry import metric_scale, plausible_frames
from posekit.labeling.rig import PairGeometry
from posekit.skeleton.skeleton import Skeleton

TwoViewMethod = Literal["poly", "dlt", "iter_ls"]

HUMAN36M_NEIGHBOURS = (
    ("54138969", "55011271"),
    ("54138969", "58860488"),
    ("55011271", "60457274"),
    ("58860488", "60457274"),
)
"""The camera pairs of Human3.6M that stand side by side; opposite ones nearly face each other through the person."""


@dataclass(frozen=True)
class PairLabelSettings:
    """How two-view labels are made and filtered.

    `method`: optimal correction and linear triangulation ("poly"), linear alone, or iterative least squares. A joint is
    dropped above `max_error_px` (at 1000 px image size) or below `min_confidence` in either view. Of `scale`, `stature`
    (m) sets the size of the person and `baseline` (m) the distance of the cameras; without either the canonical limb
    lengths do.
    """

    method: TwoViewMethod = "poly"
    max_error_px: float = 20.0
    min_confidence: float = 0.3
    stature: float | None = None
    baseline: float | None = None


class PairLabels(NamedTuple):
    """Labels of both views: joints (m) in the frame of each camera, their pixels (distorted), and what may be used.

    `joints` are NaN and `valid` False where a joint was dropped; `frames_ok` is False for frames that no person fits.
    `scale` is metres per unit of the pair's translation.
    """

    joints: Float[Tensor, "T 2 J 3"]
    pixels: Float[Tensor, "T 2 J 2"]
    valid: Bool[Tensor, "T J"]
    frames_ok: Bool[Tensor, "T"]
    scale: float


def neighbouring_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """The camera pairs to make labels from, by index: side by side in Human3.6M, otherwise all pairs."""
    index = {name: i for i, name in enumerate(names)}
    known = tuple((index[a], index[b]) for a, b in HUMAN36M_NEIGHBOURS if a in index and b in index)
    return known or tuple((a, b) for a in range(len(names)) for b in range(a + 1, len(names)))


def label_pair(
    pair: PairGeometry,
    cameras: Cameras,
    keypoints: Float[Tensor, "T C J 2"],
    confidence: Float[Tensor, "T C J"],
    skeleton: Skeleton,
    settings: PairLabelSettings | None = None,
) -> PairLabels:
    """3D labels of one person in the two views of a pair; only intrinsics and lens of `cameras` are used.

    Raises DataError when the size of the person cannot be had.
    """
    settings = settings or PairLabelSettings()
    both = [pair.first, pair.second]
    views = cameras.to(dtype=torch.float64)[both]
    frames, _, joints = confidence.shape
    observed = keypoints[:, both].double().transpose(0, 1).flatten(1, 2)
    undistorted = views.undistort_pixels(observed)
    confident = (confidence[:, both] >= settings.min_confidence).all(dim=1).flatten()
    usable = torch.isfinite(undistorted).all(dim=-1).all(dim=0) & confident
    in_first = torch.full((frames * joints, 3), torch.nan, dtype=torch.float64, device=keypoints.device)
    in_first[usable] = _triangulated(pair, views, undistorted[:, usable], settings.method)
    in_both = torch.stack([in_first, in_first @ pair.rotation.T + pair.translation])
    pixels = views.project_camera(in_both)
    allowed = settings.max_error_px * views.image_size.double().amax(dim=-1)[:, None] / 1000.0
    close = torch.linalg.vector_norm(pixels - observed, dim=-1) <= allowed
    valid = usable & (close & (in_both[..., 2] > 0)).all(dim=0)
    in_both = torch.where(valid[:, None], in_both, torch.nan).reshape(2, frames, joints, 3).transpose(0, 1)
    scale = settings.baseline
    if scale is None:
        scale = metric_scale(in_both[:, 0].cpu().numpy(), skeleton, stature=settings.stature)
    expected = (confidence[:, both] > 0).all(dim=1)
    plausible = plausible_frames(in_both[:, 0].cpu().numpy(), expected.cpu().numpy(), skeleton)
    return PairLabels(
        joints=in_both * scale,
        pixels=pixels.reshape(2, frames, joints, 2).transpose(0, 1),
        valid=valid.reshape(frames, joints),
        frames_ok=torch.from_numpy(plausible).to(keypoints.device),
        scale=float(scale),
    )


def _triangulated(
    pair: PairGeometry, views: Cameras, undistorted: Float[Tensor, "2 N 2"], method: TwoViewMethod
) -> Float[Tensor, "N 3"]:
    first, second = undistorted
    if method == "poly":
        first, second = correct_matches(pair.fundamental, first, second)
    inverse = torch.linalg.inv(views.intrinsics)
    rays = [(homogeneous(points) @ inverse[i].T)[:, :2] for i, points in enumerate((first, second))]
    second_from_first = torch.cat([pair.rotation, pair.translation[:, None]], dim=1)
    matrices = torch.stack([torch.eye(3, 4, dtype=first.dtype, device=first.device), second_from_first])
    return triangulate_dlt(matrices, torch.stack(rays, dim=1), reweightings=5 if method == "iter_ls" else 0)
