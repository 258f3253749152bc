"""What `posekit register` is to fit, and how, from its config and inputs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import CORRESPONDENCES, DATASET, FITS, JOINTS3D
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.config.base import beside
from posekit.config.labels import Register
from posekit.errors import ConfigError, DataError, InputError
from posekit.labeling.lifting import Lifter, load_lifter
from posekit.records import Camera, cameras_from_columns
from posekit.registration.bodies import BodyRows, bodies_of, of_split
from posekit.registration.depths import labelled_landmarks
from posekit.registration.fitting import FitterSettings, vertex_parts
from posekit.registration.labels import LabelSource
from posekit.registration.landmarks import LandmarkBlends
from posekit.registration.losses import Weights
from posekit.registration.solver import SolverSettings, Stiffness
from posekit.registration.verdicts import VerdictRules
from posekit.registration.warm import StartReader
from posekit.skeleton.catalog import COMMON14
from posekit.skeleton.mapping import joint_map
from posekit.stages.report import input_digests, open_optional, optional_input, require_same_source

_INSTANTS_FOR_ONE_SHAPE = 10


@dataclass(frozen=True, eq=False)
class Inputs:
    """The opened inputs; `lifter` is loaded on the CPU, where its share of the work is small."""

    dataset: Artifact
    joints3d: Artifact | None
    dense: Artifact | None
    start: Artifact | None
    lifter: Lifter | None
    lifter_asked: bool

    def digests(self) -> dict[str, str]:
        """Digests of what is there, by role."""
        found = input_digests(dataset=self.dataset, joints3d=self.joints3d, dense=self.dense, start=self.start)
        return found | ({} if self.lifter is None else {"lifter": self.lifter.digest})


def open_inputs(config: Register, stack: ExitStack) -> Inputs:
    """Opens what the config names and what lies in the usual places; `stack` closes it.

    Raises InputError for labels and starts that were made from another data set.
    """
    dataset = stack.enter_context(Artifact(config.dataset, DATASET))
    joints_path = config.joints3d
    # Old 3D joints in the usual place must not stop a registration that does not look at them.
    if config.camera != "weak" or config.depths not in ("lifter", "none"):
        joints_path = optional_input(joints_path, beside(config.dataset, "labels", ".joints3d.h5"))
    dense_path = optional_input(config.dense, beside(config.dataset, "labels", ".dense.h5"))
    joints3d, dense = open_optional(joints_path, JOINTS3D), open_optional(dense_path, CORRESPONDENCES)
    start = open_optional(config.start, FITS)
    for artifact in (joints3d, dense, start):
        if artifact is not None:
            stack.enter_context(artifact)
            _check_source(artifact, dataset)
    asked = config.lifter is not None or config.depths == "lifter"
    if asked and config.depths in ("joints3d", "none"):
        raise ConfigError("settings exclude each other", got=f"--lifter and --depths {config.depths}")
    if asked and config.depths == "auto" and config.joints3d is not None:
        raise ConfigError(
            "depths cannot come from --lifter and from --joints3d", hint="Choose: --depths lifter or joints3d"
        )
    wanted = asked or (config.depths == "auto" and joints3d is None)
    folder = optional_input(config.lifter, config.dataset.parent.parent / "runs" / "lifter")
    if asked and folder is None:
        raise ConfigError(
            "no lifter to take depths from",
            got=config.depths,
            hint="Run `posekit train lifter`, or name one: --lifter RUN",
        )
    # A folder that is only about to become a lifter does not count unless it was asked for.
    finished = folder is not None and (asked or (folder / "model.safetensors").is_file())
    lifter = load_lifter(folder, torch.device("cpu")) if folder is not None and wanted and finished else None
    return Inputs(dataset, joints3d, dense, start, lifter, asked)


def _check_source(artifact: Artifact, dataset: Artifact) -> None:
    # Correspondences made beside raw data know names instead of the rows of a data set.
    if "sequence_names" not in artifact.header.facts:
        require_same_source(artifact, "dataset", dataset)


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be fitted, and how: `camera` is perspective or weak, `views` joint or single."""

    camera: str
    views: str
    inputs: Inputs
    source: LabelSource
    landmarks: LandmarkBlends
    bodies: BodyRows
    persons: Int[np.ndarray, " N"] | None
    starts: StartReader | None

    @property
    def without_start(self) -> int:
        """How many bodies have no start although there are starts."""
        return 0 if self.starts is None else int((self.starts.find(self.bodies) < 0).sum())


