"""Compares predictions with the ground truth of a data set by a protocol, in blocks of samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.errors import DataError, InputError
from posekit.evaluation import metrics
from posekit.evaluation.keys import Keys
from posekit.evaluation.predictions import Optics, Source
from posekit.evaluation.protocols import METRIC_OF_ALIGNMENT, Alignment, Protocol
from posekit.evaluation.report import ErrorTable, Groups, Summary, sample_errors, summarize
from posekit.progress import track
from posekit.records import Clip, cameras_from_columns, clips_from_columns
from posekit.skeleton.catalog import CATALOG
from posekit.skeleton.mapping import JointMap, joint_map
from posekit.skeleton.skeleton import Skeleton

_SAMPLES_AT_ONCE = 4096
_FEWEST_JOINTS = 3
_FEWEST_SEQUENCES = 10
"""From this many sequences on, intervals are drawn from whole sequences; below, from instants."""

_PIXEL_CROP, _PIXEL_MARGIN = 224, 1.2
"""Errors in the image are pixels of a square crop of this side, drawn this much larger than the person's box."""

PIXEL_UNIT = f"pixels of a {_PIXEL_CROP} px crop, {_PIXEL_MARGIN} times the person's box"

_PIXELS, _PCK, _AUC = "per_pixel", "pck3d", "auc3d"

NO_TRUTH = "no ground truth"
NO_ROOT = "root joint not predicted or not known"
TOO_FEW = f"fewer than {_FEWEST_JOINTS} joints in common"


@dataclass(frozen=True)
class Resampling:
    """Bootstrap draws for the intervals (0: none) and their seed."""

    draws: int = 1000
    seed: int = 0


