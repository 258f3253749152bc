"""From stored fits back to bodies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posekit.body.segment_scaled import PosedPoints, SegmentScaledBody
from posekit.geometry.rotations import matrix_from_9d, matrix_from_axis_angle

_BODIES_AT_ONCE = 64


def posed_bodies(fits: Mapping[str, np.ndarray], body: SegmentScaledBody) -> PosedPoints:
    """All vertices (N, V, 3) and rig joints (N, K, 3) of fits.

    `fits` are rows of the table `fits` of a fits artifact, by column name, as `Artifact.table("fits", rows)` gives them.
    Fits to posed cameras come in the world of the artifact's cameras, in metres. Weak-perspective fits (`crop_from_image`
    is there and the row names a camera) come in normalised crop units with axes parallel to the camera's: x and y are
    positions in the crop from -1 to 1, z is depth from the root in the same unit; `crop_pixels` leads on to the image.
    Rows that are not ok are posed all the same, with whatever numbers they hold. `body` decides device and precision.
    """
    posed = [
        _posed({name: values[begin : begin + _BODIES_AT_ONCE] for name, values in fits.items()}, body)
        for begin in range(0, max(1, len(fits["pose"])), _BODIES_AT_ONCE)
    ]
    return PosedPoints(torch.cat([part.points for part in posed]), torch.cat([part.joints for part in posed]))


def crop_pixels(points: Float[Tensor, "N P D"], crop_from_image: Float[np.ndarray, "N 2 3"]) -> Float[Tensor, "N P 2"]:
    """Pixels of the original image of points in normalised crop units; `crop_from_image` is the column of the fits."""
    maps = torch.as_tensor(crop_from_image, dtype=torch.float64, device=points.device)
    back = torch.linalg.inv(maps[..., :2]).to(points.dtype)
    return (points[..., :2] - maps[:, None, :, 2].to(points.dtype)) @ back.transpose(-1, -2)


@torch.no_grad()
def _posed(fits: Mapping[str, np.ndarray], body: SegmentScaledBody) -> PosedPoints:
    def tensor(name: str) -> Tensor:
        return torch.as_tensor(np.asarray(fits[name]), dtype=body.template.dtype, device=body.template.device)

    betas = tensor("betas")
    local = body.posed_vertices(
        matrix_from_axis_angle(tensor("pose")),
        tensor("segment_scales"),
        betas if bool(betas.any()) else None,
    )
    turn = tensor("scale")[:, None, None] * matrix_from_9d(tensor("orientation")).transpose(1, 2)
    shift = tensor("translation")[:, None]
    return PosedPoints(local.points @ turn + shift, local.joints @ turn + shift)
