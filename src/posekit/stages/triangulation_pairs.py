"""Labels of single images from pairs of neighbouring views: the label engine of Pose ResNet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.writing import ArtifactWriter
from posekit.camera_stack import stack_cameras
from posekit.config.labels import Triangulate
from posekit.errors import ConfigError, DataError, InputError
from posekit.evaluation.keys import Keys
from posekit.geometry.cameras import Cameras
from posekit.labeling.epipolar import PairLabels, PairLabelSettings, label_pair, neighbouring_pairs
from posekit.labeling.pair_steadying import measure_pair_bones, steady_pair
from posekit.labeling.rig import PairGeometry, estimate_pairs, known_pairs, pool_points
from posekit.labeling.steadying import BonePrior
from posekit.labeling.view_labels import ViewLabels, merge_views
from posekit.progress import track
from posekit.records import Camera, camera_columns
from posekit.stages.label_agreement import TrueJoints, agreement_table
from posekit.stages.label_tally import LabelTally
from posekit.stages.multiview import Moments
from posekit.stages.report import StageReport, Table
from posekit.stages.triangulation_report import STAGE
from posekit.stages.triangulation_session import Person, Source, points_of, pooling_settings, spread, with_noise

_SCALE_MOMENTS = 2000
"""Moments of one person that its size is taken from."""

_CHOICE = 11


@dataclass(frozen=True)
class _Session:
    """The cameras of one session, the pairs that labels are made from, and of each person and pair metres per unit and bones."""

    name: str
    rows: np.ndarray
    cameras: Cameras
    records: Sequence[Camera]
    pairs: list[PairGeometry]
    baselines: list[float | None]
    scales: dict[tuple[Person, int], float]
    bones: dict[tuple[Person, int], BonePrior]

    @property
    def used(self) -> list[int]:
        return [number for number, pair in enumerate(self.pairs) if not pair.weakness]


def label_views(config: Triangulate, source: Source, dataset: Artifact, writer: ArtifactWriter) -> dict[str, Any]:
    """Writes a label for every view of every moment that a trusted pair of cameras saw; returns the facts of the report.

    True joints and poses of cameras that the data set has are compared with, where they are not asked for, and used for
    nothing else.

    Raises InputError where poses or distances are needed and not known, DataError where no pair can be trusted.
    """
    _check(config)
    truth = TrueJoints.of(dataset, source.skeleton)
    tally, sessions = LabelTally(len(source.cameras), source.skeleton, truth), []
    for name in track(list(source.index.sessions), "label views", unit="session"):
        session = _prepared(config, source, name)
        sessions.append(session)
        _append_pairs(writer, session)
        for block in source.index.blocks(name):
            _append_labels(writer, config, source, session, with_noise(block, config), tally)
    if tally.counts["views"] == tally.counts["views not ok"]:
        raise DataError(
            "no view could be labelled",
            got="; ".join(_weaknesses(sessions)) or "no frame passed the filter",
            hint="Use more frames with more movement, or known extrinsics",
        )
    writer.append("cameras", camera_columns(source.cameras))
    writer.append("quality", tally.quality_columns())
    return _facts(config, sessions, tally)


def label_report(output: Path, facts: Any, *, skipped: bool) -> StageReport:
    """The report of a run that ended with these facts."""
    columns = [
        "session",
        "first",
        "second",
        "inliers",
        "median error (px)",
        "angle (deg)",
        "rotation off (deg)",
        "frames ok",
    ]
    table = Table("Camera pairs", columns, facts["pairs"])
    tables = [table, *agreement_table(facts["metrics"])]
    return StageReport(STAGE, [output], skipped, facts["metrics"], facts["counts"], facts["notes"], tables)


def _check(config: Triangulate) -> None:
    if not config.steady:
        raise ConfigError("--no-steady is for --views rig", hint="Labels of pairs are steadied by --steady-views alone")
    if config.baseline is not None:
        raise ConfigError(
            "--baseline names the distance of one pair of cameras only",
            got=config.baseline,
            accepted="with --views pairs: --stature, or --scale cameras",
        )
    if config.cameras == "known" and config.stature is not None:
        raise ConfigError("known cameras tell the scale themselves", got=f"--stature {config.stature}")


def _prepared(config: Triangulate, source: Source, name: str) -> _Session:
    rows = source.index.sessions[name]
    records = [source.cameras[row] for row in rows]
    where = f"session {name}" if name else "the recording"
    moments = source.index.moments(name)
    moments = moments[source.index.views(moments) > 1]
    if len(records) < 2 or not len(moments):
        raise DataError(f"{where}: nobody is seen by two cameras at the same time", got=[c.name for c in records])
    known = config.cameras == "known" or config.scale == "cameras"
    unposed = [camera.name for camera in records if not camera.posed]
    if known and unposed:
        raise InputError(
            f"{where}: the poses of these cameras are not known",
            got=unposed,
            hint="Use --cameras intrinsics with --scale limbs",
        )
    cameras, names = stack_cameras(records), [camera.name for camera in records]
    pooled = source.read(name, spread(moments, config.pool_frames))
    settings = replace(pooling_settings(config, pooled), pairs=neighbouring_pairs(names))
    points = pool_points(cameras, torch.from_numpy(pooled.keypoints), torch.from_numpy(pooled.confidence), settings)
    find = known_pairs if config.cameras == "known" else estimate_pairs
    pairs = find(cameras, points, settings, names)
    centres = cameras.centers()
    baselines = [
        float(torch.linalg.vector_norm(centres[pair.first] - centres[pair.second])) if known else None for pair in pairs
    ]
    session = _Session(name, rows, cameras, records, pairs, baselines, {}, {})
    if not session.used:
        raise DataError(
            f"{where}: no pair of cameras can be trusted",
            got="; ".join(_weaknesses([session])) or "too few matches",
            hint="Use more frames with more movement, or known extrinsics",
        )
    _measure_people(config, source, session, moments)
    return session


def _measure_people(config: Triangulate, source: Source, session: _Session, moments: np.ndarray) -> None:
    """Notes metres per unit, one for each person and pair (lengths of single frames would only add noise), and bones."""
    people: dict[Person, list[np.ndarray]] = defaultdict(list)
    sequence, person = source.index.sequence_of(moments), source.index.person_of(moments)
    for key in np.unique(np.stack([sequence, person]), axis=1).T:
        clip = source.clips[int(key[0])]
        chosen = moments[(sequence == key[0]) & (person == key[1])]
        people[clip.subject or clip.name, int(key[1])].append(chosen)
    for who, parts in people.items():
        sample = source.read(session.name, spread(np.concatenate(parts), _SCALE_MOMENTS))
        for number in session.used:
            baseline = session.baselines[number]
            if baseline is not None and not config.steady_views:
                session.scales[who, number] = baseline
                continue
            try:
                labels = _labels(config, source, session, number, sample, baseline)
            except DataError:
                # Somebody whom this pair never saw whole gets no labels from it.
                continue
            session.scales[who, number] = labels.scale
            if config.steady_views:
                seen = torch.from_numpy(sample.keypoints)
                session.bones[who, number] = measure_pair_bones(
                    session.pairs[number], session.cameras, labels, seen, source.skeleton.bones
                )


def _labels(
    config: Triangulate, source: Source, session: _Session, number: int, block: Moments, scale: float | None
) -> PairLabels:
    settings = PairLabelSettings(
        method=config.method,
        max_error_px=config.max_error_px,
        min_confidence=config.min_confidence,
        stature=config.stature,
        baseline=scale,
    )
    keypoints, confidence = torch.from_numpy(block.keypoints), torch.from_numpy(block.confidence)
    return label_pair(session.pairs[number], session.cameras, keypoints, confidence, source.skeleton, settings)


def _append_labels(
    writer: ArtifactWriter, config: Triangulate, source: Source, session: _Session, block: Moments, tally: LabelTally
) -> None:
    who = source.person(block)
    found = []
    for number in session.used:
        if (who, number) not in session.scales:
            continue
        pair = session.pairs[number]
        labels = _labels(config, source, session, number, block, session.scales[who, number])
        if config.steady_views:
            labels = steady_pair(
                pair,
                session.cameras,
                labels,
                torch.from_numpy(block.keypoints),
                torch.from_numpy(block.frame),
                session.bones[who, number],
            )
        found.append((pair, labels))
        seen = np.asarray((block.confidence[:, [pair.first, pair.second]] > 0).any(axis=2))
        both = seen[:, 0] & seen[:, 1]
        share = tally.frames[session.name, number]
        share[0] += int((labels.frames_ok.numpy() & both).sum())
        share[1] += int(both.sum())
    by_rig = _by_rig(config, session, block)
    for camera in range(len(session.records)):
        generators = [
            np.random.default_rng((config.seed, _CHOICE, camera, *(int(part) for part in key)))
            for key in zip(block.sequence, block.person, block.frame, strict=True)
        ]
        labels_of = merge_views(camera, found, block.keypoints, source.skeleton, config.merge, generators)
        if labels_of is not None:
            _append_view(writer, session, block, camera, labels_of, tally)
            _compare(session, block, camera, labels_of, by_rig, tally)


def _append_view(
    writer: ArtifactWriter, session: _Session, block: Moments, camera: int, labels: ViewLabels, tally: LabelTally
) -> None:
    seen = (block.confidence[:, camera] > 0).any(axis=1)
    if not seen.any():
        return
    labels = ViewLabels(labels.joints[seen], labels.partner[seen], labels.ok[seen])
    joints = torch.from_numpy(labels.joints)[None]
    view = session.cameras.to(dtype=torch.float64)[[camera]]
    pixels = view.project_camera(joints.flatten(1, 2)).reshape((*joints.shape[1:-1], 2)).numpy()
    error = np.linalg.norm(pixels - block.keypoints[seen, camera], axis=-1)
    row = int(session.rows[camera])
    tally.add(row, labels, error, block.confidence[seen, camera] > 0)
    count = len(labels.ok)
    writer.append(
        "samples",
        {
            "sequence": block.sequence[seen],
            "frame": block.frame[seen],
            "person": block.person[seen],
            "camera": np.full(count, row),
            "partner": np.where(labels.partner < 0, labels.partner, session.rows[labels.partner]),
            "joints3d": labels.joints,
            "pixels": pixels,
            "weights": np.isfinite(labels.joints).all(axis=-1),
            "error_px": error,
            "ok": labels.ok,
        },
    )


def _by_rig(config: Triangulate, session: _Session, block: Moments) -> np.ndarray | None:
    """World joints (T, J, 3) of a block by all known cameras, to compare with; None where nothing can be learned from it."""
    if config.cameras == "known" or not all(camera.posed for camera in session.records):
        return None
    found, _ = points_of(config, session.cameras, block)
    return np.asarray(found.points.numpy())


def _compare(
    session: _Session, block: Moments, camera: int, labels: ViewLabels, by_rig: np.ndarray | None, tally: LabelTally
) -> None:
    chosen = labels.ok & (block.confidence[:, camera] > 0).any(axis=1)
    if tally.truth is not None:
        row = np.full(int(chosen.sum()), session.rows[camera])
        keys = Keys(block.sequence[chosen], block.frame[chosen], block.person[chosen], row)
        tally.agreement["truth"].add(labels.joints[chosen], tally.truth.read(keys))
    elif by_rig is not None:
        record = session.records[camera]
        reference = by_rig[chosen] @ record.rotation.T + record.translation
        tally.agreement["rig"].add(labels.joints[chosen], reference)


def _append_pairs(writer: ArtifactWriter, session: _Session) -> None:
    pairs = session.pairs
    scale_of = [[scale for (_, n), scale in session.scales.items() if n == number] for number in range(len(pairs))]
    scales = [float(np.mean(values)) if values else float("nan") for values in scale_of]
    writer.append(
        "pairs",
        {
            "session": [session.name] * len(pairs),
            "first": [session.rows[pair.first] for pair in pairs],
            "second": [session.rows[pair.second] for pair in pairs],
            "fundamental": np.stack([pair.fundamental.numpy() for pair in pairs]),
            "rotation": np.stack([pair.rotation.numpy() for pair in pairs]),
            "translation": np.stack(
                [scale * pair.translation.numpy() for scale, pair in zip(scales, pairs, strict=True)]
            ),
            "scale": scales,
            "matches": [pair.quality.matches for pair in pairs],
            "inlier_ratio": [pair.quality.inlier_ratio for pair in pairs],
            "homography_ratio": [pair.quality.homography_ratio for pair in pairs],
            "sampson_px": [pair.quality.median_error_px for pair in pairs],
            "ok": [not pair.weakness for pair in pairs],
        },
    )


def _weaknesses(sessions: Sequence[_Session]) -> list[str]:
    return [
        f"{session.records[pair.first].name} - {session.records[pair.second].name}: {pair.weakness}"
        for session in sessions
        for pair in session.pairs
        if pair.weakness
    ]


def _facts(config: Triangulate, sessions: Sequence[_Session], tally: LabelTally) -> dict[str, Any]:
    counts = dict(tally.counts)
    views, joints = max(counts["views"], 1), max(counts["joints"], 1)
    every = np.concatenate([part for parts in tally.errors for part in parts])
    metrics = {
        "views_ok_percent": 100.0 * (1.0 - counts["views not ok"] / views),
        "joints_ok_percent": 100.0 * (1.0 - counts["joints dropped"] / joints),
        "reprojection_median_px": float(np.median(every)),
    }
    turns = [_turned(session, pair) for session in sessions for pair in session.pairs if not pair.weakness]
    known = [turn for turn in turns if turn is not None]
    if config.cameras == "intrinsics" and known:
        metrics["rotation_error_median_deg"] = float(np.median(known))
    for against, agreement in tally.agreement.items():
        metrics |= agreement.metrics(against)
    return {
        "cameras_used": config.cameras,
        "world": "each view's own camera",
        "metrics": metrics,
        "counts": counts,
        "notes": [f"not used: {weakness}" for weakness in _weaknesses(sessions)],
        "pairs": [
            _pair_row(session, number, tally.frames[session.name, number])
            for session in sessions
            for number in range(len(session.pairs))
        ],
    }


def _pair_row(session: _Session, number: int, frames: Sequence[int]) -> list[str]:
    pair, quality = session.pairs[number], session.pairs[number].quality
    turned = _turned(session, pair)
    return [
        session.name,
        session.records[pair.first].name,
        session.records[pair.second].name,
        f"{quality.inliers} of {quality.matches}",
        f"{quality.median_error_px:.2f}",
        f"{quality.median_angle_deg:.0f}",
        "" if turned is None else f"{turned:.2f}",
        f"{100.0 * frames[0] / frames[1]:.1f} %" if frames[1] else "not used",
    ]


def _turned(session: _Session, pair: PairGeometry) -> float | None:
    """By how many degrees the pair's rotation differs from the known one; None where it is not known."""
    if not (session.records[pair.first].posed and session.records[pair.second].posed):
        return None
    rotations = [torch.from_numpy(session.records[i].rotation) for i in (pair.first, pair.second)]
    difference = pair.rotation @ (rotations[1] @ rotations[0].T).T
    return float(torch.rad2deg(torch.arccos(((difference.trace() - 1.0) / 2.0).clamp(-1.0, 1.0))))
