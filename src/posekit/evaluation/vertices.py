"""Compares fitted bodies with true ones, vertex by vertex: their shape in space, and where they fall in the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.body.gendered import digests_of
from posekit.body.landmarks import regressor
from posekit.body.model import BodyModel
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import BodyData
from posekit.errors import DataError, InputError
from posekit.evaluation.comparison import (
    NO_TRUTH,
    PIXEL_UNIT,
    Resampling,
    pixel_scale,
    resampled_groups,
    wanted_samples,
    wanted_views,
)
from posekit.evaluation.keys import ALL_VIEWS, Keys, RowIndex
from posekit.evaluation.metrics import per_pixel_error, per_vertex_error
from posekit.evaluation.predictions import FitViews, Optics, Poses, check_same_body
from posekit.evaluation.protocols import Protocol
from posekit.evaluation.report import ErrorTable, Summary, sample_errors, summarize
from posekit.progress import track
from posekit.records import cameras_from_columns, clips_from_columns
from posekit.registration.posing import posed_bodies
from posekit.skeleton.catalog import H36M17

_SAMPLES_AT_ONCE = 128
_PREDICTED = "neutral"
"""The gender of predicted bodies, and of all where the truth tells none."""


@dataclass(frozen=True)
class Bodies:
    """What is compared: fits (or predictions, which have the same form) with the truth.

    Both are of one body model, unless `gendered` gives those of the truth by gender. The regressor of the pelvis, by which
    vertices are aligned, is the body's or that of `regressor_file`.
    """

    fits: Artifact
    truth: Artifact
    body: SegmentScaledBody
    name: str = "fits"
    gendered: Mapping[str, BodyData] = field(default_factory=dict)
    regressor_file: Path | None = None


def compare_vertices(dataset: Artifact, bodies: Bodies, protocol: Protocol, resampling: Resampling) -> Summary:
    """Errors of vertices of the samples that a protocol selects.

    `per_vertex` is the mean distance of vertices after the pelvis of Human3.6M's regressor is brought to the same place
    (PVE; only for bodies with such a regressor), `per_vertex_reconstruction` that after the best similarity of each body,
    and `per_pixel_vertices` that of the vertices' projections, of all vertices, hidden or not. The truth is posed with the
    shape components and pose correctives of its body model. Raises InputError where fits or truth belong to another
    body, DataError where nothing is left to compare.
    """
    comparison = _VertexComparison(dataset, bodies, protocol)
    total = -(-dataset.rows("samples") // _SAMPLES_AT_ONCE)
    title = f"eval {bodies.name}, vertices"
    for rows in track(dataset.blocks("samples", _SAMPLES_AT_ONCE), title, total=total, unit="block"):
        comparison.add(rows)
    return comparison.summary(resampling)


class _VertexComparison:
    def __init__(self, dataset: Artifact, bodies: Bodies, protocol: Protocol) -> None:
        check_same_body(bodies.fits, bodies.body)
        self.dataset, self.bodies, self.protocol = dataset, bodies, protocol
        self.models = _true_models(bodies)
        self.pelvis = _pelvis_rows(bodies)
        cameras = cameras_from_columns(dataset.table("cameras"))
        self.clips = clips_from_columns(dataset.table("sequences"))
        self.wanted = wanted_views(protocol, self.clips, [camera.name for camera in cameras])
        self.views = FitViews(bodies.fits, cameras)
        self.true_index = RowIndex(Keys.read(bodies.truth, "bodies"))
        self.true_poses = Poses(cameras, cameras_from_columns(bodies.truth.table("cameras")))
        self.optics = Optics(cameras)
        numbers = {str(name): index for index, name in enumerate(bodies.truth.read("sequences", "name"))}
        self.true_numbers = np.array([numbers.get(clip.name, -1) for clip in self.clips], dtype=np.int64)
        self.keys: list[Keys] = []
        self.shape_errors: list[np.ndarray] = []
        self.rooted_errors: list[np.ndarray] = []
        self.pixel_errors: list[np.ndarray] = []
        self.skipped: Counter[str] = Counter()

    def add(self, rows: slice) -> None:
        keys = Keys.read(self.dataset, "samples", rows)
        inside = self.wanted[keys.sequence, keys.camera] & wanted_samples(self.dataset, self.protocol, keys, rows)
        keys = keys.at(inside)
        found = self.views.find(keys)
        in_truth = Keys(self.true_numbers[keys.sequence], keys.frame, keys.person, np.full(len(keys), ALL_VIEWS))
        true_rows = self.true_index.find(in_truth)
        reason = np.where(true_rows < 0, NO_TRUTH, found.reason)
        good = reason == ""
        self.skipped.update(reason[~good].tolist())
        if not good.any():
            return
        keys = keys.at(good)
        boxes = self.dataset.read("samples", "bbox", rows)[inside][good].astype(np.float64)
        self._measure(keys, found.rows[good], found.weak[good], true_rows[good], pixel_scale(boxes))
        self.keys.append(keys)

    def _measure(
        self,
        keys: Keys,
        rows: Int[np.ndarray, "N"],
        weak: Bool[np.ndarray, "N"],
        true_rows: Int[np.ndarray, "N"],
        pixels_per_pixel: Float[np.ndarray, "N"],
    ) -> None:
        used, which = np.unique(rows, return_inverse=True)
        true_used, true_which = np.unique(true_rows, return_inverse=True)
        fits = self.bodies.fits.table("fits", used)
        predicted, true = posed_bodies(fits, self.bodies.body).points, self._true(true_used)
        # Views of one fit share its error in space.
        pairs, pair = np.unique(np.stack([which, true_which]), axis=1, return_inverse=True)
        shape = per_vertex_error(predicted[pairs[0]], true[pairs[1]]).mean(-1).double().cpu().numpy()
        self.shape_errors.append(shape[pair.reshape(-1)])
        repeated = {name: values[which] for name, values in fits.items() if name in ("scale", "crop_from_image")}
        points, true_points = predicted.double().cpu().numpy()[which], true.double().cpu().numpy()[true_which]
        metric, seen = self.views.seen(points, repeated, weak, keys.camera)
        true_metric = self.true_poses.camera_from_world(true_points, keys.camera)
        true_seen = self.optics.pixels(true_metric, keys.camera)
        distances = per_pixel_error(torch.from_numpy(seen), torch.from_numpy(true_seen)).mean(-1).numpy()
        known = self.true_poses.known[keys.camera]
        self.pixel_errors.append(np.where(known, distances * pixels_per_pixel, np.nan))
        rooted = self._rooted(metric, true_metric, self._genders(true_used)[true_which])
        self.rooted_errors.append(np.where(known, rooted, np.nan))

    def _rooted(
        self, points: Float[np.ndarray, "N V 3"], true: Float[np.ndarray, "N V 3"], genders: np.ndarray
    ) -> Float[np.ndarray, "N"]:
        """Mean distances of vertices about their pelvis, each body's found by its own regressor."""
        if self.pelvis is None:
            return np.full(len(points), np.nan)
        rows = np.stack([self.pelvis[str(gender)] for gender in genders])
        shift = np.einsum("nv,nvd->nd", rows, true) - self.pelvis[_PREDICTED] @ points
        return np.asarray(np.linalg.norm(points + shift[:, None] - true, axis=-1).mean(-1))

    def _genders(self, rows: Int[np.ndarray, "T"]) -> np.ndarray:
        truth = self.bodies.truth
        if self.bodies.gendered and truth.has("bodies", "gender"):
            return np.asarray(truth.read("bodies", "gender", rows), dtype=str)
        return np.full(len(rows), _PREDICTED)

    @torch.no_grad()
    def _true(self, rows: Int[np.ndarray, "T"]) -> Float[Tensor, "T V 3"]:
        table, genders = self.bodies.truth.table("bodies", rows), self._genders(rows)
        device = self.bodies.body.template.device
        vertices = torch.empty((len(rows), self.bodies.body.vertex_count, 3), device=device)
        for gender in np.unique(genders):
            these = np.flatnonzero(genders == gender)
            betas, pose, translation = (
                torch.from_numpy(table[name][these]).to(device) for name in ("betas", "pose", "translation")
            )
            posed = self.models[str(gender)](betas, pose, translation).vertices
            vertices[torch.from_numpy(these).to(device)] = posed
        return vertices

    def summary(self, resampling: Resampling) -> Summary:
        if not self.keys:
            raise DataError(
                f"no vertices of {self.bodies.name} can be evaluated by protocol {self.protocol.name}",
                got=[f"{count} x {reason}" for reason, count in self.skipped.most_common()],
                hint="Leave --truth out, or name the truth of this data set",
            )
        keys = Keys.joined(self.keys)
        groups = resampled_groups(self.clips, keys.sequence, keys.frame)
        tables = [
            ErrorTable("per_vertex", np.concatenate(self.rooted_errors)[:, None]),
            ErrorTable("per_vertex_reconstruction", np.concatenate(self.shape_errors)[:, None]),
            ErrorTable("per_pixel_vertices", np.concatenate(self.pixel_errors)[:, None], unit="px", factor=1.0),
        ]
        tables = [table for table in tables if not np.isnan(table.errors).all()]
        return Summary(
            title=f"{self.bodies.name}, vertices, {self.protocol.title}",
            metrics=[summarize(table, groups, bootstrap=resampling.draws, seed=resampling.seed) for table in tables],
            evaluated=len(keys),
            skipped=dict(sorted(self.skipped.items())),
            facts={
                "protocol": self.protocol.to_dict(),
                "vertices": self.bodies.body.vertex_count,
                "alignment": {"per_vertex": "pelvis", "per_vertex_reconstruction": "procrustes"},
                "bodies_of_truth": digests_of(self.bodies.gendered) or {_PREDICTED: self.bodies.body.body.digest},
                "interval_from": groups.unit_name,
                "pixel_unit": PIXEL_UNIT,
            },
            samples=sample_errors(tables, keys),
        )


