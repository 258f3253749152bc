"""PCKh by the rules of MPII Human Pose: key points are right that lie within a part of the head's size of the label.

Every label counts, also of hidden joints; joints without one do not. The published figure is the share of right joints among
all labelled joints of all people but pelvis and thorax, so that often labelled joints weigh more. Of left and right, and of
neck and head top, the labelled joints are likewise counted together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import POSES
from posekit.errors import DataError, InputError
from posekit.evaluation.comparison import Resampling, resampled_groups
from posekit.evaluation.keys import Keys, RowIndex
from posekit.evaluation.metrics import pck
from posekit.evaluation.predictions import NO_PREDICTION, NOT_TRUSTED
from posekit.evaluation.report import (
    Groups,
    MetricSummary,
    Summary,
    percentile_interval,
    resampled_means,
    shown_number,
)
from posekit.evaluation.sample_errors import SampleErrors
from posekit.records import clips_from_columns
from posekit.skeleton.catalog import MPII16
from posekit.skeleton.mapping import JointMap, joint_map

JOINT_GROUPS: dict[str, tuple[str, ...]] = {
    "head": ("neck", "head_top"),
    **{name: (f"left_{name}", f"right_{name}") for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")},
}
"""The columns of published tables; their joints are those of the mean."""

HEADLINE = "pckh_50"

METRICS: dict[str, tuple[float, ...]] = {
    HEADLINE: (0.5,),
    "pckh_10": (0.1,),
    "pckh_auc": tuple(round(0.01 * step, 2) for step in range(51)),
}
"""Metric -> the thresholds, in head sizes, that it is the mean over."""

NO_LABEL = "no labelled joint"
NO_HEAD = "size of the head unknown"


@dataclass(frozen=True)
class PckhProtocol:
    """What is measured: sequences that the data set marks with `split`, and how people without a prediction count."""

    split: Literal["all", "train", "test"] = "test"
    not_predicted: Literal["wrong", "left-out"] = "wrong"

    def to_dict(self) -> dict[str, Any]:
        """The whole protocol as plain values, for results."""
        return {
            "name": "pckh",
            "title": "PCKh of MPII Human Pose",
            "headline": HEADLINE,
            **asdict(self),
            "skeleton": MPII16.name,
            "reference": "0.6 of the diagonal of the annotated head box",
            "right": "distance at most threshold times reference",
            "thresholds": {metric: list(thresholds) for metric, thresholds in METRICS.items()},
            "labels": "all labelled joints, hidden ones too; joints without a label do not count",
            "joints_without_prediction": "wrong",
            "mean": "right joints of all people over labelled joints of all people, without pelvis and thorax",
            "groups": {name: list(joints) for name, joints in JOINT_GROUPS.items()},
        }


@dataclass(frozen=True, eq=False)
class _People:
    """The people who are measured, in MPII's joints; NaN: no label, no prediction."""

    keys: Keys
    truth: Float[np.ndarray, "N 16 2"]
    predicted: Float[np.ndarray, "N 16 2"]
    head_px: Float[np.ndarray, "N"]

    @property
    def labelled(self) -> Bool[np.ndarray, "N 16"]:
        return np.isfinite(self.truth).all(axis=2)


def compare_keypoints(
    dataset: Artifact, prediction: Artifact, protocol: PckhProtocol, resampling: Resampling, name: str
) -> Summary:
    """PCKh of the key points of a keypoints or poses artifact, in percent.

    Everybody of the protocol is either measured or counted under the reason why not. Joints that the skeleton of the
    prediction or of the data set cannot give are left out of everything and named in the facts. Raises InputError where the
    data set has no head sizes or no joint can be compared, DataError where nobody can be measured.
    """
    if not dataset.has("samples", "head_px"):
        raise InputError(
            "the data set has no head sizes", got=dataset.path, hint="`posekit preprocess mpii` makes data sets that do"
        )
    maps = joint_map(dataset.skeleton, MPII16), joint_map(prediction.skeleton, MPII16)
    comparable = maps[0].available & maps[1].available
    in_mean = _columns(joint for joints in JOINT_GROUPS.values() for joint in joints) & comparable
    if not in_mean.any():
        raise InputError(
            "the key points have no joint that PCKh is measured by",
            got=prediction.skeleton.name,
            accepted=[joint for joints in JOINT_GROUPS.values() for joint in joints],
        )
    people, skipped = _measured(dataset, prediction, protocol, maps, in_mean)
    if not len(people.keys):
        reasons = [f"{count} x {reason}" for reason, count in skipped.most_common()]
        raise DataError(f"nobody of {name} can be measured", got=reasons or f"no sequence of split {protocol.split}")
    labelled = people.labelled & comparable
    clips = clips_from_columns(dataset.table("sequences"))
    groups = resampled_groups(clips, people.keys.sequence, people.keys.frame)
    right = {metric: _right(people, labelled, thresholds) for metric, thresholds in METRICS.items()}
    missing = labelled & ~np.isfinite(people.predicted).all(axis=2)
    return Summary(
        title=f"{name}, PCKh",
        metrics=[_summary(metric, share, labelled, in_mean, groups, resampling) for metric, share in right.items()],
        evaluated=len(people.keys),
        skipped=dict(sorted(skipped.items())),
        facts={
            "groups": {metric: _by_group(share, labelled) for metric, share in right.items()},
            "labelled": dict(zip(MPII16.joints, labelled.sum(axis=0).tolist(), strict=True)),
            "labelled_without_prediction": int(missing.sum()),
            "joints_left_out": [joint for joint, there in zip(MPII16.joints, comparable, strict=True) if not there],
            "interval_from": groups.unit_name,
        },
        samples=SampleErrors(
            people.keys,
            {metric: 100.0 * _share(share, labelled & in_mean, axis=1) for metric, share in right.items()},
            dict.fromkeys(right, "%"),
        ),
    )


