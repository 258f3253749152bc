"""Compares fitted bodies with true ones, vertex by vertex: their shape in space, and where they fall in the image."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posekit.artifacts.files import Artifact
from posekit.body.model import BodyModel
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.errors import DataError, InputError
from posekit.evaluation.comparison import (
    NO_TRUTH,
    PIXEL_UNIT,
    Resampling,
    pixel_scale,
    resampled_groups,
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

_SAMPLES_AT_ONCE = 128


@dataclass(frozen=True)
class Bodies:
    """What is compared: fits (or predictions, which have the same form) with the truth, both of one body model."""

    fits: Artifact
    truth: Artifact
    body: SegmentScaledBody
    name: str = "fits"


def compare_vertices(dataset: Artifact, bodies: Bodies, protocol: Protocol, resampling: Resampling) -> Summary:
    """Errors of vertices of the samples that a protocol selects.

    `per_vertex_reconstruction` is the mean distance of vertices after the best similarity of each body, and
    `per_pixel_vertices` that of the vertices' projections, of all vertices, hidden or not. The truth is posed with the
    shape components and pose correctives of the same body model. Raises InputError where fits or truth belong to another
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
        self.model = BodyModel(bodies.body.body).to(bodies.body.template.device)
        _check_shapes(bodies.truth, self.model)
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
        self.pixel_errors: list[np.ndarray] = []
        self.skipped: Counter[str] = Counter()

    def add(self, rows: slice) -> None:
        keys = Keys.read(self.dataset, "samples", rows)
        inside = self.wanted[keys.sequence, keys.camera] & (keys.frame % self.protocol.stride == 0)
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
        _, seen = self.views.seen(points, repeated, weak, keys.camera)
        true_seen = self.optics.pixels(self.true_poses.camera_from_world(true_points, keys.camera), keys.camera)
        distances = per_pixel_error(torch.from_numpy(seen), torch.from_numpy(true_seen)).mean(-1).numpy()
        known = self.true_poses.known[keys.camera]
        self.pixel_errors.append(np.where(known, distances * pixels_per_pixel, np.nan))

    @torch.no_grad()
    def _true(self, rows: Int[np.ndarray, "T"]) -> Float[Tensor, "T V 3"]:
        table = self.bodies.truth.table("bodies", rows)
        device = self.model.template.device
        betas, pose, translation = (
            torch.from_numpy(table[name]).to(device) for name in ("betas", "pose", "translation")
        )
        return self.model(betas, pose, translation).vertices

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
                "alignment": "procrustes",
                "interval_from": groups.unit_name,
                "pixel_unit": PIXEL_UNIT,
            },
            samples=sample_errors(tables, keys),
        )


def _check_shapes(truth: Artifact, model: BodyModel) -> None:
    betas, pose = truth.read("bodies", "betas", slice(0, 1)), truth.read("bodies", "pose", slice(0, 1))
    if len(pose) and (betas.shape[1] != model.shape_count or pose.shape[1] != model.joint_count):
        raise InputError(
            f"{truth.path} was made with another body model",
            got=f"{betas.shape[1]} shape components, {pose.shape[1]} joints",
            accepted=f"{model.shape_count} shape components, {model.joint_count} joints",
            hint="Give the body of the truth with --body",
        )
