"""Compares fitted bodies with true ones, vertex by vertex."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from posekit.artifacts.files import Artifact
from posekit.body.model import BodyModel
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.errors import InputError
from posekit.evaluation.comparison import NO_TRUTH, Resampling, resampled_groups
from posekit.evaluation.metrics import per_vertex_error
from posekit.evaluation.predictions import ALL_VIEWS, NOT_TRUSTED, Keys, RowIndex, check_same_body
from posekit.evaluation.report import ErrorTable, Summary, summarize
from posekit.progress import track
from posekit.records import clips_from_columns
from posekit.registration.posing import posed_bodies

_BODIES_AT_ONCE = 64


def compare_vertices(
    dataset: Artifact, fits: Artifact, truth: Artifact, body: SegmentScaledBody, resampling: Resampling
) -> Summary:
    """Per-vertex reconstruction error of fits: the mean distance of vertices after the best similarity of each body.

    The truth is posed with the shape components and pose correctives of the same body model. Raises InputError where fits
    or truth belong to another body.
    """
    check_same_body(fits, body)
    model = BodyModel(body.body).to(body.template.device)
    _check_shapes(truth, model)
    clips = clips_from_columns(dataset.table("sequences"))
    keys = _in_truth_numbers(Keys.read(fits, "fits"), [clip.name for clip in clips], truth)
    rows = RowIndex(Keys.read(truth, "bodies")).find(keys)
    usable = fits.read("fits", "ok")
    good = np.flatnonzero(usable & (rows >= 0))
    errors = []
    for begin in track(range(0, len(good), _BODIES_AT_ONCE), "eval vertices", unit="block"):
        chosen = good[begin : begin + _BODIES_AT_ONCE]
        errors.append(_errors(fits.table("fits", chosen), truth.table("bodies", rows[chosen]), body, model))
    measured = np.concatenate(errors) if errors else np.zeros(0)
    sequence, frame = fits.read("fits", "sequence")[good], fits.read("fits", "frame")[good]
    groups = resampled_groups(clips, sequence.astype(np.int64), frame.astype(np.int64))
    table = ErrorTable("per_vertex_reconstruction", measured[:, None])
    skipped = Counter({NOT_TRUSTED: int((~usable).sum()), NO_TRUTH: int((usable & (rows < 0)).sum())})
    return Summary(
        title="fits, vertices",
        metrics=[summarize(table, groups, bootstrap=resampling.draws, seed=resampling.seed)],
        evaluated=len(good),
        skipped={reason: count for reason, count in skipped.items() if count},
        facts={"vertices": body.vertex_count, "alignment": "procrustes", "interval_from": groups.unit_name},
    )


def _errors(
    fits: dict[str, np.ndarray], bodies: dict[str, np.ndarray], body: SegmentScaledBody, model: BodyModel
) -> np.ndarray:
    device = model.template.device
    predicted = posed_bodies(fits, body).points
    betas, pose = (torch.from_numpy(bodies[name]).to(device) for name in ("betas", "pose"))
    with torch.no_grad():
        true = model(betas, pose).vertices
    return per_vertex_error(predicted, true).mean(-1).cpu().numpy()


def _in_truth_numbers(keys: Keys, names: list[str], truth: Artifact) -> Keys:
    """Keys with the sequence numbers of the truth, by the sequences' names; -1 where the truth lacks one."""
    numbers = {str(name): index for index, name in enumerate(truth.read("sequences", "name"))}
    renumbered = np.array([numbers.get(name, -1) for name in names], dtype=np.int64)
    sequence = renumbered[keys.sequence] if len(names) else keys.sequence
    return Keys(sequence, keys.frame, keys.person, np.full(len(keys), ALL_VIEWS))


def _check_shapes(truth: Artifact, model: BodyModel) -> None:
    betas, pose = truth.read("bodies", "betas", slice(0, 1)), truth.read("bodies", "pose", slice(0, 1))
    if len(pose) and (betas.shape[1] != model.shape_count or pose.shape[1] != model.joint_count):
        raise InputError(
            f"{truth.path} was made with another body model",
            got=f"{betas.shape[1]} shape components, {pose.shape[1]} joints",
            accepted=f"{model.shape_count} shape components, {model.joint_count} joints",
            hint="Give the body of the truth with --body",
        )
