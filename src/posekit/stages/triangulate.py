"""The stage `triangulate`: 3D joints from several views of the same moment."""

from __future__ import annotations

from collections.abc import Sequence
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
from posekit.errors import DataError
from posekit.labeling.anthropometry import plausible_frames
from posekit.labeling.rig import PairGeometry
from posekit.progress import track
from posekit.records import Camera, camera_columns, cameras_from_columns, clips_from_columns
from posekit.stages.multiview import Moments, MultiviewIndex
from posekit.stages.report import StageReport, Table, input_digests
from posekit.stages.triangulation_quality import TriangulationQuality
from posekit.stages.triangulation_session import Session, Source, joints_of, prepare_session, with_noise

STAGE = "triangulate"


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
    source = Source(config, index, records, clips, dataset.skeleton)
    quality = TriangulationQuality(len(records), dataset.skeleton)
    used, sessions = list(records), []
    counts = {"moments": 0, "seen by one camera only": 0}
    with ArtifactWriter(output, header) as writer:
        for name in track(list(index.sessions), "triangulate", unit="session"):
            session = prepare_session(source, name)
            sessions.append(session)
            for row, record in zip(index.sessions[name], session.records, strict=True):
                used[row] = record
            _append_pairs(writer, session, index.sessions[name])
            for block in index.blocks(name):
                _append_poses(writer, source, session, with_noise(block, config), quality)
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


def _append_pairs(writer: ArtifactWriter, session: Session, rows: np.ndarray) -> None:
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
    writer: ArtifactWriter, source: Source, session: Session, block: Moments, quality: TriangulationQuality
) -> None:
    who = source.person(block)
    found, before = joints_of(source.config, session, block, session.bones.get(who))
    joints, ok = found.points.numpy(), found.ok.numpy()
    error, inliers = found.error_px.numpy(), found.inliers.numpy()
    expected = (block.confidence >= source.config.min_confidence).sum(axis=1) >= 2
    plausible = plausible_frames(joints, expected, source.skeleton)
    quality.add(block.cameras, error, inliers, ok)
    quality.add_people(who, joints, expected, plausible)
    quality.add_bones("unsteadied", who, before.numpy()[plausible])
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
    sessions: Sequence[Session],
    records: Sequence[Camera],
    counts: dict[str, int],
) -> dict[str, Any]:
    spread = quality.bone_spread()
    metrics = quality.overall()
    if spread:
        metrics["bone_spread_percent"] = 100.0 * float(np.median(list(spread.values())))
    if spread and config.steady:
        before = quality.bone_spread("unsteadied")
        metrics["bone_spread_before_steadying_percent"] = 100.0 * float(np.median(list(before.values())))
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
