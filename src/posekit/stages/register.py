"""`posekit register`: fits the body to dense correspondences, key points, and 3D joints or lifted depths."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import FITS
from posekit.artifacts.shards import ShardedArtifact
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.config.labels import Register
from posekit.parallel import is_main, my_share, wait_for_all
from posekit.progress import track
from posekit.records import camera_columns
from posekit.registration.fitting import BodyFitter, PersonShapes
from posekit.registration.labels import LabelReader
from posekit.registration.losses import LOSS_NAMES
from posekit.registration.verdicts import OK
from posekit.skeleton.skeleton import Skeleton
from posekit.stages.device import resolve_device
from posekit.stages.registration_plan import Plan, fitter_settings, make_plan, open_inputs, output_of
from posekit.stages.report import StageReport, Table

STAGE = "register"

_SHARD_ROWS = 128
"""Also fixes which bodies are read together; runs with other batches, or of more processes, give the same fits."""


def register(config: Register) -> StageReport:
    """Writes `fits/NAME.h5`: one body per instant and person, or per image; skips work that is there already.

    A killed run is taken up where it stopped. Under torchrun every process fits its share of the shards. Raises ConfigError
    for settings that exclude each other, InputError for labels that were made from another version of the data set, and
    DataError where no camera or sample can be used.
    """
    output = output_of(config)
    with ExitStack() as stack:
        inputs = open_inputs(config, stack)
        body = SegmentScaledBody(load_body(config.body)).to(resolve_device(config.device))
        plan = make_plan(config, body, inputs)
        header = _header(config, plan, body)
        if not config.force and is_current(output, header):
            return _report(config, output, plan, skipped=True)
        shards = ShardedArtifact(output, header, -(-len(plan.bodies) // _SHARD_ROWS))
        pending = list(range(shards.count)) if config.force else shards.pending()
        if config.dry_run:
            note = f"would fit {len(plan.bodies)} bodies ({plan.camera}, {plan.views}) in {len(pending)} shards of {_SHARD_ROWS}"
            return StageReport(STAGE, [], notes=[note])
        # Nobody begins before all have seen the same shards pending, and nobody goes on before the result is there.
        wait_for_all()
        seconds = _fit_shards(config, plan, body, shards, my_share(pending))
        wait_for_all()
        if is_main():
            shards.join({"cameras": camera_columns(plan.source.cameras)})
        wait_for_all()
        return _report(config, output, plan, skipped=False, seconds=seconds)


def _header(config: Register, plan: Plan, body: SegmentScaledBody) -> Header:
    return Header(
        FITS.name,
        STAGE,
        settings=config.settings(),
        inputs=plan.inputs.digests() | {"body": body.body.digest},
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
    config: Register, plan: Plan, body: SegmentScaledBody, shards: ShardedArtifact, pending: Sequence[int]
) -> float:
    """Fits what is pending; the seconds that each body took."""
    began = time.monotonic()
    fitter = BodyFitter(body, plan.landmarks, LabelReader(plan.source), fitter_settings(config, plan), plan.starts)
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


def _report(config: Register, output: Path, plan: Plan, *, skipped: bool, seconds: float | None = None) -> StageReport:
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
    counts = {"bodies": len(ok), "ok": int(ok.sum()), **{f"not ok: {r}": n for r, n in reasons.items()}}
    if plan.starts is not None:
        counts["without start"] = plan.without_start
        if plan.without_start:
            notes.append(f"{plan.without_start} of {len(ok)} bodies are not in {config.start}, or not ok there: T-pose")
    return StageReport(
        STAGE,
        [output],
        skipped=skipped,
        metrics=metrics,
        counts=counts,
        notes=notes,
        tables=[Table(f"Fits ({facts['camera']} camera, {facts['views']} views)", ["outcome", "bodies"], rows)],
    )
