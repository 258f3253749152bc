"""Figures of merit of triangulated joints, gathered block by block in constant memory."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from posekit.skeleton.skeleton import Skeleton

_BIN_PX = 0.05
_BINS = 20000


class TriangulationQuality:
    """Reprojection error per camera, steadiness of bone lengths per person, and how much was had at all.

    Errors are those of every observation of a point that was found, rejected ones included.
    """

    def __init__(self, n_cameras: int, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        # One bin more for all that is beyond; medians and percentiles are then exact to half a bin.
        self._histogram = np.zeros((n_cameras, _BINS + 1), dtype=np.int64)
        self._sum, self._rejected = np.zeros(n_cameras), np.zeros(n_cameras, dtype=np.int64)
        self._bones: dict[str, dict[Hashable, np.ndarray]] = {}
        self.joints = self.joints_ok = self.frames = self.frames_ok = 0

    def add(
        self,
        cameras: Int[np.ndarray, "C"],
        error_px: Float[np.ndarray, "T J C"],
        inliers: Bool[np.ndarray, "T J C"],
        ok: Bool[np.ndarray, "T J"],
    ) -> None:
        """Counts the observations of a block."""
        for column, camera in enumerate(cameras):
            seen = ok & np.isfinite(error_px[..., column])
            errors = error_px[..., column][seen]
            bins = np.minimum(errors / _BIN_PX, _BINS).astype(np.int64)
            self._histogram[camera] += np.bincount(bins, minlength=_BINS + 1)
            self._sum[camera] += errors.sum()
            self._rejected[camera] += int((seen & ~inliers[..., column]).sum())

    def add_people(
        self,
        who: Hashable,
        joints: Float[np.ndarray, "T J 3"],
        expected: Bool[np.ndarray, "T J"],
        ok: Bool[np.ndarray, "T"],
    ) -> None:
        """Counts joints, frames and bone lengths of a block of one person; dropped joints are NaN."""
        given = np.isfinite(joints).all(axis=-1)
        self.joints, self.joints_ok = self.joints + int(expected.sum()), self.joints_ok + int((expected & given).sum())
        self.frames, self.frames_ok = self.frames + len(ok), self.frames_ok + int(ok.sum())
        self.add_bones("written", who, joints[ok])

    def add_bones(self, series: str, who: Hashable, joints: Float[np.ndarray, "T J 3"]) -> None:
        """Counts bone lengths of one person under a name, so that joints can be compared before and after a change."""
        parents, children = np.array(self._skeleton.bones, dtype=int).reshape(-1, 2).T
        lengths = np.linalg.norm(joints[:, parents] - joints[:, children], axis=-1)
        known = np.isfinite(lengths)
        lengths = np.where(known, lengths, 0.0)
        moments = np.stack([known.sum(axis=0), lengths.sum(axis=0), (lengths**2).sum(axis=0)])
        of_series = self._bones.setdefault(series, {})
        of_series[who] = of_series.get(who, np.zeros_like(moments, dtype=float)) + moments

    def camera_columns(self) -> dict[str, Any]:
        """The columns of the table `quality`, one row per camera."""
        counts = self._histogram.sum(axis=1)
        return {
            "camera": np.arange(len(counts)),
            "points": counts,
            "mean_px": np.divide(self._sum, counts, out=np.full(len(counts), np.nan), where=counts > 0),
            "median_px": [self._percentile(row, 0.5) for row in self._histogram],
            "p95_px": [self._percentile(row, 0.95) for row in self._histogram],
            "rejected": self._rejected,
        }

    def overall(self) -> dict[str, float]:
        """Mean and median over all cameras, and the shares of joints and frames that were had."""
        whole = self._histogram.sum(axis=0)
        return {
            "reprojection_mean_px": float(self._sum.sum() / max(int(whole.sum()), 1)),
            "reprojection_median_px": self._percentile(whole, 0.5),
            "joints_ok_percent": 100.0 * self.joints_ok / max(self.joints, 1),
            "frames_ok_percent": 100.0 * self.frames_ok / max(self.frames, 1),
        }

    def bone_spread(self, series: str = "written") -> dict[str, float]:
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