def group_table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table that papers print, from `Summary.to_dict()`: column names, and a row of text for each metric."""
    rows = []
    for metric, groups in summary["groups"].items():
        found = summary["metrics"][metric]
        interval = "" if found["interval_95"] is None else " to ".join(map(shown_number, found["interval_95"]))
        values = [shown_number(groups[name]) if groups[name] is not None else "n/a" for name in JOINT_GROUPS]
        rows.append([metric, *values, shown_number(found["mean"]), interval])
    return ["metric [%]", *JOINT_GROUPS, "mean", "95 % interval"], rows


def _measured(
    dataset: Artifact,
    prediction: Artifact,
    protocol: PckhProtocol,
    maps: tuple[JointMap, JointMap],
    in_mean: Bool[np.ndarray, "16"],
) -> tuple[_People, Counter[str]]:
    keys = Keys.read(dataset, "samples")
    splits = dataset.read("sequences", "split")
    inside = np.flatnonzero((protocol.split == "all") | (splits[keys.sequence] == protocol.split))
    keys = keys.at(inside)
    truth = maps[0].points(_pixels(dataset, inside))
    head = dataset.read("samples", "head_px", inside).astype(np.float64)
    rows = RowIndex(Keys.read(prediction, "samples")).find(keys)
    no_prediction = np.where(rows < 0, NO_PREDICTION, "").astype(object)
    if prediction.kind is POSES:
        refused = (rows >= 0) & ~prediction.read("samples", "ok")[np.maximum(rows, 0)]
        no_prediction[refused] = NOT_TRUSTED
    there = np.flatnonzero(no_prediction == "")
    predicted = np.full(truth.shape, np.nan)
    predicted[there] = maps[1].points(_pixels(prediction, rows[there]))
    # What lacks a label is no fault of the prediction.
    reason = no_prediction if protocol.not_predicted == "left-out" else np.full(len(keys), "", dtype=object)
    reason = np.where(~(head > 0), NO_HEAD, reason)
    reason = np.where(~np.isfinite(truth[:, in_mean]).all(axis=2).any(axis=1), NO_LABEL, reason)
    good = np.flatnonzero(reason == "")
    skipped: Counter[str] = Counter(str(why) for why in reason if why)
    return _People(keys.at(good), truth[good], predicted[good], head[good]), skipped


def _pixels(artifact: Artifact, rows: np.ndarray) -> Float[np.ndarray, "N J 2"]:
    return artifact.read("samples", "keypoints2d", rows)[..., :2].astype(np.float64)


def _right(
    people: _People, labelled: Bool[np.ndarray, "N 16"], thresholds: Sequence[float]
) -> Float[np.ndarray, "N 16"]:
    """For each labelled joint the share of the thresholds within which it is; others are zero."""
    # Infinitely far away is wrong by any threshold.
    predicted = torch.from_numpy(np.where(np.isfinite(people.predicted), people.predicted, np.inf))
    truth, head = torch.from_numpy(people.truth), torch.from_numpy(people.head_px)
    valid = torch.from_numpy(labelled)
    total = torch.zeros(labelled.shape, dtype=torch.float64)
    for threshold in thresholds:
        total += pck(predicted, truth, head, threshold, valid).nan_to_num(0.0)
    return (total / len(thresholds)).numpy()


def _summary(
    metric: str,
    right: Float[np.ndarray, "N 16"],
    labelled: Bool[np.ndarray, "N 16"],
    in_mean: Bool[np.ndarray, "16"],
    groups: Groups,
    resampling: Resampling,
) -> MetricSummary:
    counted = labelled & in_mean
    sums = np.stack([(right * counted).sum(axis=1), counted.sum(axis=1).astype(float)], axis=1)
    units = np.asarray(groups.unit)
    draws = resampled_means(sums, units, resampling.draws, resampling.seed) if resampling.draws else None
    per_joint = 100.0 * _share(right, labelled, axis=0)
    return MetricSummary(
        metric=metric,
        unit="%",
        mean=100.0 * float(sums[:, 0].sum() / sums[:, 1].sum()),
        median=100.0 * float(np.median(_share(right, counted, axis=1))),
        samples=len(right),
        interval=None if draws is None else percentile_interval(100.0 * draws[:, 0] / draws[:, 1]),
        per_point=dict(zip(MPII16.joints, per_joint.tolist(), strict=True)),
        per_action={},
    )


def _by_group(right: Float[np.ndarray, "N 16"], labelled: Bool[np.ndarray, "N 16"]) -> dict[str, float | None]:
    """None for groups of which nothing was labelled or can be compared."""
    shares = {}
    for name, joints in JOINT_GROUPS.items():
        counted = labelled & _columns(joints)
        shares[name] = 100.0 * float(right[counted].mean()) if counted.any() else None
    return shares


def _share(values: Float[np.ndarray, "N 16"], counted: Bool[np.ndarray, "N 16"], axis: int) -> Float[np.ndarray, "M"]:
    count = counted.sum(axis=axis)
    total = (values * counted).sum(axis=axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _columns(joints: Iterable[str]) -> Bool[np.ndarray, "16"]:
    wanted = np.zeros(len(MPII16), dtype=bool)
    wanted[list(MPII16.indices(*joints))] = True
    return wanted