def _true_models(bodies: Bodies) -> dict[str, BodyModel]:
    """The models that the truth is posed with; InputError where they are not those that it was made with."""
    models = {_PREDICTED: bodies.body.body, **bodies.gendered}
    recorded = bodies.truth.header.facts.get("bodies")
    for gender, digest in (recorded or {}).items():
        if bodies.gendered and models[gender].digest != digest:
            raise InputError(
                f"{bodies.truth.path} was made with another {gender} body",
                got=f"{models[gender].source} (digest {models[gender].digest[:12]})",
                accepted=f"the body of digest {str(digest)[:12]}",
                hint="Give the bodies that the data set was preprocessed with: --body, --body-male, --body-female",
            )
    device = bodies.body.template.device
    made = {gender: BodyModel(body).to(device) for gender, body in models.items()}
    for model in made.values():
        if model.vertex_count != bodies.body.vertex_count:
            raise InputError(
                "the bodies of the truth are of another kind than the predicted ones",
                got=f"{model.vertex_count} vertices",
                accepted=f"{bodies.body.vertex_count} vertices",
            )
        _check_shapes(bodies.truth, model)
    return made


def _pelvis_rows(bodies: Bodies) -> dict[str, Float[np.ndarray, " V"]] | None:
    """For each gender the weights of the vertices that make the pelvis; None without a regressor."""
    models = {_PREDICTED: bodies.body.body, **bodies.gendered}
    if bodies.regressor_file is None and any(body.h36m_regressor is None for body in models.values()):
        return None
    row = H36M17.index("pelvis")
    return {gender: regressor(body, H36M17, bodies.regressor_file)[row] for gender, body in models.items()}


def _check_shapes(truth: Artifact, model: BodyModel) -> None:
    betas, pose = truth.read("bodies", "betas", slice(0, 1)), truth.read("bodies", "pose", slice(0, 1))
    if len(pose) and (betas.shape[1] != model.shape_count or pose.shape[1] != model.joint_count):
        raise InputError(
            f"{truth.path} was made with another body model",
            got=f"{betas.shape[1]} shape components, {pose.shape[1]} joints",
            accepted=f"{model.shape_count} shape components, {model.joint_count} joints",
            hint="Give the body of the truth with --body",
        )
