"""`posekit register`: fits the body to dense correspondences, key points and 3D joints."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import CORRESPONDENCES, DATASET, FITS, JOINTS3D
from posekit.artifacts.shards import ShardedArtifact
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.config.base import beside
from posekit.config.labels import Register
from posekit.errors import ConfigError, DataError, InputError
from posekit.progress import track
from posekit.records import Camera, camera_columns, cameras_from_columns
from posekit.registration.bodies import BodyRows, bodies_of
from posekit.registration.fitting import BodyFitter, FitterSettings, PersonShapes
from posekit.registration.labels import LabelReader, LabelSource
from posekit.registration.landmarks import landmark_blends
from posekit.registration.losses import LOSS_NAMES, Weights
from posekit.registration.solver import SolverSettings, Stiffness
from posekit.registration.verdicts import OK, VerdictRules
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.device import resolve_device
from posekit.stages.report import (
    StageReport,
    Table,
    input_digests,
    open_optional,
    optional_input,
    require_same_source,
)

STAGE = "register"

_SHARD_ROWS = 256
"""Also fixes which bodies are read together; runs with other batches give the same fits."""

_INSTANTS_FOR_ONE_SHAPE = 10


def register(config: Register) -> StageReport:
    """Writes `fits/NAME.h5`: one body per instant and person, or per image; skips work that is there already.

    A killed run is taken up where it stopped. Raises ConfigError for settings that exclude each other, InputError for
    labels that were made from another version of the data set, and DataError where no camera or sample can be used.
    """
    output = config.output or beside(config.dataset, "fits", ".h5")
    joints_path = optional_input(config.joints3d, beside(config.dataset, "labels", ".joints3d.h5"))
    dense_path = optional_input(config.dense, beside(config.dataset, "labels", ".dense.h5"))
    with ExitStack() as stack:
        dataset = stack.enter_context(Artifact(config.dataset, DATASET))
        joints3d, dense = open_optional(joints_path, JOINTS3D), open_optional(dense_path, CORRESPONDENCES)
        for artifact in (joints3d, dense):
            if artifact is not None:
                stack.enter_context(artifact)
                _check_source(artifact, dataset)
        body = SegmentScaledBody(load_body(config.body)).to(resolve_device(config.device))
        _check_body(body, dense)
        plan = _plan(config, body, dataset, joints3d, dense)
        header = _header(config, plan, body, input_digests(dataset=dataset, joints3d=joints3d, dense=dense))
        if not config.force and is_current(output, header):
            return _report(config, output, skipped=True)
        shards = ShardedArtifact(output, header, -(-len(plan.bodies) // _SHARD_ROWS))
        pending = list(range(shards.count)) if config.force else shards.pending()
        if config.dry_run:
            note = f"would fit {len(plan.bodies)} bodies ({plan.camera}, {plan.views}) in {len(pending)} shards of {_SHARD_ROWS}"
            return StageReport(STAGE, [], notes=[note])
        seconds = _fit_shards(config, plan, body, shards, pending)
        shards.join({"cameras": camera_columns(plan.source.cameras)})
    return _report(config, output, skipped=False, seconds=seconds)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is to be fitted, and how: `camera` is perspective or weak, `views` joint or single."""

    camera: str
    views: str
    source: LabelSource
    landmarks: LandmarkBlends
    bodies: BodyRows
    persons: Int[np.ndarray, " N"] | None


def _plan(
    config: Register, body: SegmentScaledBody, dataset: Artifact, joints3d: Artifact | None, dense: Artifact | None
) -> _Plan:
    cameras = _cameras(dataset, joints3d)
    posed = np.array([camera.posed for camera in cameras], dtype=bool)
    camera = config.camera if config.camera != "auto" else ("perspective" if posed.any() else "weak")
    if camera == "perspective" and not posed.any():
        raise DataError(
            "perspective fits need posed cameras, and none is posed",
            got=config.dataset,
            hint="Run `posekit triangulate --cameras intrinsics` first, or use --camera weak",
        )
    views = config.views if config.views != "auto" else ("joint" if camera == "perspective" else "single")
    if camera == "weak" and views == "joint":
        raise ConfigError(
            "weak perspective has one view per body", got="--camera weak --views joint", accepted="single"
        )
    usable = posed if camera == "perspective" else np.ones_like(posed)
    bodies = bodies_of(dataset, joint_views=views == "joint", usable=usable, stride=config.stride)
    if not len(bodies):
        raise DataError(f"{config.dataset} has no sample that can be fitted", got=f"{dataset.rows('samples')} samples")
    skeletons = [artifact.skeleton for artifact in (dataset, joints3d) if artifact is not None]
    landmarks = landmark_blends(body, *skeletons)
    source = LabelSource(
        dataset, cameras, joints3d, dense, landmarks.names, camera == "weak", config.noise_px, config.seed
    )
    return _Plan(camera, views, source, landmarks, bodies, _persons(config, dataset, bodies))


def _cameras(dataset: Artifact, joints3d: Artifact | None) -> list[Camera]:
    """The data set's cameras in its order; posed as 3D joints found them, where there are such."""
    cameras = cameras_from_columns(dataset.table("cameras"))
    if joints3d is None:
        return cameras
    found = {(camera.session, camera.name): camera for camera in cameras_from_columns(joints3d.table("cameras"))}
    return [found.get((camera.session, camera.name), replace(camera, posed=False)) for camera in cameras]


