"""The stage `triangulate`: 3D joints from several views of the same moment."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import DATASET, JOINTS3D, KEYPOINTS, VIEW_LABELS
from posekit.artifacts.writing import ArtifactWriter
from posekit.config.base import beside
from posekit.config.labels import Triangulate
from posekit.errors import ConfigError, DataError
from posekit.labeling.anthropometry import PLAUSIBLE, why_implausible
from posekit.labeling.rig import PairGeometry
from posekit.progress import track
from posekit.records import camera_columns, cameras_from_columns, clips_from_columns
from posekit.stages.multiview import Moments, MultiviewIndex
from posekit.stages.report import StageReport, input_digests, require_same_source
from posekit.stages.triangulation_pairs import label_report, label_views
from posekit.stages.triangulation_quality import ONE_CAMERA, RAW, WRITTEN, TriangulationQuality
from posekit.stages.triangulation_report import STAGE, triangulation_facts, triangulation_report
from posekit.stages.triangulation_session import Session, Source, joints_of, prepare_session, with_noise

VIEW_ENDING = ".view3d.h5"


def triangulate(config: Triangulate) -> StageReport:
    """Writes 3D joints of every person and moment seen by two cameras or more.

    With cameras "intrinsics" the poses of the cameras are found first, from the key points themselves; the world is then
    the frame of each session's first camera. With views "pairs" every image gets a label in its own camera's frame instead,
    made from it and a neighbouring view. Raises InputError where poses are needed and not known, DataError where
    nothing can be triangulated or no reliable geometry can be had.
    """
    kind, ending = (VIEW_LABELS, VIEW_ENDING) if config.views == "pairs" else (JOINTS3D, ".joints3d.h5")
    output = config.output or beside(config.dataset, "labels", ending)
    show = label_report if config.views == "pairs" else triangulation_report
    with ExitStack() as stack:
        dataset = stack.enter_context(Artifact(config.dataset, DATASET))
        keypoints = _open_keypoints(config, dataset, stack)
        skeleton = dataset.skeleton if keypoints is None else keypoints.skeleton
        facts: dict[str, Any] = {"keypoints_source": _keypoints_source(dataset, keypoints)}
        header = Header(
            kind.name,
            STAGE,
            config.settings(),
            input_digests(dataset=dataset, keypoints=keypoints),
            skeleton,
            config.seed,
            facts,
        )
        if not config.force and is_current(output, header):
            with Artifact(output, kind) as earlier:
                return show(output, earlier.header.facts, skipped=True)
        index = MultiviewIndex(dataset, keypoints)
        if config.dry_run:
            frames = sum(len(index.moments(session)) for session in index.sessions)
            return StageReport(STAGE, [], notes=[f"would triangulate {frames} frames of {dataset.path.name}"])
        _refuse_single_views(index, dataset)
        records = cameras_from_columns(dataset.table("cameras"))
        source = Source(config, index, records, clips_from_columns(dataset.table("sequences")), skeleton)
        if config.views == "pairs":
            with ArtifactWriter(output, header) as writer:
                facts.update(label_views(config, source, dataset, writer))
        else:
            _check_settings(config)
            _work(source, dataset, output, header, facts)
    return show(output, facts, skipped=False)


def _open_keypoints(config: Triangulate, dataset: Artifact, stack: ExitStack) -> Artifact | None:
    if config.keypoints is None:
        return None
    keypoints = stack.enter_context(Artifact(config.keypoints, KEYPOINTS))
    require_same_source(keypoints, "dataset", dataset)
    return keypoints


def _keypoints_source(dataset: Artifact, keypoints: Artifact | None) -> str:
    """Where key points come from: annotated or projected ones are the truth, whoever stores them."""
    if keypoints is not None:
        return str(keypoints.header.facts.get("source", "unknown"))
    return "truth" if dataset.has("samples", "joints3d") else "dataset"


def _check_settings(config: Triangulate) -> None:
    defaults = {name: Triangulate.model_fields[name].default for name in ("method", "merge", "scale", "steady_views")}
    given = [name for name, default in defaults.items() if getattr(config, name) != default]
    if given:
        raise ConfigError(
            "these settings are for --views pairs", got=", ".join(f"--{n.replace('_', '-')}" for n in given)
        )


def _refuse_single_views(index: MultiviewIndex, dataset: Artifact) -> None:
    if not any((index.views(index.moments(session)) > 1).any() for session in index.sessions):
        raise DataError(
            f"{dataset.path}: nobody is seen by two cameras at the same time",
            accepted="at least two views of the same person and frame",
            hint="Check that the videos are matched and synchronised",
        )


def _work(source: Source, dataset: Artifact, output: Path, header: Header, facts: dict[str, Any]) -> None:
    config, index, records = source.config, source.index, source.cameras
    quality = TriangulationQuality(len(records), source.skeleton)
    used, sessions = list(records), []
    with ArtifactWriter(output, header) as writer:
        for name in track(list(index.sessions), "triangulate", unit="session"):
            session = prepare_session(source, name)
            sessions.append(session)
            for row, record in zip(index.sessions[name], session.records, strict=True):
                used[row] = record
            _append_pairs(writer, session, index.sessions[name])
            for block in index.blocks(name):
                _append_poses(writer, source, session, with_noise(block, config), quality)
        if not quality.joints_ok:
            raise DataError(
                f"{dataset.path}: no joint could be triangulated",
                hint="Check that the calibration belongs to these videos and that people are matched between views",
            )
        writer.append("cameras", camera_columns(used))
        writer.append("quality", quality.camera_columns())
        facts.update(triangulation_facts(config, quality, sessions, records))


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
    reason = why_implausible(joints, expected, source.skeleton)
    plausible = reason == PLAUSIBLE
    alone = (block.confidence > 0).any(axis=2).sum(axis=1) < 2
    quality.add(WRITTEN, block.cameras, error, inliers, ok)
    quality.add(RAW, block.cameras, before.error_px.numpy(), inliers, ok)
    quality.add_people(joints, expected, np.where(alone, ONE_CAMERA, reason))
    quality.add_bones(WRITTEN, who, joints[plausible])
    quality.add_bones(RAW, who, before.points.numpy()[plausible])
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
