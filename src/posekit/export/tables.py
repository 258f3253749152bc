"""Joints as tables for spreadsheets and scripts."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from posekit.atomic import replacing


def write_csv(
    path: Path,
    points: Float[np.ndarray, "T J 3"],
    names: Sequence[str],
    frames: Int[np.ndarray, "T"],
    fps: float,
    *,
    confidence: Float[np.ndarray, "T J"] | None = None,
) -> None:
    """One row for each frame: its number, its time (s, of frame 0 of the video) and x, y, z (m) of each joint.

    With `confidence`, a fourth column for each joint. Missing values are empty cells.
    """
    parts = ("x", "y", "z") if confidence is None else ("x", "y", "z", "confidence")
    values = points if confidence is None else np.concatenate([points, confidence[..., None]], axis=-1)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["frame", "time", *(f"{name}_{part}" for name in names for part in parts)])
        for frame, row in zip(frames, values.reshape(len(values), -1), strict=True):
            cells = ["" if np.isnan(value) else f"{value:.6f}" for value in row]
            writer.writerow([int(frame), f"{frame / fps:.6f}", *cells])


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Arrays by name; text must be arrays of `str`, so that nothing needs to be unpickled."""
    pickled = sorted(name for name, array in arrays.items() if array.dtype == object)
    if pickled:
        raise ValueError(f"arrays of objects cannot be written: {pickled}")
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **dict(arrays))  # type: ignore[arg-type]  # the stub takes **kwds for allow_pickle
