"""How well labels of single images agree with what is known otherwise: true joints, or joints by all known cameras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from posekit.artifacts.files import Artifact
from posekit.evaluation.keys import Keys, RowIndex
from posekit.evaluation.metrics import mean_over_joints, mpjpe, n_mpjpe, pa_mpjpe
from posekit.labeling.anthropometry import root_joints
from posekit.skeleton.mapping import joint_map
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.report import Table

_FEWEST_JOINTS = 4
"""Fewer are too easily aligned."""

AGAINST = {"truth": "true joints", "rig": "joints from all views by the known cameras"}
"""What labels are compared with, by the beginning of the metrics' names."""

_METRICS = ("mpjpe", "n_mpjpe", "pa_mpjpe")


class TrueJoints:
    """The ground truth of a data set's samples in the joint order of the labels; NaN where there is none."""

    def __init__(self, dataset: Artifact, skeleton: Skeleton) -> None:
        self._dataset = dataset
        self._map = joint_map(dataset.skeleton, skeleton)
        self._index = RowIndex(Keys.read(dataset, "samples"))

    @staticmethod
    def of(dataset: Artifact, skeleton: Skeleton) -> TrueJoints | None:
        """None for a data set without ground truth."""
        return TrueJoints(dataset, skeleton) if dataset.has("samples", "joints3d") else None

    def read(self, keys: Keys) -> Float[np.ndarray, "N J 3"]:
        """Of some samples, in the frames of their cameras (m)."""
        rows = self._index.find(keys)
        there = rows >= 0
        found = np.full((len(keys), len(self._map.target), 3), np.nan)
        found[there] = self._map.points(self._dataset.read("samples", "joints3d", rows[there]).astype(np.float64))
        return found


@dataclass(eq=False)
class LabelAgreement:
    """Errors (mm) of the labels that passed the filter against joints in the same camera's frame, gathered in blocks."""

    skeleton: Skeleton
    _errors: dict[str, list[np.ndarray]] = field(default_factory=lambda: {name: [] for name in _METRICS})

    def add(self, joints: Float[np.ndarray, "N J 3"], reference: Float[np.ndarray, "N J 3"]) -> None:
        """Compares labels with references; joints that either lacks are left out."""
        valid = np.isfinite(joints).all(axis=-1) & np.isfinite(reference).all(axis=-1)
        roots = root_joints(self.skeleton)
        chosen = (valid.sum(axis=1) >= _FEWEST_JOINTS) & valid[:, list(roots)].all(axis=1)
        mask = torch.from_numpy(valid[chosen])
        p, q = (1e3 * torch.from_numpy(np.nan_to_num(values[chosen])).double() for values in (joints, reference))
        distances = (mpjpe(p, q, roots, mask), n_mpjpe(p, q, roots, mask), pa_mpjpe(p, q, mask))
        for name, found in zip(_METRICS, distances, strict=True):
            self._errors[name].append(mean_over_joints(found, mask).numpy().astype(np.float32))

    def metrics(self, against: str) -> dict[str, float]:
        """Mean of each metric and median of the last, by names that begin with `against`; empty where nothing was compared."""
        whole = {name: np.concatenate(parts) for name, parts in self._errors.items() if parts}
        if not whole or not len(whole["pa_mpjpe"]):
            return {}
        found = {f"{against}_{name}_mm": float(values.mean()) for name, values in whole.items()}
        return found | {f"{against}_pa_mpjpe_median_mm": float(np.median(whole["pa_mpjpe"]))}


def agreement_table(metrics: Mapping[str, float]) -> list[Table]:
    """A table with a row for all that was compared with; none where there is nothing."""
    columns = ["mpjpe", "n_mpjpe", "pa_mpjpe", "pa_mpjpe_median"]
    rows = [
        [title, *(f"{metrics[f'{against}_{name}_mm']:.1f}" for name in columns)]
        for against, title in AGAINST.items()
        if f"{against}_mpjpe_mm" in metrics
    ]
    heads = ["against", "MPJPE", "N-MPJPE", "PA-MPJPE", "median PA-MPJPE"]
    return [Table("Labels that passed the filter (mm)", heads, rows)] if rows else []
