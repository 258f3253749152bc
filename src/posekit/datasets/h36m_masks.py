"""Human3.6M's silhouettes from background subtraction: `MySegmentsMat/ground_truth_bs/*.mat`, one file per video."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool

from posekit.datasets.h36m_layout import Kind
from posekit.errors import FormatError, MissingFileError

SILHOUETTES = Kind("MySegmentsMat/ground_truth_bs", ".mat", "Segments mat")

_FAILURES = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError)


def silhouette_path(raw: Path, subject: str, sequence: str, camera: str) -> Path:
    """The file of one sequence ("S1 Directions 1") in one camera."""
    base = sequence.removeprefix(subject).strip()
    return raw / subject / SILHOUETTES.folder / f"{base}.{camera}{SILHOUETTES.ending}"


class SilhouetteFile:
    """The masks of one video, MATLAB v7.3: a table of references to arrays that are stored transposed.

    Raises MissingFileError without a file, FormatError where it is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise MissingFileError("file of silhouettes not found", got=path)
        try:
            self._file = h5py.File(path, "r")
        except _FAILURES as error:
            raise self._broken(error) from error
        try:
            self._references = self._file["Masks"][()].reshape(-1)
        except _FAILURES as error:
            self._file.close()
            raise self._broken(error) from error

    def __enter__(self) -> SilhouetteFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._references)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def mask(self, frame: int) -> Bool[np.ndarray, "H W"]:
        """The silhouette of a frame, numbered from 0. Raises FormatError where it is no image; IndexError beyond the last."""
        reference = self._references[frame]
        try:
            stored = self._file[reference][()]
        except _FAILURES as error:
            raise self._broken(error) from error
        if not isinstance(stored, np.ndarray) or stored.ndim != 2:
            raise FormatError(f"frame {frame} of {self.path} is no mask", got=getattr(stored, "shape", stored))
        return np.ascontiguousarray(stored.T) > 0

    def _broken(self, error: Exception) -> FormatError:
        return FormatError(
            "not a file of masks (MATLAB v7.3 with `Masks`)", got=f"{self.path} ({error})", hint="Extract it again"
        )
