"""The labels of Human3.6M: poses in CDF files, boxes in MATLAB files."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cdflib
import h5py
import numpy as np
from jaxtyping import Float

from posekit.datasets.crops import box_of_points
from posekit.errors import FormatError, MissingFileError
from posekit.records import Camera
from posekit.skeleton.catalog import H36M17, H36M32
from posekit.skeleton.mapping import joint_map

_MAP = joint_map(H36M32, H36M17, require_all=True)
_METRES_PER_MM = 1e-3

# What cdflib lets through when a file is cut short or is something else.
_CDF_FAILURES: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    EOFError,
)
_CDF_FAILURES += (struct.error, zlib.error, MemoryError)


@dataclass(frozen=True)
class Poses:
    """The labels of one sequence in one camera.

    `keypoints2d` holds pixels and confidence (0 where the release has no finite point, 1 else), `joints3d` metres in the
    camera's frame, both of skeleton ``h36m17``; `bbox` the extent of all 32 raw points (NaN where fewer than two are finite).
    """

    keypoints2d: Float[np.ndarray, "N 17 3"]
    joints3d: Float[np.ndarray, "N 17 3"]
    bbox: Float[np.ndarray, "N 4"]

    def __len__(self) -> int:
        return len(self.bbox)

    @property
    def nan_joints(self) -> int:
        """Joints without a finite point in the image or in space."""
        lost = (self.keypoints2d[..., 2] == 0) | ~np.isfinite(self.joints3d).all(axis=-1)
        return int(lost.sum())


def read_poses(d2: Path, d3_mono: Path) -> Poses:
    """The labels of one sequence in one camera, up to the shorter of both files; MissingFileError or FormatError."""
    flat, deep = read_pose_cdf(d2, 2), read_pose_cdf(d3_mono, 3)
    rows = min(len(flat), len(deep))
    flat, deep = _finite_or_nan(flat[:rows]), _finite_or_nan(deep[:rows])
    boxes = np.full((rows, 4), np.nan)
    for row, points in enumerate(flat):
        box = box_of_points(points)
        if box is not None:
            boxes[row] = box
    points2d = _MAP.points(flat)
    confidence = np.isfinite(points2d).all(axis=-1, keepdims=True).astype(np.float64)
    joints3d = _MAP.points(deep) * _METRES_PER_MM
    return Poses(np.concatenate([points2d, confidence], axis=-1), joints3d, boxes)


def read_pose_cdf(path: Path, dimensions: int) -> Float[np.ndarray, "N 32 D"]:
    """The variable `Pose` of a CDF file, in the file's own units and axes.

    Accepts (1, N, 32 D) as the release has it and (N, 32 D). Raises MissingFileError or FormatError.
    """
    if not path.is_file():
        raise MissingFileError("pose file not found", got=path)
    width = len(H36M32) * dimensions
    try:
        values = np.asarray(cdflib.CDF(str(path)).varget("Pose"))
    except _CDF_FAILURES as error:
        reason = "empty" if path.stat().st_size == 0 else str(error) or type(error).__name__
        raise FormatError(
            "not a CDF file with a variable `Pose`", got=f"{path} ({reason})", hint="Extract it from its archive again"
        ) from error
    shape = values.shape
    flat = values[0] if values.ndim == 3 and shape[0] == 1 else values
    if flat.ndim != 2 or flat.shape[1] != width or not np.issubdtype(flat.dtype, np.floating):
        raise FormatError(
            f"the variable `Pose` of {path} has the wrong shape or type",
            got=f"{shape} of {values.dtype}",
            accepted=f"(1, frames, {width}) or (frames, {width}) of floats",
        )
    return flat.astype(np.float64).reshape(-1, len(H36M32), dimensions)


def read_mask_boxes(path: Path, rows: int) -> Float[np.ndarray, "rows 4"]:
    """Boxes around the ones of the first `rows` masks of a MATLAB v7.3 file; NaN where it has none for a row.

    Raises FormatError when the file is no such file.
    """
    boxes = np.full((rows, 4), np.nan)
    try:
        with h5py.File(path, "r") as file:
            references = file["Masks"][()].reshape(-1)
            for row, reference in enumerate(references[:rows]):
                mask = file[reference][()]  # stored transposed: width, height
                x, y = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                if len(x):
                    boxes[row] = x[0] - 0.5, y[0] - 0.5, x[-1] + 0.5, y[-1] + 0.5
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise FormatError(
            "not a file of masks (MATLAB v7.3 with `Masks`)", got=f"{path} ({error})", hint="Extract it again"
        ) from error
    return boxes


def projection_error(poses: Poses, camera: Camera) -> float:
    """Median distance (px) of the 3D joints, projected through the camera's lens, to the 2D points; NaN without any."""
    distances = np.linalg.norm(_projected(poses.joints3d, camera) - poses.keypoints2d[..., :2], axis=-1)
    finite = distances[np.isfinite(distances)]
    return float(np.median(finite)) if finite.size else float("nan")


def _projected(points: np.ndarray, camera: Camera) -> np.ndarray:
    """The formula of the release, for numpy: reading the labels must not cost the memory that loading torch does."""
    k1, k2, k3, p1, p2 = camera.distortion
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = points[..., :2] / points[..., 2:]
    x, y = flat[..., 0], flat[..., 1]
    square = x * x + y * y
    gain = 1.0 + square * (k1 + square * (k2 + square * k3)) + p1 * y + p2 * x
    bent = flat * gain[..., None] + square[..., None] * np.array([p2, p1])
    return bent @ camera.intrinsics[:2, :2].T + camera.intrinsics[:2, 2]


def _finite_or_nan(values: np.ndarray) -> np.ndarray:
    """A point with one coordinate that is not finite is no point."""
    lost = ~np.isfinite(values).all(axis=-1, keepdims=True)
    return np.where(lost, np.nan, values)