def make_plan(config: Register, body: SegmentScaledBody, inputs: Inputs) -> Plan:
    """The plan; ConfigError for settings that exclude each other, DataError where nothing can be fitted."""
    dataset = inputs.dataset
    _check_body(body, inputs.dense, "correspondences")
    _check_body(body, inputs.start, "start")
    cameras = _cameras(dataset, inputs.joints3d)
    posed = np.array([camera.posed for camera in cameras], dtype=bool)
    camera, views = _camera_and_views(config, inputs, posed)
    weak = camera == "weak"
    if inputs.lifter_asked and not weak:
        raise ConfigError(
            "a lifter gives depths under weak perspective only", got=f"--camera {camera}", accepted="weak"
        )
    # What is not looked at must not count as an input.
    if weak and (inputs.lifter is not None or config.depths in ("lifter", "none")):
        inputs = replace(inputs, joints3d=None)
    elif not weak:
        inputs = replace(inputs, lifter=None)
    usable = np.ones_like(posed) if weak else posed
    bodies = bodies_of(dataset, joint_views=views == "joint", usable=usable, stride=config.stride)
    bodies = bodies.select(of_split(dataset, bodies, config.split))
    if not len(bodies):
        raise DataError(f"{config.dataset} has no sample that can be fitted", got=f"{dataset.rows('samples')} samples")
    skeletons = [artifact.skeleton for artifact in (dataset, inputs.joints3d) if artifact is not None]
    landmarks = labelled_landmarks(body, skeletons, inputs.lifter)
    source = LabelSource(
        dataset,
        cameras,
        inputs.joints3d,
        inputs.dense,
        landmarks.names,
        weak,
        config.noise_px,
        config.seed,
        lifter=inputs.lifter,
        max_points=config.max_points,
        vertex_part=vertex_parts(body.body),
    )
    starts = None if inputs.start is None else StartReader(inputs.start)
    return Plan(camera, views, inputs, source, landmarks, bodies, _persons(config, dataset, bodies), starts)


def _camera_and_views(config: Register, inputs: Inputs, posed: np.ndarray) -> tuple[str, str]:
    started = {} if inputs.start is None else inputs.start.header.facts
    camera: str = config.camera
    if camera == "auto":
        usual = "weak" if inputs.lifter_asked or not posed.any() else "perspective"
        camera = str(started.get("camera", usual))
    if camera == "perspective" and not posed.any():
        raise DataError(
            "perspective fits need posed cameras, and none is posed",
            got=config.dataset,
            hint="Run `posekit triangulate --cameras intrinsics` first, or use --camera weak",
        )
    usual = "joint" if camera == "perspective" else "single"
    views = config.views if config.views != "auto" else str(started.get("views", usual))
    if camera == "weak" and views == "joint":
        raise ConfigError(
            "weak perspective has one view per body", got="--camera weak --views joint", accepted="single"
        )
    for name, ours in (("camera", camera), ("views", views)):
        if started and started.get(name, ours) != ours:
            raise ConfigError(
                f"the start has another --{name} than these fits",
                got=f"{config.start}: {started[name]}",
                accepted=ours,
                hint=f"Give --{name} {started[name]}, or another --start",
            )
    return camera, views


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
    if config.shape == "auto" and dataset.header.facts.get("stills"):
        # Pictures that do not follow one another show other people.
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


def _check_body(body: SegmentScaledBody, artifact: Artifact | None, role: str) -> None:
    # Vertex numbers and poses mean nothing on another body.
    if artifact is None:
        return
    meant = artifact.header.facts.get("body" if role == "start" else "body_digest")
    if meant is not None and meant != body.body.digest:
        raise InputError(
            f"the {role} in {artifact.path} is of another body",
            got=f"digest {body.body.digest[:12]}",
            accepted=str(meant)[:12],
            hint="Give the body that it was made with: --body FILE",
        )


def fitter_settings(config: Register, plan: Plan) -> FitterSettings:
    """How the plan's bodies are fitted."""
    starts_near = plan.camera == "perspective" and (plan.views == "joint" or plan.source.joints3d is not None)
    stiff: Stiffness = ("none" if starts_near else "anneal") if config.stiff == "auto" else config.stiff
    solver = SolverSettings(
        weights=_weights(config, plan),
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
    warm = replace(solver, lr=config.lr_warm, stiff="none" if config.stiff == "auto" else config.stiff)
    rules = VerdictRules(
        config.max_residual_px, config.min_joints, config.min_points, config.min_parts, _needed(config, plan)
    )
    starts = 1 if starts_near else config.starts
    return FitterSettings(solver, rules, starts, config.batch, warm=warm, compete=config.compete)


def _weights(config: Register, plan: Plan) -> Weights:
    return Weights(
        dense=config.w_dense,
        keypoints=config.w_keypoints,
        depth=config.w_depth,
        joints3d=config.w_joints3d,
        scale=config.w_scale,
        pose=config.w_pose,
        hinge=config.w_hinge,
        det=config.w_det,
        size=config.w_size if plan.camera == "perspective" else 0.0,
        shape=config.w_shape,
        temporal=config.w_temporal,
        limits=config.limits,
        squared_limits=config.squared_limits,
    )


def _needed(config: Register, plan: Plan) -> tuple[int, ...]:
    """The landmarks that the 14 shared key points are made from, where all of them are required."""
    if config.require == "either":
        return ()
    skeleton = plan.inputs.dataset.skeleton
    used = np.asarray(joint_map(skeleton, COMMON14, require_all=True).matrix.any(axis=0))
    names: Sequence[str] = [name for name, there in zip(skeleton.joints, used, strict=True) if there]
    return tuple(plan.landmarks.names.index(name) for name in names)


def output_of(config: Register) -> Path:
    """Where the fits go."""
    return config.output or beside(config.dataset, "fits", ".h5")
