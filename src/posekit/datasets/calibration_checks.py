"""What every calibration must satisfy, whatever its format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from posekit.camera_stack import stack_cameras
from posekit.errors import FormatError, InputError
from posekit.records import Camera

_ROTATION_TOLERANCE = 1e-3
"""Deviation from orthonormality that rounding in a text file explains."""


def checked_rig(cameras: Sequence[Camera], path: Path) -> list[Camera]:
    """The cameras of one file after the checks that all formats share.

    Rotations are brought from the digits of the file to the nearest exact ones. A rig whose cameras all have one and the same
    pose was calibrated for its intrinsics only. Raises FormatError for what is no rig of cameras.
    """
    if not cameras:
        raise FormatError("the calibration has no cameras", got=path)
    names = [camera.name for camera in cameras]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise FormatError(f"cameras of {path} share a name", got=repeated)
    settled = [replace(camera, rotation=nearest_rotation(camera, path)) for camera in cameras]
    try:
        stack_cameras([replace(camera, width=camera.width or 1, height=camera.height or 1) for camera in settled])
    except InputError as error:
        raise FormatError(f"{path}: {error.what}", got=error.got, accepted=error.accepted) from error
    if any(camera.posed for camera in settled) and not all(camera.posed for camera in settled):
        without = [camera.name for camera in settled if not camera.posed]
        raise FormatError(
            f"cameras of {path} have no pose", got=without, accepted="a pose for every camera, or for none"
        )
    first = settled[0]
    alike = all(
        np.allclose(camera.rotation, first.rotation) and np.allclose(camera.translation, first.translation)
        for camera in settled
    )
    if alike and len(settled) > 1:
        return [replace(camera, posed=False, rotation=np.eye(3), translation=np.zeros(3)) for camera in settled]
    return settled


def nearest_rotation(camera: Camera, path: Path) -> Float[np.ndarray, "3 3"]:
    """The rotation of a camera without the rounding of its file; FormatError where it is no rotation."""
    given = camera.rotation
    if not np.isfinite(given).all():
        raise FormatError(f"{path}: camera {camera.name} has values that are not finite", got="its rotation")
    deviation = float(np.abs(given @ given.T - np.eye(3)).max())
    if deviation > _ROTATION_TOLERANCE or np.linalg.det(given) < 0:
        raise FormatError(
            f"{path}: the matrix of camera {camera.name} is not a rotation",
            got=f"deviation {deviation:.3g} from orthonormality, determinant {np.linalg.det(given):.6g}",
            accepted=f"deviation up to {_ROTATION_TOLERANCE:g}, determinant 1",
        )
    left, _, right = np.linalg.svd(given)
    return left @ right


def numbers(values: object, shape: tuple[int, ...], what: str, path: Path) -> Float[np.ndarray, "..."]:
    """Values from a file as finite numbers of a shape; FormatError says which entry is not."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise FormatError(f"{path}: {what} must be numbers", got=str(values)[:80]) from None
    if array.size != int(np.prod(shape)):
        raise FormatError(f"{path}: {what} has the wrong size", got=f"{array.size} numbers", accepted=f"{shape}")
    if not np.isfinite(array).all():
        raise FormatError(f"{path}: {what} has values that are not finite", got=str(values)[:80])
    return array.reshape(shape)
