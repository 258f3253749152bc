"""The axes, units and pixel origin of posekit, and the doors through which foreign ones come in.

- Lengths are metres and angles radians inside; reports print millimetres.
- Camera frame: x right, y down, z forward. ``X_camera = R @ X_world + t``.
- Body frame: SMPL's. y up, the rest pose faces +z, the person's left is +x.
- Pixels: the centre of the top-left pixel is (0, 0); pixel k covers [k - 0.5, k + 0.5).
- Normalised crop coordinates: -1 and +1 are the outer borders of a square crop.
- Transforms are named ``target_from_source``. Left and right are the person's.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

METRES_PER_MILLIMETRE = 1e-3
MILLIMETRES_PER_METRE = 1e3

CAMERA_FROM_UPRIGHT_BODY = np.diag([1.0, -1.0, -1.0])
"""The rotation of a body that stands upright and faces the camera: a half turn about x."""

Y_UP_FROM_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Takes points of a world with z up into one with y up (x' = x, y' = z, z' = -y)."""

OPENCV_FROM_OPENGL_CAMERA = np.diag([1.0, -1.0, -1.0])
"""Takes points of a camera that looks along -z with y up (OpenGL, Qualisys) into ours."""

PIXEL_FROM_ONE_BASED = -1.0
"""Added to coordinates whose top-left pixel centre is (1, 1), as MATLAB tools write them."""

PIXEL_FROM_CORNER_ORIGIN = -0.5
"""Added to coordinates whose origin is the outer corner of the top-left pixel."""

HEAD_SIZE_FACTOR = 0.6
"""MPII's head size is this part of the diagonal of the annotated head box."""


def normalized_from_crop(
    pixels: Float[Tensor, "*batch 2"], side: int | float | Float[Tensor, "..."]
) -> Float[Tensor, "*batch 2"]:
    """Normalised coordinates in [-1, 1] of pixels in a square crop of `side` pixels."""
    return (2.0 * pixels + 1.0) / side - 1.0


def crop_from_normalized(
    normalized: Float[Tensor, "*batch 2"], side: int | float | Float[Tensor, "..."]
) -> Float[Tensor, "*batch 2"]:
    """Pixels in a square crop of `side` pixels from normalised coordinates; inverse of `normalized_from_crop`."""
    return ((normalized + 1.0) * side - 1.0) / 2.0