def _persons(config: Register, dataset: Artifact, bodies: BodyRows) -> Int[np.ndarray, " N"] | None:
    """The number of each body's person where persons keep one shape, else None."""
    if config.shape == "per-frame":
        return None
    subjects = dataset.read("sequences", "subject")
    labels = [
        f"{subjects[sequence] or f'#{sequence}'}/{person}"
        for sequence, person in zip(bodies.sequence, bodies.person, strict=True)
    ]
    _, numbers = np.unique(labels, return_inverse=True)
    if config.shape == "auto" and len(bodies) < _INSTANTS_FOR_ONE_SHAPE * (numbers.max() + 1):
        return None
    return numbers


def _check_source(artifact: Artifact, dataset: Artifact) -> None:
    # Correspondences made beside raw data know names instead of the rows of a data set.
    if "sequence_names" not in artifact.header.facts:
        require_same_source(artifact, "dataset", dataset)


def _check_body(body: SegmentScaledBody, dense: Artifact | None) -> None:
    # Vertex numbers mean nothing on another body.
    meant = None if dense is None else dense.header.facts.get("body_digest")
    if dense is not None and meant is not None and meant != body.body.digest:
        raise InputError(
            f"the correspondences of {dense.path} name vertices of another body",
            got=f"digest {body.body.digest[:12]}",
            accepted=str(meant)[:12],
            hint="Give the body that they were made with: --body FILE",
        )


def _header(config: Register, plan: _Plan, body: SegmentScaledBody, inputs: dict[str, str]) -> Header:
    return Header(
        FITS.name,
        STAGE,
        settings=config.settings(),
        inputs=inputs | {"body": body.body.digest},
        skeleton=Skeleton("rig", body.body.joint_names, body.kinematics.parents),
        seed=config.seed,
        facts={
            "body": body.body.digest,
            "camera": plan.camera,
            "views": plan.views,
            "loss_names": list(LOSS_NAMES),
            "joint_names": list(body.body.joint_names),
        },
    )


def _fit_shards(
    config: Register, plan: _Plan, body: SegmentScaledBody, shards: ShardedArtifact, pending: Sequence[int]
) -> float:
    """Fits what is pending; the seconds that each body took."""
    began = time.monotonic()
    fitter = BodyFitter(body, plan.landmarks, LabelReader(plan.source), _fitter_settings(config, plan))
    shapes: PersonShapes | None = None
    if plan.persons is not None and pending:
        shapes = fitter.shapes(plan.bodies, plan.persons, config.shape_frames)
    for index in track(pending, "register", unit="shard"):
        rows = slice(index * _SHARD_ROWS, (index + 1) * _SHARD_ROWS)
        persons = None if plan.persons is None else plan.persons[rows]
        columns = fitter.columns(plan.bodies.select(rows), shapes, persons)
        with shards.writer(index) as writer:
            writer.append("fits", columns)
    fitted = sum(min(_SHARD_ROWS, len(plan.bodies) - index * _SHARD_ROWS) for index in pending)
    return (time.monotonic() - began) / max(1, fitted)


def _fitter_settings(config: Register, plan: _Plan) -> FitterSettings:
    starts_near = plan.camera == "perspective" and (plan.views == "joint" or plan.source.joints3d is not None)
    stiff: Stiffness = ("none" if starts_near else "anneal") if config.stiff == "auto" else config.stiff
    weights = Weights(
        dense=config.w_dense,
        keypoints=config.w_keypoints,
        joints3d=config.w_joints3d,
        scale=config.w_scale,
        pose=config.w_pose,
        hinge=config.w_hinge,
        det=config.w_det,
        size=config.w_size if plan.camera == "perspective" else 0.0,
        shape=config.w_shape,
        temporal=config.w_temporal,
        squared_limits=config.squared_limits,
    )
    solver = SolverSettings(
        weights=weights,
        iterations=config.iters,
        lr=config.lr,
        beta2=config.beta2,
        decay=config.decay,
        stiff=stiff,
        stiff_scale=config.stiff_scale,
        stiff_pose=config.stiff_pose,
        robust_px=config.robust_px or None,
        fit_betas=config.fit_betas,
    )
    rules = VerdictRules(config.max_residual_px, config.min_joints, config.min_points)
    return FitterSettings(solver, rules, 1 if starts_near else config.starts, config.batch)


def _report(config: Register, output: Path, *, skipped: bool, seconds: float | None = None) -> StageReport:
    with Artifact(output, FITS) as fits:
        ok, residual = fits.read("fits", "ok"), fits.read("fits", "residual_px")
        reasons = Counter(str(reason) for reason in fits.read("fits", "reason") if str(reason) != OK)
        facts = fits.header.facts
    metrics: dict[str, Any] = {"ok_share": float(ok.mean())}
    if ok.any():
        metrics["residual_px_mean"] = float(residual[ok].mean())
        metrics["residual_px_median"] = float(np.median(residual[ok]))
    if seconds is not None:
        metrics["seconds_per_body"] = seconds
    rows = [["ok", str(int(ok.sum()))], *([reason, str(count)] for reason, count in reasons.most_common())]
    notes = []
    if not ok.all():
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        notes.append(f"{int((~ok).sum())} of {len(ok)} bodies are not to be used: {listed}")
    return StageReport(
        STAGE,
        [output],
        skipped=skipped,
        metrics=metrics,
        counts={"bodies": len(ok), "ok": int(ok.sum()), **{f"not ok: {r}": n for r, n in reasons.items()}},
        notes=notes,
        tables=[Table(f"Fits ({facts['camera']} camera, {facts['views']} views)", ["outcome", "bodies"], rows)],
    )
