"""The stage `triangulate`: 3D joints from several views of the same moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import DATASET, JOINTS3D
from posekit.artifacts.writing import ArtifactWriter
from posekit.config import Triangulate, beside
from posekit.errors import DataError, InputError
from posekit.geometry.cameras import Cameras
from posekit.geometry.transforms import fit_similarity
from posekit.geometry.triangulation import TriangulatedPoints, TriangulationSettings
from posekit.geometry.triangulation import triangulate as triangulate_points
from posekit.labeling.anthropometry import metric_scale, plausible_frames
from posekit.labeling.rig import PairGeometry, Rig, RigSettings, estimate_rig
from posekit.progress import track
from posekit.records import Camera, camera_columns, cameras_from_columns, clips_from_columns, stack_cameras
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.multiview import Moments, MultiviewIndex
from posekit.stages.report import StageReport, Table, input_digests
from posekit.stages.triangulation_quality import TriangulationQuality

STAGE = "triangulate"
_AGREEMENT_MOMENTS = 2000


@dataclass(frozen=True)
class _Session:
    """The cameras of one session as they are used: rows of the camera table, poses, and where these came from."""

    name: str
    cameras: Cameras
    records: Sequence[Camera]
    rig: Rig | None = None
    scale: float = 1.0
    agreement: tuple[float, float, int] | None = None


def triangulate(config: Triangulate) -> StageReport:
    """Writes 3D joints of every person and moment seen by two cameras or more.

    With cameras "intrinsics" the poses of the cameras are found first, from the key points themselves; the world is then
    the frame of each session's first camera. Raises InputError where poses are needed and not known, DataError where
    nothing can be triangulated or no reliable geometry can be had.
    """
    output = config.output or beside(config.dataset, "labels", ".joints3d.h5")
    with Artifact(config.dataset, DATASET) as dataset:
        facts: dict[str, Any] = {}
        header = Header(
            JOINTS3D.name,
            STAGE,
            config.settings(),
            input_digests(dataset=dataset),
            dataset.skeleton,
            config.seed,
            facts,
        )
        if not config.force and is_current(output, header):
            with Artifact(output, JOINTS3D) as earlier:
                return _report(output, earlier.header.facts, skipped=True)
        index = MultiviewIndex(dataset)
        if config.dry_run:
            moments = sum(len(index.moments(session)) for session in index.sessions)
            return StageReport(STAGE, [], notes=[f"would triangulate {moments} moments of {dataset.path.name}"])
        _refuse_single_views(index, dataset)
        _work(config, dataset, index, output, header, facts)
    return _report(output, facts, skipped=False)


def _refuse_single_views(index: MultiviewIndex, dataset: Artifact) -> None:
    if not any((index.views(index.moments(session)) > 1).any() for session in index.sessions):
        raise DataError(
            f"{dataset.path}: nobody is seen by two cameras at the same time",
            accepted="at least two views of the same person and frame",
            hint="Check that the videos are matched and synchronised",
        )


def _work(
    config: Triangulate, dataset: Artifact, index: MultiviewIndex, output: Path, header: Header, facts: dict[str, Any]
) -> None:
    records = cameras_from_columns(dataset.table("cameras"))
    clips = clips_from_columns(dataset.table("sequences"))
    quality = TriangulationQuality(len(records), dataset.skeleton)
    sessions = [_prepare(config, index, name, records, dataset.skeleton) for name in index.sessions]
    used = list(records)
    counts = {"moments": 0, "seen by one camera only": 0}
    with ArtifactWriter(output, header) as writer:
        for session in track(sessions, "triangulate", unit="session"):
            for row, record in zip(index.sessions[session.name], session.records, strict=True):
                used[row] = record
            _append_pairs(writer, session, index.sessions[session.name])
            for block in index.blocks(session.name):
                who = (clips[block.sequence[0]].subject or clips[block.sequence[0]].name, int(block.person[0]))
                _append_poses(config, writer, session, _with_noise(block, config), quality, who, dataset.skeleton)
                counts["moments"] += len(block.frame)
                counts["seen by one camera only"] += int(((block.confidence > 0).any(axis=2).sum(axis=1) < 2).sum())
        if not quality.joints_ok:
            raise DataError(
                f"{dataset.path}: no joint could be triangulated",
                hint="Check that the calibration belongs to these videos and that people are matched between views",
            )
        writer.append("cameras", camera_columns(used))
        writer.append("quality", quality.camera_columns())
        facts.update(_facts(config, quality, sessions, records, counts))


def _prepare(
    config: Triangulate, index: MultiviewIndex, name: str, records: Sequence[Camera], skeleton: Skeleton
) -> _Session:
    chosen = [records[row] for row in index.sessions[name]]
    moments = index.moments(name)
    moments = moments[index.views(moments) > 1]
    where = f"session {name}" if name else "the recording"
    if len(chosen) < 2 or not len(moments):
        raise DataError(f"{where}: nobody is seen by two cameras at the same time", got=[c.name for c in chosen])
    if config.cameras == "known":
        unposed = [camera.name for camera in chosen if not camera.posed]
        if unposed:
            raise InputError(
                f"{where}: the poses of these cameras are not known", got=unposed, hint="Use --cameras intrinsics"
            )
        return _Session(name, stack_cameras(chosen), chosen)
    cameras = stack_cameras(chosen)
    pooled = _with_noise(index.read(name, _spread(moments, config.pool_frames)), config)
    rig = _found_rig(config, cameras, pooled, [camera.name for camera in chosen])
    scale = _scale(config, rig.cameras, pooled, skeleton)
    posed = replace(rig.cameras, translation=rig.cameras.translation * scale)
    session = _Session(
        name,
        posed,
        [
            replace(camera, rotation=posed.rotation[i].numpy(), translation=posed.translation[i].numpy(), posed=True)
            for i, camera in enumerate(chosen)
        ],
        rig,
        scale,
    )
    if not all(camera.posed for camera in chosen):
        return session
    sample = _with_noise(index.read(name, _spread(moments, _AGREEMENT_MOMENTS)), config)
    return replace(session, agreement=_agreement(config, cameras, posed, sample))


def _found_rig(config: Triangulate, cameras: Cameras, pooled: Moments, names: list[str]) -> Rig:
    settings = RigSettings(frames=config.pool_frames, seed=config.seed)
    settings = replace(
        settings,
        min_confidence=max(config.min_confidence, min(settings.min_confidence, _middling_confidence(pooled))),
        pose=replace(settings.pose, solver=config.pose_solver),
    )
    return estimate_rig(
        cameras, torch.from_numpy(pooled.keypoints), torch.from_numpy(pooled.confidence), names, settings
    )


def _middling_confidence(pooled: Moments) -> float:
    """Detectors disagree on what a confidence of one half means; never leave out more than the lower quarter."""
    seen = pooled.confidence[pooled.confidence > 0]
    return float(np.quantile(seen, 0.25)) if len(seen) else 0.0


def _spread(moments: np.ndarray, count: int) -> np.ndarray:
    return moments[np.unique(np.linspace(0, len(moments) - 1, min(count, len(moments))).round().astype(int))]


def _with_noise(block: Moments, config: Triangulate) -> Moments:
    """Key points with the noise that a study asks for: the same for the same moment, whoever reads it."""
    if config.noise_px == 0:
        return block
    noisy = block.keypoints.copy()
    for i, key in enumerate(zip(block.sequence, block.person, block.frame, strict=True)):
        generator = np.random.default_rng([config.seed, *(int(part) for part in key)])
        noisy[i] += config.noise_px * generator.standard_normal(noisy[i].shape)
    return block._replace(keypoints=noisy)


def _points(config: Triangulate, cameras: Cameras, block: Moments) -> TriangulatedPoints:
    """Joints (T, J) of a block; thresholds grow with the size of the images."""
    confidence = np.where(block.confidence >= config.min_confidence, block.confidence, 0.0)
    threshold = config.max_error_px * float(cameras.image_size.amax(dim=-1).mean()) / 1000.0
    settings = TriangulationSettings(threshold_px=threshold, huber_px=threshold / 4)
    return triangulate_points(
        cameras,
        torch.from_numpy(block.keypoints).transpose(1, 2),
        torch.from_numpy(confidence).transpose(1, 2),
        settings,
    )


def _scale(config: Triangulate, cameras: Cameras, pooled: Moments, skeleton: Skeleton) -> float:
    """Metres per unit of the rig: from a known baseline, or from the limbs of all people seen."""
    if config.baseline is not None:
        first, second = cameras.centers()[:2]
        return config.baseline / float(torch.linalg.vector_norm(first - second))
    joints = _points(config, cameras, pooled).points.numpy()
    scales, frames = [], []
    people = np.stack([pooled.sequence, pooled.person], axis=1)
    for person in np.unique(people, axis=0):
        own = (people == person).all(axis=1)
        try:
            scales.append(metric_scale(joints[own], skeleton, stature=config.stature))
            frames.append(int(own.sum()))
        except DataError:
            continue
    if not scales:
        metric_scale(joints, skeleton, stature=config.stature)
    return float(np.average(scales, weights=frames))


def _agreement(config: Triangulate, known: Cameras, found: Cameras, sample: Moments) -> tuple[float, float, int] | None:
    """Mean and median distance (m) between the joints of both rigs after one similarity, and how many."""
    truth, ours = _points(config, known, sample), _points(config, found, sample)
    both = truth.ok & ours.ok
    if int(both.sum()) < 4:
        return None
    fit = fit_similarity(ours.points[both], truth.points[both])
    distance = torch.linalg.vector_norm(fit.apply(ours.points[both]) - truth.points[both], dim=-1)
    return float(distance.mean()), float(distance.median()), len(distance)


def _append_pairs(writer: ArtifactWriter, session: _Session, rows: np.ndarray) -> None:
    if session.rig is None or not session.rig.pairs:
        return
    pairs: list[PairGeometry] = session.rig.pairs
    centres = session.cameras.centers()
    baselines = [float(torch.linalg.vector_norm(centres[pair.first] - centres[pair.second])) for pair in pairs]
    writer.append(
        "pairs",
        {
            "session": [session.name] * len(pairs),
            "first": [rows[pair.first] for pair in pairs],
            "second": [rows[pair.second] for pair in pairs],
            "fundamental": np.stack([pair.fundamental.numpy() for pair in pairs]),
            "rotation": np.stack([pair.rotation.numpy() for pair in pairs]),
            "translation": np.stack([pair.translation.numpy() for pair in pairs]),
            "scale": baselines,
            "matches": [pair.quality.matches for pair in pairs],
            "inlier_ratio": [pair.quality.inlier_ratio for pair in pairs],
            "homography_ratio": [pair.quality.homography_ratio for pair in pairs],
            "sampson_px": [pair.quality.median_error_px for pair in pairs],
            "ok": [not pair.weakness for pair in pairs],
        },
    )


def _append_poses(
    config: Triangulate,
    writer: ArtifactWriter,
    session: _Session,
    block: Moments,
    quality: TriangulationQuality,
    who: tuple[str, int],
    skeleton: Skeleton,
) -> None:
    found = _points(config, session.cameras, block)
    joints, ok = found.points.numpy(), found.ok.numpy()
    error, inliers = found.error_px.numpy(), found.inliers.numpy()
    expected = (block.confidence >= config.min_confidence).sum(axis=1) >= 2
    plausible = plausible_frames(joints, expected, skeleton)
    quality.add(block.cameras, error, inliers, ok)
    quality.add_people(who, joints, expected, plausible)
    views = inliers.sum(axis=2)
    mean_over_views = np.where(views > 0, np.where(inliers, error, 0.0).sum(axis=2) / np.maximum(views, 1), np.nan)
    confidence = block.confidence.transpose(0, 2, 1)
    writer.append(
        "poses",
        {
            "sequence": block.sequence,
            "frame": block.frame,
            "person": block.person,
            "joints3d": joints,
            "confidence": np.where(inliers, confidence, 0.0).sum(axis=2) / np.maximum(views, 1),
            "error_px": mean_over_views,
            "views": _bits(inliers, block.cameras),
            "ok": plausible,
        },
    )


def _bits(inliers: Bool[np.ndarray, "T J C"], cameras: np.ndarray) -> np.ndarray:
    weights = np.left_shift(np.uint32(1), (cameras % 32).astype(np.uint32))
    return (inliers * weights).sum(axis=2).astype(np.uint32)


def _facts(
    config: Triangulate,
    quality: TriangulationQuality,
    sessions: Sequence[_Session],
    records: Sequence[Camera],
    counts: dict[str, int],
) -> dict[str, Any]:
    spread = quality.bone_spread()
    metrics = quality.overall()
    if spread:
        metrics["bone_spread_percent"] = 100.0 * float(np.median(list(spread.values())))
    agreements = [session.agreement for session in sessions if session.agreement is not None]
    if agreements:
        total = sum(count for _, _, count in agreements)
        metrics["agreement_mean_mm"] = 1e3 * sum(mean * count for mean, _, count in agreements) / total
        metrics["agreement_median_mm"] = 1e3 * float(np.median([median for _, median, _ in agreements]))
    columns = quality.camera_columns()
    rows: list[list[Any]] = [
        [camera.name, camera.session, *(float(columns[name][i]) for name in ("median_px", "mean_px", "p95_px"))]
        for i, camera in enumerate(records)
        if columns["points"][i]
    ]
    for name, session, median, mean, _ in rows:
        label = "_".join(part for part in (session, name) if part)
        metrics |= {f"reprojection_median_px_{label}": median, f"reprojection_mean_px_{label}": mean}
    pairs = [
        [
            session.name,
            *(session.records[i].name for i in (pair.first, pair.second)),
            pair.weakness,
            pair.quality.figures(),
        ]
        for session in sessions
        if session.rig is not None
        for pair in session.rig.pairs
    ]
    return {
        "cameras_used": config.cameras,
        "world": "of the calibration" if config.cameras == "known" else "the first camera of each session",
        "metrics": metrics,
        "counts": counts | {"frames not ok": quality.frames - quality.frames_ok},
        "reprojection": rows,
        "bone_spread": spread,
        "pairs": pairs,
        "scales": {session.name: session.scale for session in sessions if session.rig is not None},
    }


def _report(output: Path, facts: Any, *, skipped: bool) -> StageReport:
    tables = [
        Table(
            "Reprojection error (px)",
            ["camera", "session", "median", "mean", "95 %"],
            [[row[0], row[1], *(f"{value:.2f}" for value in row[2:])] for row in facts["reprojection"]],
        ),
        Table(
            "Spread of bone lengths (standard deviation / mean)",
            ["bone", "%"],
            [[name, f"{100 * value:.1f}"] for name, value in facts["bone_spread"].items()],
        ),
    ]
    if facts["pairs"]:
        tables.append(
            Table(
                "Camera pairs",
                ["session", "first", "second", "inliers", "median error (px)", "angle (deg)", "used"],
                [
                    [
                        *row[:3],
                        f"{row[4]['inliers']:.0f} of {row[4]['matches']:.0f}",
                        f"{row[4]['median_error_px']:.2f}",
                        f"{row[4]['median_angle_deg']:.0f}",
                        f"no: {row[3]}" if row[3] else "yes",
                    ]
                    for row in facts["pairs"]
                ],
            )
        )
    return StageReport(STAGE, [output], skipped, facts["metrics"], facts["counts"], tables=tables)
