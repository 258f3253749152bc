"""Figures of merit of triangulated joints, gathered block by block in constant memory."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from posekit.labeling.anthropometry import PLAUSIBLE, REASONS
from posekit.skeleton.skeleton import Skeleton

WRITTEN, RAW = "written", "raw"
"""Joints as they are written, and as they were before they were steadied."""

ONE_CAMERA = len(REASONS)
"""The reason, after those of `posekit.labeling.anthropometry`, why a frame that one camera saw has no joints."""

_WHY_NOT_OK = (*REASONS, "seen by one camera only")
_BIN_PX = 0.05
_BINS = 20000


class _Errors:
    """Reprojection errors per camera as a histogram; medians and percentiles are exact to half a bin."""

    def __init__(self, n_cameras: int) -> None:
        # One bin more for all that is beyond.
        self.histogram = np.zeros((n_cameras, _BINS + 1), dtype=np.int64)
        self.sum, self.rejected = np.zeros(n_cameras), np.zeros(n_cameras, dtype=np.int64)

    def add(self, camera: int, errors: Float[np.ndarray, "n"], rejected: int) -> None:
        bins = np.minimum(errors / _BIN_PX, _BINS).astype(np.int64)
        self.histogram[camera] += np.bincount(bins, minlength=_BINS + 1)
        self.sum[camera] += errors.sum()
        self.rejected[camera] += rejected


class TriangulationQuality:
    """Reprojection error per camera, steadiness of bone lengths per person, and how much was had at all.

    Errors are those of every observation of a point that was found, rejected ones included.
    """

    def __init__(self, n_cameras: int, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self._errors = {series: _Errors(n_cameras) for series in (WRITTEN, RAW)}
        self._bones: dict[str, dict[Hashable, np.ndarray]] = {}
        self._why = np.zeros(len(_WHY_NOT_OK), dtype=np.int64)
        self.joints = self.joints_ok = 0

    @property
    def counts(self) -> dict[str, int]:
        """Frames of people, joints dropped of those that two cameras saw, and frames not ok, by reason."""
        why = {f"frames not ok: {reason}": int(self._why[i]) for i, reason in enumerate(_WHY_NOT_OK) if reason}
        frames = int(self._why.sum())
        return {"frames": frames, "joints": self.joints, "joints dropped": self.joints - self.joints_ok} | why

    def add(
        self,
        series: str,
        cameras: Int[np.ndarray, "C"],
        error_px: Float[np.ndarray, "T J C"],
        inliers: Bool[np.ndarray, "T J C"],
        ok: Bool[np.ndarray, "T J"],
    ) -> None:
        """Counts the observations of a block, in one of two series, so that joints can be compared before and after."""
        for column, camera in enumerate(cameras):
            seen = ok & np.isfinite(error_px[..., column])
            rejected = int((seen & ~inliers[..., column]).sum())
            self._errors[series].add(int(camera), error_px[..., column][seen], rejected)

    def add_people(
        self, joints: Float[np.ndarray, "T J 3"], expected: Bool[np.ndarray, "T J"], reasons: Int[np.ndarray, "T"]
    ) -> None:
        """Counts joints and frames of a block; dropped joints are NaN, `reasons` say what is wrong with a frame."""
        given = np.isfinite(joints).all(axis=-1)
        self.joints, self.joints_ok = self.joints + int(expected.sum()), self.joints_ok + int((expected & given).sum())
        self._why += np.bincount(reasons, minlength=len(_WHY_NOT_OK))

    def add_bones(self, series: str, who: Hashable, joints: Float[np.ndarray, "T J 3"]) -> None:
        """Counts bone lengths of one person under a name, so that joints can be compared before and after a change."""
        parents, children = np.array(self._skeleton.bones, dtype=int).reshape(-1, 2).T
        lengths = np.linalg.norm(joints[:, parents] - joints[:, children], axis=-1)
        known = np.isfinite(lengths)
        lengths = np.where(known, lengths, 0.0)
        moments = np.stack([known.sum(axis=0), lengths.sum(axis=0), (lengths**2).sum(axis=0)])
        of_series = self._bones.setdefault(series, {})
        of_series[who] = of_series.get(who, np.zeros_like(moments, dtype=float)) + moments

    def camera_columns(self, series: str = WRITTEN) -> dict[str, Any]:
        """The columns of the table `quality`, one row per camera."""
        errors = self._errors[series]
        counts = errors.histogram.sum(axis=1)
        return {
            "camera": np.arange(len(counts)),
            "points": counts,
            "mean_px": np.divide(errors.sum, counts, out=np.full(len(counts), np.nan), where=counts > 0),
            "median_px": [self._percentile(row, 0.5) for row in errors.histogram],
            "p95_px": [self._percentile(row, 0.95) for row in errors.histogram],
            "rejected": errors.rejected,
        }

    def overall(self, series: str = WRITTEN) -> dict[str, float]:
        """Mean and median reprojection error over all cameras."""
        errors = self._errors[series]
        whole = errors.histogram.sum(axis=0)
        return {
            "mean_px": float(errors.sum.sum() / max(int(whole.sum()), 1)),
            "median_px": self._percentile(whole, 0.5),
            "p95_px": self._percentile(whole, 0.95),
        }

    def shares(self) -> dict[str, float]:
        """The shares of joints and frames that were had."""
        return {
            "joints_ok_percent": 100.0 * self.joints_ok / max(self.joints, 1),
            "frames_ok_percent": 100.0 * int(self._why[PLAUSIBLE]) / max(int(self._why.sum()), 1),
        }

    def bone_spread(self, series: str = WRITTEN) -> dict[str, float]:
        """Standard deviation over mean of every bone's length (over the frames that are ok), averaged over people."""
        spreads = []
        for count, total, squares in self._bones.get(series, {}).values():
            with np.errstate(divide="ignore", invalid="ignore"):
                mean = total / count
                spread = np.sqrt(np.maximum(squares / count - mean**2, 0.0)) / mean
            spreads.append(np.where(count >= 2, spread, np.nan))
        if not spreads:
            return {}
        known = np.isfinite(spreads)
        average = np.where(known, spreads, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        names = self._skeleton.bone_names
        return {names[bone]: float(average[bone]) for bone in np.flatnonzero(np.any(known, axis=0))}

    @staticmethod
    def _percentile(histogram: np.ndarray, share: float) -> float:
        total = int(histogram.sum())
        if total == 0:
            return float("nan")
        return float((np.searchsorted(np.cumsum(histogram), share * total) + 0.5) * _BIN_PX)
