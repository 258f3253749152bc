"""The cameras of one session made ready, and the joints that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posekit.camera_stack import stack_cameras
from posekit.config.labels import Triangulate
from posekit.errors import DataError, InputError
from posekit.geometry.cameras import Cameras
from posekit.geometry.transforms import fit_similarity
from posekit.geometry.triangulation import (
    TriangulatedPoints,
    TriangulationSettings,
    camera_matrices,
    focal_lengths,
    normalized_points,
    reprojection_errors,
    triangulate_robust,
)
from posekit.labeling.anthropometry import metric_scale
from posekit.labeling.rig import Rig, RigSettings, estimate_rig
from posekit.labeling.steadying import BonePrior, Evidence, measure_bones, point_information, steady_joints
from posekit.records import Camera, Clip
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.multiview import Moments, MultiviewIndex
from posekit.threads import one_thread_each

_AGREEMENT_MOMENTS = 2000
_LEAST_NOISE_PX = 0.01

Person = tuple[str, int]


@dataclass(frozen=True)
class Source:
    """What all sessions share: settings, data and names."""

    config: Triangulate
    index: MultiviewIndex
    cameras: Sequence[Camera]
    clips: Sequence[Clip]
    skeleton: Skeleton

    def person(self, moments: Moments) -> Person:
        """Who is seen in a block of one person: by subject, or by sequence where subjects have no names."""
        clip = self.clips[moments.sequence[0]]
        return clip.subject or clip.name, int(moments.person[0])

    def read(self, session: str, moments: np.ndarray) -> Moments:
        """Moments with the noise that a study asks for."""
        return with_noise(self.index.read(session, moments), self.config)


class Agreement(NamedTuple):
    """Mean and median distance (m) between joints from known and from found poses after one similarity, and of how many."""

    mean: float
    median: float
    joints: int
    frames: int


@dataclass(frozen=True)
class Session:
    """The cameras of one session as they are used, in the order of their rows, and where their poses came from.

    `rig` and `scale` (metres per unit of the rig) are those of poses found from intrinsics alone, `agreement` how
    well they agree with the known poses, where there are such.
    """

    name: str
    cameras: Cameras
    records: Sequence[Camera]
    rig: Rig | None = None
    scale: float = 1.0
    agreement: Agreement | None = None
    bones: dict[Person, BonePrior] = field(default_factory=dict)


def prepare_session(source: Source, name: str) -> Session:
    """A session with posed cameras of metric scale, and the bones of the people in it.

    Raises InputError where poses are needed and not known, DataError where nobody is seen twice or no reliable geometry can
    be had.
    """
    session = _with_cameras(source, name)
    if not source.config.steady:
        return session
    return replace(session, bones=_measured_bones(source, session))


def _with_cameras(source: Source, name: str) -> Session:
    config, index = source.config, source.index
    chosen = [source.cameras[row] for row in index.sessions[name]]
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
        return Session(name, stack_cameras(chosen), chosen)
    cameras = stack_cameras(chosen)
    pooled = source.read(name, spread(moments, config.pool_frames))
    rig = _found_rig(config, cameras, pooled, [camera.name for camera in chosen])
    scale = _scale(config, rig.cameras, pooled, source.skeleton)
    posed = replace(rig.cameras, translation=rig.cameras.translation * scale)
    session = Session(
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
    sample = source.read(name, spread(moments, _AGREEMENT_MOMENTS))
    return replace(session, agreement=_agreement(config, cameras, posed, sample))


def _found_rig(config: Triangulate, cameras: Cameras, pooled: Moments, names: list[str]) -> Rig:
    settings = pooling_settings(config, pooled)
    return estimate_rig(
        cameras, torch.from_numpy(pooled.keypoints), torch.from_numpy(pooled.confidence), names, settings
    )


def pooling_settings(config: Triangulate, pooled: Moments) -> RigSettings:
    """How the geometry of camera pairs is found from pooled moments."""
    settings = RigSettings(frames=config.pool_frames, seed=config.seed)
    return replace(
        settings,
        min_confidence=max(config.min_confidence, min(settings.min_confidence, _middling_confidence(pooled))),
        pose=replace(settings.pose, solver=config.pose_solver),
    )


def _middling_confidence(pooled: Moments) -> float:
    """Detectors disagree on what a confidence of one half means; never leave out more than the lower quarter."""
    seen = pooled.confidence[pooled.confidence > 0]
    return float(np.quantile(seen, 0.25)) if len(seen) else 0.0


def spread(moments: np.ndarray, count: int) -> np.ndarray:
    """At most `count` moments, evenly chosen."""
    return moments[np.unique(np.linspace(0, len(moments) - 1, min(count, len(moments))).round().astype(int))]


def with_noise(block: Moments, config: Triangulate) -> Moments:
    """Key points with the noise that a study asks for: the same for the same moment, whoever reads it."""
    if config.noise_px == 0:
        return block
    noisy = block.keypoints.copy()
    for i, key in enumerate(zip(block.sequence, block.person, block.frame, strict=True)):
        generator = np.random.default_rng([config.seed, *(int(part) for part in key)])
        noisy[i] += config.noise_px * generator.standard_normal(noisy[i].shape)
    return block._replace(keypoints=noisy)


def joints_of(
    config: Triangulate, session: Session, moments: Moments, bones: BonePrior | None
) -> tuple[TriangulatedPoints, TriangulatedPoints]:
    """Joints (T, J) of a block of one person, steadied where the lengths of the bones are known, and as they were before."""
    found, normalized = points_of(config, session.cameras, moments)
    if bones is None or not len(moments.frame):
        return found, found
    with one_thread_each():
        joints = steady_joints(_evidence(session.cameras, found), torch.from_numpy(moments.frame), bones)
    matrices, focal = camera_matrices(session.cameras), focal_lengths(session.cameras)
    error = reprojection_errors(matrices, joints, normalized, focal)
    steadied = found._replace(points=joints, error_px=torch.where(found.error_px.isnan(), torch.nan, error))
    return steadied, found


def points_of(
    config: Triangulate, cameras: Cameras, moments: Moments
) -> tuple[TriangulatedPoints, Float[Tensor, "T J C 2"]]:
    """Joints (T, J) with nothing assumed of bodies, and the observations; thresholds grow with the size of the images."""
    confidence = np.where(moments.confidence >= config.min_confidence, moments.confidence, 0.0)
    threshold = config.max_error_px * float(cameras.image_size.amax(dim=-1).mean()) / 1000.0
    settings = TriangulationSettings(threshold_px=threshold, huber_px=threshold / 4)
    normalized = normalized_points(cameras, torch.from_numpy(moments.keypoints).transpose(1, 2))
    weights = torch.from_numpy(confidence).transpose(1, 2)
    found = triangulate_robust(camera_matrices(cameras), normalized, weights, focal_lengths(cameras), settings)
    return found, normalized


def _evidence(cameras: Cameras, found: TriangulatedPoints) -> Evidence:
    errors = found.error_px[found.inliers]
    views = found.inliers.sum(dim=-1)[found.ok].double().mean() if bool(found.ok.any()) else torch.tensor(2.0)
    # Errors are what is left after fitting three numbers to two per view; their length has a Rayleigh distribution.
    left = ((2 * views - 3) / (2 * views)).clamp_min(0.25).sqrt()
    noise = float(errors.median() / (1.1774 * left)) if len(errors) else 1.0
    information = point_information(
        camera_matrices(cameras), found.points, found.inliers, focal_lengths(cameras), max(noise, _LEAST_NOISE_PX)
    )
    return Evidence(found.points, information)


def _measured_bones(source: Source, session: Session) -> dict[Person, BonePrior]:
    """The bones of everybody in a session, from moments spread over all that is seen of them."""
    index = source.index
    moments = index.moments(session.name)
    moments = moments[index.views(moments) > 1]
    sequences, people = index.sequence_of(moments), index.person_of(moments)
    subjects = np.array([source.clips[i].subject or source.clips[i].name for i in sequences])
    found = {}
    for subject, person in sorted({(str(s), int(p)) for s, p in zip(subjects, people, strict=True)}):
        own = moments[(subjects == subject) & (people == person)]
        sample = source.read(session.name, spread(own, source.config.pool_frames))
        points, _ = points_of(source.config, session.cameras, sample)
        found[subject, person] = measure_bones(_evidence(session.cameras, points), source.skeleton.bones)
    return found


def _scale(config: Triangulate, cameras: Cameras, pooled: Moments, skeleton: Skeleton) -> float:
    """Metres per unit of the rig: from a known baseline, or from the limbs of all people seen."""
    if config.baseline is not None:
        first, second = cameras.centers()[:2]
        return config.baseline / float(torch.linalg.vector_norm(first - second))
    joints = points_of(config, cameras, pooled)[0].points.numpy()
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


def _agreement(config: Triangulate, known: Cameras, found: Cameras, sample: Moments) -> Agreement | None:
    truth, ours = (points_of(config, cameras, sample)[0] for cameras in (known, found))
    both = truth.ok & ours.ok
    if int(both.sum()) < 4:
        return None
    fit = fit_similarity(ours.points[both], truth.points[both])
    distance = torch.linalg.vector_norm(fit.apply(ours.points[both]) - truth.points[both], dim=-1)
    frames = int(both.any(dim=-1).sum())
    return Agreement(float(distance.mean()), float(distance.median()), len(distance), frames)
