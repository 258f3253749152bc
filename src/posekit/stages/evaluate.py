"""`posekit eval`: labels, fits and predictions against the ground truth of a data set, by a published protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import DATASET, ERRORS, FITS, JOINTS3D, POSES, TRUTH, VIEW_LABELS
from posekit.atomic import replacing
from posekit.body.gendered import load_gendered
from posekit.body.landmarks import regressor
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import BodyData, load_body
from posekit.config.base import beside
from posekit.config.results import Evaluate
from posekit.config.threedpw import Evaluate3DPW
from posekit.errors import InputError
from posekit.evaluation.baseline import MeanPose
from posekit.evaluation.bone_lengths import with_canonical_length
from posekit.evaluation.comparison import Resampling, compare_joints
from posekit.evaluation.joint_chart import JointErrors, draw_joint_chart
from posekit.evaluation.pose_predictions import PoseSource
from posekit.evaluation.predictions import FitSource, LabelSource
from posekit.evaluation.protocols import METRIC_OF_ALIGNMENT, Protocol, narrowed, protocol_by_name
from posekit.evaluation.report import Summary
from posekit.evaluation.sample_errors import write_sample_errors
from posekit.evaluation.vertices import Bodies, compare_vertices
from posekit.evaluation.view_labels import ViewLabelSource
from posekit.records import cameras_from_columns
from posekit.skeleton.catalog import H36M17
from posekit.stages.device import resolve_device
from posekit.stages.report import (
    StageReport,
    Table,
    earlier_result,
    input_digests,
    open_one_of,
    optional_input,
    require_same_source,
)

STAGE = "eval"
_LOW_COVERAGE = 0.95
_KINDS = {"joints3d": (JOINTS3D, VIEW_LABELS), "fits": (FITS,), "predictions": (FITS, POSES)}


def evaluate(settings: Evaluate) -> StageReport:
    """Writes `results/NAME.json` with every figure and the whole protocol, and the errors of the single samples beside it.

    Skips the work when both are there already. Raises InputError when there is nothing to evaluate or no ground truth, or
    when labels, fits or predictions were made from another version of the data set.
    """
    protocol = narrowed(protocol_by_name(settings.protocol), settings.split)
    protocol = replace(protocol, scale_by=settings.nmpjpe_scale)
    output = settings.output or beside(settings.dataset, "results", ".json")
    with ExitStack() as stack:
        inputs = _open_inputs(settings, stack)
        header = Header("result", STAGE, settings.settings(), inputs.digests(), seed=settings.seed)
        errors_header = replace(header, kind="errors")
        earlier = None if settings.force else earlier_result(output, header, "tables")
        if earlier is not None and is_current(errors_path(output), errors_header):
            return _report(settings, output, earlier, protocol, skipped=True)
        if settings.dry_run:
            names = [
                *(artifact.path.name for artifact in inputs.evaluated.values()),
                *["the mean pose"] * settings.baseline,
            ]
            note = f"would compare {' and '.join(names)} with {settings.dataset.name} by protocol {protocol.name}"
            return StageReport(STAGE, [], notes=[note])
        if settings.canonical == "training":
            protocol = with_canonical_length(inputs.dataset, protocol)
        summaries = _summaries(settings, protocol, inputs)
        samples = {name: summary.samples for name, summary in summaries.items() if summary.samples is not None}
        write_sample_errors(errors_path(output), errors_header, inputs.dataset.table("sequences"), samples)
    result = _result(settings, header, protocol, summaries)
    with Artifact(errors_path(output), ERRORS) as written:
        result["errors"] = {"file": written.path.name, "digest": written.digest}
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return _report(settings, output, result, protocol, skipped=False)


def errors_path(result: Path) -> Path:
    """Where the errors of the single samples of a result stand."""
    return result.with_suffix(".errors.h5")


@dataclass(frozen=True)
class _Inputs:
    """What is opened: the data set, what is evaluated (by heading), and the truth of the vertices."""

    dataset: Artifact
    evaluated: Mapping[str, Artifact]
    truth: Artifact | None

    def digests(self) -> dict[str, str]:
        return input_digests(dataset=self.dataset, **self.evaluated, truth=self.truth)


def _open_inputs(settings: Evaluate, stack: ExitStack) -> _Inputs:
    dataset = stack.enter_context(Artifact(settings.dataset, DATASET))
    paths = {
        "joints3d": optional_input(settings.joints3d, beside(settings.dataset, "labels", ".joints3d.h5")),
        "fits": optional_input(settings.fits, beside(settings.dataset, "fits", ".h5")),
        "predictions": optional_input(settings.predictions, beside(settings.dataset, "predictions", ".h5")),
    }
    evaluated = {}
    for heading, path in paths.items():
        if path is not None and (not settings.headings or heading in settings.headings):
            evaluated[heading] = stack.enter_context(open_one_of(path, *_KINDS[heading]))
            require_same_source(evaluated[heading], "dataset", dataset)
    if not evaluated and not settings.baseline:
        raise InputError(
            "nothing to evaluate",
            got=f"neither labels nor fits nor predictions of {settings.dataset}",
            hint="Run `posekit triangulate`, `register` or `predict` first, or name a file with --joints3d, --fits or "
            "--predictions",
        )
    truth_path = optional_input(settings.truth, beside(settings.dataset, "labels", ".truth.h5"))
    truth = None if truth_path is None else stack.enter_context(Artifact(truth_path, TRUTH))
    if truth is not None and "dataset" in truth.header.inputs:
        require_same_source(truth, "dataset", dataset)
    return _Inputs(dataset, evaluated, truth)


def _summaries(settings: Evaluate, protocol: Protocol, inputs: _Inputs) -> dict[str, Summary]:
    resampling = Resampling(settings.bootstrap, settings.seed)
    dataset = inputs.dataset
    cameras = cameras_from_columns(dataset.table("cameras"))
    summaries = {}
    if "joints3d" in inputs.evaluated:
        labels = inputs.evaluated["joints3d"]
        source = LabelSource(labels, cameras) if labels.kind is JOINTS3D else ViewLabelSource(labels, cameras)
        summaries["joints3d"] = compare_joints(dataset, source, protocol, resampling)
    for heading, artifact in inputs.evaluated.items():
        if artifact.kind is POSES:
            poses = PoseSource(artifact, dataset.skeleton if protocol.skeleton is None else None, heading)
            summary = compare_joints(dataset, poses, protocol, resampling)
            summaries[heading] = replace(summary, facts={**summary.facts, "prediction": poses.facts})
    bodies = {heading: artifact for heading, artifact in inputs.evaluated.items() if artifact.kind is FITS}
    if bodies:
        body = SegmentScaledBody(load_body(settings.body)).to(resolve_device(settings.device))
        gendered, regressor_file = _release_bodies(settings)
    for heading, artifact in bodies.items():
        fitted = FitSource(artifact, cameras, body, dataset.skeleton, heading, regressor_file)
        summaries[heading] = compare_joints(dataset, fitted, protocol, resampling)
        if inputs.truth is not None:
            compared = Bodies(artifact, inputs.truth, body, heading, gendered, regressor_file)
            summaries[f"{heading}_vertices"] = compare_vertices(dataset, compared, protocol, resampling)
    if settings.baseline:
        mean_pose = MeanPose(dataset, protocol)
        summary = compare_joints(dataset, mean_pose, protocol, resampling)
        about = f"mean of {mean_pose.samples} training samples, joints about the root in the axes of the camera"
        summaries["mean-pose"] = replace(summary, facts={**summary.facts, "baseline": about})
    return summaries


def _release_bodies(settings: Evaluate) -> tuple[dict[str, BodyData], Path | None]:
    """The bodies that the truth of a release is made of, by gender, and the file of the regressor of its joints.

    Raises InputError where the joints of a release that are regressed from bodies cannot be had from the one at hand.
    """
    if not isinstance(settings, Evaluate3DPW):
        return {}, None
    bodies = load_gendered(settings.body, settings.body_male, settings.body_female)
    for body in bodies.values():
        regressor(body, H36M17, settings.regressor)
    return bodies, settings.regressor


def _result(settings: Evaluate, header: Header, protocol: Protocol, summaries: Mapping[str, Summary]) -> dict[str, Any]:
    return {
        "stage": STAGE,
        "posekit_version": header.version,
        "fingerprint": header.fingerprint(),
        "dataset": settings.dataset.name,
        "inputs": dict(header.inputs),
        "settings": dict(header.settings),
        "seed": settings.seed,
        "protocol": protocol.to_dict(),
        "results": {name: summary.to_dict() for name, summary in summaries.items()},
        "tables": {name: [list(table) for table in _tables(summary)] for name, summary in summaries.items()},
    }


def _tables(summary: Summary) -> list[tuple[str, list[str], list[list[str]]]]:
    parts = [("", summary.overall_table()), ("by joint", summary.joint_table()), ("by action", summary.action_table())]
    return [(f"{summary.title}{' ' if part else ''}{part}", *table) for part, table in parts if table[1]]


def _draw_chart(output: Path, result: Mapping[str, Any], protocol: Protocol) -> Path:
    """The errors of the single joints by the metric that is published, beside a result; from what the result says."""
    metric = METRIC_OF_ALIGNMENT[protocol.headline]
    measured = {
        heading: summary["metrics"][metric]
        for heading, summary in result["results"].items()
        if metric in summary["metrics"]
    }
    parts = [
        JointErrors(
            heading,
            {joint: mean for joint, mean in found["per_joint"].items() if mean is not None},
            found["quantiles_per_joint"],
        )
        for heading, found in measured.items()
    ]
    return draw_joint_chart(output.with_suffix(".joints.png"), parts, metric.replace("_", " "), "mm")


def _report(
    settings: Evaluate, output: Path, result: Mapping[str, Any], protocol: Protocol, *, skipped: bool
) -> StageReport:
    metrics, counts, notes = {}, {}, []
    for source, summary in result["results"].items():
        for name, metric in summary["metrics"].items():
            unit = {"%": "percent"}.get(metric["unit"], metric["unit"])
            if metric["mean"] is not None:
                metrics[f"{source}_{name}_{unit}"] = metric["mean"]
        counts[f"{source}: evaluated"] = summary["evaluated"]
        counts |= {f"{source}: {reason}": count for reason, count in summary["skipped"].items()}
        left_out = sum(summary["skipped"].values())
        if summary["evaluated"] < _LOW_COVERAGE * (summary["evaluated"] + left_out):
            notes.append(f"{source}: {left_out} samples were left out; the errors do not speak for them.")
        if source == "mean-pose" and METRIC_OF_ALIGNMENT[protocol.headline] != "mpjpe":
            notes.append("mean-pose: limbs average out in a mean, which rescaling makes worse; compare with its mpjpe.")
        if "prediction" in summary:
            notes.append(f"{source}: {summary['prediction']['scale']}.")
    notes.append(f"Published figure of protocol {protocol.name}: {METRIC_OF_ALIGNMENT[protocol.headline]}.")
    return StageReport(
        STAGE,
        [output, errors_path(output), *([_draw_chart(output, result, protocol)] if settings.histogram else [])],
        skipped=skipped,
        metrics=metrics,
        counts=counts,
        notes=notes,
        tables=_shown(result["tables"]),
    )


def _shown(tables: Mapping[str, Sequence[Sequence[Any]]]) -> list[Table]:
    return [Table(title, columns, rows) for parts in tables.values() for title, columns, rows in parts]
