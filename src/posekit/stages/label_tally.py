"""Figures of merit of labels of single images, gathered block by block."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from posekit.labeling.view_labels import ViewLabels
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.label_agreement import AGAINST, LabelAgreement, TrueJoints


class LabelTally:
    """Counts of views and joints, reprojection errors by camera, and errors against what is known otherwise."""

    def __init__(self, cameras: int, skeleton: Skeleton, truth: TrueJoints | None) -> None:
        self.counts: dict[str, int] = defaultdict(int)
        self.errors: list[list[np.ndarray]] = [[] for _ in range(cameras)]
        self.rejected = [0] * cameras
        self.frames: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
        self.truth = truth
        self.agreement = {against: LabelAgreement(skeleton) for against in AGAINST}

    def add(
        self,
        camera: int,
        labels: ViewLabels,
        error_px: Float[np.ndarray, "T J"],
        seen: Bool[np.ndarray, "T J"],
    ) -> None:
        """Counts the labels of a block in one camera (a row of the table of cameras)."""
        given = np.isfinite(labels.joints).all(axis=-1) & labels.ok[:, None]
        self.counts["views"] += len(seen)
        self.counts["views not ok"] += int((~labels.ok).sum())
        self.counts["joints"] += int(seen.sum())
        self.counts["joints dropped"] += int((seen & ~given).sum())
        self.errors[camera].append(error_px[given].astype(np.float32))
        self.rejected[camera] += int((seen & ~given).sum())

    def quality_columns(self) -> dict[str, Any]:
        """The columns of the table `quality`, one row per camera."""
        errors = [np.concatenate(parts) if parts else np.zeros(0) for parts in self.errors]
        columns: dict[str, Any] = {
            name: [float(np.percentile(values, share)) if len(values) else float("nan") for values in errors]
            for name, share in (("median_px", 50), ("p95_px", 95))
        }
        columns["mean_px"] = [float(values.mean()) if len(values) else float("nan") for values in errors]
        counts = [len(values) for values in errors]
        return {"camera": np.arange(len(errors)), "points": counts, "rejected": self.rejected} | columns
