"""From camera records to one batch of cameras for geometry; apart from `records`, so that those need no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posekit.errors import InputError
from posekit.geometry.cameras import Cameras
from posekit.geometry.lenses import Lens
from posekit.records import Camera, camera_columns

COEFFICIENTS_OF_LENS: dict[Lens, int] = {"pinhole": 0, "opencv": 8, "human36m": 5}


def stack_cameras(cameras: Sequence[Camera]) -> Cameras:
    """One batch of cameras (double precision) for geometry.

    Raises InputError when they do not share a lens model, or when one of them is no camera.
    """
    lenses = sorted({camera.lens for camera in cameras})
    if len(lenses) != 1:
        raise InputError("cameras of one rig must share a lens model", got=lenses or "no camera")
    used = COEFFICIENTS_OF_LENS[cameras[0].lens]
    columns = camera_columns(cameras)
    return Cameras.checked(
        columns["intrinsics"],
        columns["rotation"],
        columns["translation"],
        image_size=np.array([[camera.width, camera.height] for camera in cameras], dtype=float),
        distortion=columns["distortion"][:, :used],
        lens=cameras[0].lens,
        names=[camera.name for camera in cameras],
    )
