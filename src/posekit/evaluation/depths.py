"""Depths of lifted key points against the ground truth of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from posekit.artifacts.files import Artifact
from posekit.errors import DataError, InputError
from posekit.evaluation.comparison import NO_TRUTH, Resampling, resampled_groups
from posekit.evaluation.keys import Keys
from posekit.evaluation.metrics import mpjpe, n_mpjpe
from posekit.evaluation.report import ErrorTable, Summary, sample_errors, summarize
from posekit.labeling.lifting import ROOT, Lifter
from posekit.labeling.whole_poses import split_rows, whole_keypoints
from posekit.records import cameras_from_columns, clips_from_columns
from posekit.skeleton.mapping import joint_map

NOT_WHOLE = "without every joint"
NOT_POSSIBLE = "key points without extent"


@dataclass(frozen=True)
class LiftedPoses:
    """Lifted poses and the true ones: metres about the pelvis, in axes parallel to the camera.

    The weak-perspective scale of the true pelvis leads from pixels to metres.
    """

    lifted: Float[np.ndarray, "N J 3"]
    true: Float[np.ndarray, "N J 3"]
    rows: Int[np.ndarray, " N"]
    skipped: Mapping[str, int]


def lift_dataset(dataset: Artifact, lifter: Lifter, split: str) -> LiftedPoses:
    """Lifts the key points of a part of a data set that has ground truth; InputError where it has none."""
    if not dataset.has("samples", "joints3d"):
        raise InputError(
            "the data set has no 3D ground truth",
            got=dataset.path,
            hint="Depths are measured on a data set with 3D joints",
        )
    skeleton, root = lifter.skeleton, lifter.skeleton.index(ROOT)
    rows = split_rows(dataset, split)
    keypoints, found = whole_keypoints(dataset, skeleton, rows)
    points = joint_map(dataset.skeleton, skeleton, require_all=True).points(
        dataset.read("samples", "joints3d", found).astype(np.float64)
    )
    device = next(lifter.parameters()).device
    pixels = torch.from_numpy(keypoints).to(device)
    depths, possible = lifter.depths(pixels, torch.ones(pixels.shape[:2], dtype=torch.bool, device=device))
    known = np.isfinite(points).all((1, 2)) & (points[:, root, 2] > 0)
    good = known & possible.cpu().numpy()
    focal = np.array(
        [np.diag(camera.intrinsics)[:2].mean() for camera in cameras_from_columns(dataset.table("cameras"))]
    )
    scale = points[:, root, 2] / focal[dataset.read("samples", "camera", found)]
    flat = (keypoints - keypoints[:, [root]]) * scale[:, None, None]
    lifted = np.concatenate([flat, (depths.cpu().numpy() * scale[:, None])[..., None]], axis=-1)
    skipped = {
        NOT_WHOLE: len(rows) - len(found),
        NO_TRUTH: int((~known).sum()),
        NOT_POSSIBLE: int((known & ~good).sum()),
    }
    return LiftedPoses(
        lifted[good], (points - points[:, [root]])[good], found[good], {why: n for why, n in skipped.items() if n}
    )


def compare_depths(dataset: Artifact, lifter: Lifter, split: str, resampling: Resampling) -> Summary:
    """Errors of depths, and how many poses are the wrong way round.

    `depth` is the absolute error of joints other than the pelvis; `mpjpe` and `n_mpjpe` are distances of points in 3D, the
    latter after the best scale. `flipped` are poses that are nearer to their truth once their depths are mirrored;
    `turned_about` are those whose pelvis faces away from where it faces in truth. Raises DataError where nothing is left.
    """
    poses = lift_dataset(dataset, lifter, split)
    if not len(poses.rows):
        raise DataError(
            "no depth can be measured", got=[f"{count} x {why}" for why, count in poses.skipped.items()] or "no sample"
        )
    skeleton, root = lifter.skeleton, lifter.skeleton.index(ROOT)
    others = [joint for joint in range(len(skeleton)) if joint != root]
    names = tuple(skeleton.joints[joint] for joint in others)
    first, second = torch.from_numpy(poses.lifted), torch.from_numpy(poses.true)
    lifted, true = poses.lifted[:, others, 2], poses.true[:, others, 2]
    tables = [
        ErrorTable("depth", np.abs(lifted - true), names),
        ErrorTable("mpjpe", mpjpe(first, second, [root]).numpy(), skeleton.joints),
        ErrorTable("n_mpjpe", n_mpjpe(first, second, [root]).numpy(), skeleton.joints),
        ErrorTable("flipped", flipped(lifted, true)[:, None].astype(np.float64), unit="%", factor=100.0),
        ErrorTable("turned_about", _turned_about(lifter, poses)[:, None].astype(np.float64), unit="%", factor=100.0),
    ]
    keys = Keys.read(dataset, "samples").at(poses.rows)
    groups = resampled_groups(clips_from_columns(dataset.table("sequences")), keys.sequence, keys.frame)
    return Summary(
        title=f"lifted depths, {split} part",
        metrics=[summarize(table, groups, bootstrap=resampling.draws, seed=resampling.seed) for table in tables],
        evaluated=len(poses.rows),
        skipped=poses.skipped,
        facts={
            "joints": list(skeleton.joints),
            "depth_correlation": _correlation(lifted, true),
            "depth_of_nothing_mm": float(1000.0 * np.abs(true).mean()),
            "interval_from": groups.unit_name,
        },
        samples=sample_errors(tables, keys),
    )


def flipped(lifted: Float[np.ndarray, "N J"], true: Float[np.ndarray, "N J"]) -> Bool[np.ndarray, " N"]:
    """Which poses come nearer to the truth when their depths relative to the root change sign."""
    return ((lifted - true) ** 2).sum(1) > ((lifted + true) ** 2).sum(1)


def _turned_about(lifter: Lifter, poses: LiftedPoses) -> Bool[np.ndarray, " N"]:
    left, right, thorax, pelvis = lifter.skeleton.indices("left_hip", "right_hip", "thorax", "pelvis")
    facing = [
        np.cross(points[:, left] - points[:, right], points[:, thorax] - points[:, pelvis])
        for points in (poses.lifted, poses.true)
    ]
    return (facing[0] * facing[1]).sum(-1) < 0


def _correlation(lifted: Float[np.ndarray, "N J"], true: Float[np.ndarray, "N J"]) -> float | None:
    if not lifted.std() or not true.std():
        return None
    return float(np.corrcoef(lifted.ravel(), true.ravel())[0, 1])