def compare_joints(dataset: Artifact, source: Source, protocol: Protocol, resampling: Resampling) -> Summary:
    """Errors of a source's joints against the ground truth of a data set.

    Every selected sample is either evaluated or counted under the reason why not; so are joints of evaluated samples that
    the prediction or the truth lacks. Raises InputError where there is no ground truth or a protocol's joint cannot be had,
    DataError where nothing is left to evaluate.
    """
    if not dataset.has("samples", "joints3d"):
        raise InputError(
            "the data set has no 3D ground truth", got=dataset.path, hint="Evaluation needs a data set with 3D joints"
        )
    comparison = _Comparison(dataset, source, protocol)
    total = -(-dataset.rows("samples") // _SAMPLES_AT_ONCE)
    for rows in track(dataset.blocks("samples", _SAMPLES_AT_ONCE), f"eval {source.name}", total=total, unit="block"):
        comparison.add(rows)
    return comparison.summary(resampling)


@dataclass
class _Collected:
    """What has been measured so far."""

    errors: dict[str, list[np.ndarray]] = field(default_factory=dict)
    keys: list[Keys] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    joints_left_out: int = 0
    degenerate: int = 0


class _Comparison:
    def __init__(self, dataset: Artifact, source: Source, protocol: Protocol) -> None:
        self.dataset, self.source, self.protocol = dataset, source, protocol
        self.target = dataset.skeleton if protocol.skeleton is None else CATALOG[protocol.skeleton]
        self.truth_joints = _Joints(dataset.skeleton, self.target, protocol)
        self.predicted_joints = _Joints(source.skeleton, self.target, protocol)
        cameras = cameras_from_columns(dataset.table("cameras"))
        self.clips = clips_from_columns(dataset.table("sequences"))
        self.optics = Optics(cameras)
        self.wanted = wanted_views(protocol, self.clips, [camera.name for camera in cameras])
        self.collected = _Collected()

    def add(self, rows: slice) -> None:
        keys = Keys.read(self.dataset, "samples", rows)
        inside = self.wanted[keys.sequence, keys.camera] & wanted_samples(self.dataset, self.protocol, keys, rows)
        self.collected.outside += int((~inside).sum())
        if not inside.any():
            return
        keys = keys.at(inside)
        truth_points = self.dataset.read("samples", "joints3d", rows)[inside].astype(np.float64)
        boxes = self.dataset.read("samples", "bbox", rows)[inside].astype(np.float64)
        predicted = self.source.predict(keys)
        truth, prediction = self.truth_joints.take(truth_points), self.predicted_joints.take(predicted.points)
        valid = np.isfinite(truth).all(-1) & np.isfinite(prediction).all(-1)
        good = self._sort_out(predicted.reason, truth, valid)
        if not good.any():
            return
        self._measure(prediction[good], truth[good], valid[good])
        truth_pixels = self.truth_joints.take(self.optics.pixels(truth_points[good], keys.camera[good]))
        predicted_pixels = self.predicted_joints.take(predicted.pixels[good])
        distances = np.linalg.norm(predicted_pixels - truth_pixels, axis=-1)[:, :-1]
        self._keep(_PIXELS, np.where(valid[good, :-1], distances * pixel_scale(boxes[good])[:, None], np.nan))
        self.collected.keys.append(keys.at(good))

    def _sort_out(
        self, reasons: Sequence[str], truth: Float[np.ndarray, "N J 3"], valid: Bool[np.ndarray, "N J"]
    ) -> Bool[np.ndarray, "N"]:
        """Which samples can be evaluated; the others are counted under the first reason that holds."""
        problems = [
            (~np.isfinite(truth[:, :-1]).all(-1).any(-1), NO_TRUTH),
            (~valid[:, -1], NO_ROOT),
            (valid[:, :-1].sum(-1) < _FEWEST_JOINTS, TOO_FEW),
        ]
        reason = np.asarray(reasons, dtype=object)
        for holds, why in problems:
            # A sample without truth is not the prediction's fault.
            reason[holds & ((reason == "") | (why == NO_TRUTH))] = why
        good = reason == ""
        self.collected.skipped.update(reason[~good].tolist())
        self.collected.joints_left_out += int((~valid[good, :-1]).sum())
        return good

    def _measure(
        self,
        prediction: Float[np.ndarray, "N J 3"],
        truth: Float[np.ndarray, "N J 3"],
        valid: Bool[np.ndarray, "N J"],
    ) -> None:
        """The root, the last point, aligns but is not measured."""
        p, q = (torch.from_numpy(np.nan_to_num(points)) for points in (prediction, truth))
        there = torch.from_numpy(valid)
        root = [p.shape[1] - 1]
        for alignment in self.protocol.alignments:
            errors = self._aligned(alignment, p, q, there, root)[:, : root[0]]
            self._keep(METRIC_OF_ALIGNMENT[alignment], errors.numpy())
        rooted = self._aligned("root", p, q, there, root)[:, : root[0]]
        self._keep(_PCK, metrics.pck3d(rooted).numpy())
        self._keep(_AUC, metrics.auc(rooted).numpy())
        fit = metrics.procrustes_fit(p[:, :-1], q[:, :-1], there[:, :-1])
        self.collected.degenerate += int(fit.degenerate.sum())

    def _aligned(self, alignment: Alignment, p: Tensor, q: Tensor, valid: Tensor, root: list[int]) -> Tensor:
        if alignment == "procrustes":
            return metrics.pa_mpjpe(p[:, :-1], q[:, :-1], valid[:, :-1])
        if alignment == "root":
            return metrics.mpjpe(p, q, root, valid)
        if alignment == "scale":
            measured = valid.clone()
            measured[:, -1] = False
            return metrics.n_mpjpe(p, q, root, measured, self.protocol.scale_by)
        length = self.protocol.canonical_bone_length
        if length is None:
            raise ValueError(f"protocol {self.protocol.name} has no canonical bone length")
        bones = self.target.bones
        whole = valid[:, sorted({joint for bone in bones for joint in bone})].all(-1, keepdim=True)
        return metrics.bone_rescaled_mpjpe(p, q, bones, length, root, valid & whole)

    def _keep(self, metric: str, errors: np.ndarray) -> None:
        self.collected.errors.setdefault(metric, []).append(errors.astype(np.float32))

    def summary(self, resampling: Resampling) -> Summary:
        collected = self.collected
        if not collected.keys:
            reasons = [f"{count} x {reason}" for reason, count in collected.skipped.most_common()]
            raise DataError(
                f"nothing of {self.source.name} can be evaluated by protocol {self.protocol.name}",
                got=[*reasons, f"{collected.outside} x outside the protocol"],
            )
        keys = Keys.joined(collected.keys)
        groups = resampled_groups(self.clips, keys.sequence, keys.frame)
        measured = {metric: np.concatenate(parts) for metric, parts in collected.errors.items()}
        tables = [self._table(metric, errors) for metric, errors in measured.items() if not np.isnan(errors).all()]
        return Summary(
            title=f"{self.source.name}, {self.protocol.title}",
            metrics=[summarize(table, groups, bootstrap=resampling.draws, seed=resampling.seed) for table in tables],
            evaluated=len(keys),
            skipped=dict(sorted(collected.skipped.items())),
            facts={
                "protocol": self.protocol.to_dict(),
                "joints": list(self.target.joints),
                "outside_protocol": collected.outside,
                "joints_left_out": collected.joints_left_out,
                "degenerate": collected.degenerate,
                "interval_from": groups.unit_name,
                "pixel_unit": PIXEL_UNIT,
            },
            samples=sample_errors(tables, keys),
        )

    def _table(self, metric: str, errors: Float[np.ndarray, "N J"]) -> ErrorTable:
        if metric == _PIXELS:
            return ErrorTable(metric, errors, self.target.joints, unit="px", factor=1.0)
        if metric in (_PCK, _AUC):
            return ErrorTable(metric, errors, self.target.joints, unit="%", factor=100.0)
        return ErrorTable(metric, errors, self.target.joints)


class _Joints:
    """Takes the measured joints of one skeleton, and its root as a last point."""

    def __init__(self, source: Skeleton, target: Skeleton, protocol: Protocol) -> None:
        root = Skeleton("root", protocol.roots, (-1,) * len(protocol.roots))
        self._joints: JointMap = joint_map(source, target, require_all=source is not target)
        self._roots: JointMap = joint_map(source, root, require_all=True)

    def take(self, points: Float[np.ndarray, "N Js D"]) -> Float[np.ndarray, "N Jt D"]:
        root = self._roots.points(points).mean(axis=1, keepdims=True)
        return np.concatenate([self._joints.points(points), root], axis=1)


def resampled_groups(clips: Sequence[Clip], sequence: Int[np.ndarray, "N"], frame: Int[np.ndarray, "N"]) -> Groups:
    """The actions of samples, and what of them is drawn as a whole for the intervals."""
    actions = np.array([clip.action for clip in clips], dtype=str)[sequence]
    if len(np.unique(sequence)) >= _FEWEST_SEQUENCES:
        return Groups(actions.tolist(), sequence.tolist(), "sequences")
    _, instant = np.unique(np.stack([sequence, frame]), axis=1, return_inverse=True)
    return Groups(actions.tolist(), instant.reshape(-1).tolist(), "instants")


def wanted_views(protocol: Protocol, clips: Sequence[Clip], cameras: Sequence[str]) -> Bool[np.ndarray, "S C"]:
    """For each sequence and camera, whether the protocol takes it."""
    rows = [
        [
            protocol.selects(subject=clip.subject, camera=camera, trial=clip.trial, frame=0, split=clip.split)
            for camera in cameras
        ]
        for clip in clips
    ]
    return np.array(rows, dtype=bool).reshape(len(clips), len(cameras))


def wanted_samples(dataset: Artifact, protocol: Protocol, keys: Keys, rows: slice) -> Bool[np.ndarray, "N"]:
    """Which samples of a block of rows the protocol takes by their frame and by what was detected of them.

    Raises InputError where the protocol asks for detections that the data set does not count.
    """
    inside = keys.frame % protocol.stride == 0
    if not protocol.min_detections:
        return np.asarray(inside)
    if not dataset.has("samples", "detections"):
        raise InputError(
            f"protocol {protocol.name} selects samples by the release's detections, and the data set does not count them",
            got=dataset.path,
            hint="`posekit preprocess 3dpw` makes data sets that do",
        )
    return np.asarray(inside & (dataset.read("samples", "detections", rows) >= protocol.min_detections))


def pixel_scale(boxes: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N"]:
    """Crop pixels for each pixel of the original image; NaN for boxes that are none."""
    side = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    return np.where(side > 0, _PIXEL_CROP / (_PIXEL_MARGIN * np.where(side > 0, side, 1.0)), np.nan)
