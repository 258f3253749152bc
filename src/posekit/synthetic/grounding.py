"""Feet on the floor: the path of the body that keeps planted feet in place, and the height of the floor under motions."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d, grey_opening
from scipy.special import softmax

from posekit.body.model import BodyModel
from posekit.body.smpl_file import BodyData
from posekit.skeleton.catalog import SMPL24

LONGEST_FLIGHT = 1.0
"""Seconds that a recorded body may be off the floor; longer, and it is the floor that is taken to be higher."""

_SOLE_THICKNESS = 0.03
_CONTACT_DEPTH = 0.008
"""Points of the sole that are this much higher (m) than the lowest bear e times less."""


def planted_path(
    body: BodyData, betas: Float[np.ndarray, " S"], pose: Float[np.ndarray, "T 24 3"]
) -> Float[np.ndarray, "T 3"]:
    """The translation over time that keeps those points of the soles in place that touch the floor; y is up, from (0, ., 0).

    The height puts the lowest point of the soles on y = 0.
    """
    model = BodyModel(body, vertex_ids=_sole_vertices(body), dtype=torch.float64)
    with torch.no_grad():
        posed = model(torch.from_numpy(betas)[None].expand(len(pose), -1).double(), torch.from_numpy(pose).double())
    soles = posed.vertices.numpy()
    heights = soles[..., 1]
    bearing = softmax(-heights / _CONTACT_DEPTH, axis=1)
    between = 0.5 * (bearing[1:] + bearing[:-1])
    steps = -(between[..., None] * (soles[1:] - soles[:-1])).sum(axis=1)
    path = np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)])
    path[:, 1] = -heights.min(axis=1)
    return path


def floor_under(lowest: Float[np.ndarray, " T"], fps: float, *, recorded: bool) -> Float[np.ndarray, " T"]:
    """The height of the floor under a body whose lowest point is given over time.

    A built-in motion touches the floor in every frame. A recorded one may jump, so its floor follows the lowest points
    slowly: recordings were made with other bodies, whose legs had other lengths.
    """
    if not recorded or len(lowest) < 3:
        return lowest.copy()
    window = max(3, round(LONGEST_FLIGHT * fps))
    return np.asarray(gaussian_filter1d(grey_opening(lowest, size=window, mode="nearest"), sigma=0.1 * window))


def _sole_vertices(body: BodyData) -> np.ndarray:
    chosen = []
    for side in ("left", "right"):
        joints = list(SMPL24.indices(f"{side}_ankle", f"{side}_foot"))
        foot = np.flatnonzero(body.weights[:, joints].sum(axis=1) > 0.5)
        height = body.v_template[foot, 1]
        chosen.append(foot[height < height.min() + _SOLE_THICKNESS])
    return np.concatenate(chosen)
