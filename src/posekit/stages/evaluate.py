"""`posekit eval`: labels and fits against the ground truth of a data set, by a published protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import DATASET, FITS, JOINTS3D, TRUTH
from posekit.atomic import replacing
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.config.base import beside
from posekit.config.results import Evaluate
from posekit.errors import InputError
from posekit.evaluation.comparison import Resampling, compare_joints
from posekit.evaluation.predictions import FitSource, LabelSource
from posekit.evaluation.protocols import METRIC_OF_ALIGNMENT, Protocol, protocol_by_name
from posekit.evaluation.report import Summary
from posekit.evaluation.vertices import compare_vertices
from posekit.records import cameras_from_columns
from posekit.stages.device import resolve_device
from posekit.stages.report import (
    StageReport,
    Table,
    input_digests,
    open_optional,
    optional_input,
    require_same_source,
)

STAGE = "eval"
_LOW_COVERAGE = 0.95


def evaluate(settings: Evaluate) -> StageReport:
    """Writes `results/NAME.json` with every figure and the whole protocol; skips the work when that is there already.

    Raises InputError when there is nothing to evaluate or no ground truth, or when labels or fits were made from another
    version of the data set.
    """
    protocol = protocol_by_name(settings.protocol)
    output = settings.output or beside(settings.dataset, "results", ".json")
    joints_path = optional_input(settings.joints3d, beside(settings.dataset, "labels", ".joints3d.h5"))
    fits_path = optional_input(settings.fits, beside(settings.dataset, "fits", ".h5"))
    with ExitStack() as stack:
        dataset = stack.enter_context(Artifact(settings.dataset, DATASET))
        joints3d, fits, truth = (
            artifact if artifact is None else stack.enter_context(artifact)
            for artifact in (
                open_optional(joints_path, JOINTS3D),
                open_optional(fits_path, FITS),
                open_optional(settings.truth, TRUTH),
            )
        )
        for made_from in (joints3d, fits):
            if made_from is not None:
                require_same_source(made_from, "dataset", dataset)
        if joints3d is None and fits is None:
            raise InputError(
                "nothing to evaluate",
                got=f"neither labels nor fits of {settings.dataset}",
                hint="Run `posekit triangulate` or `posekit register` first, or name a file with --joints3d or --fits",
            )
        digests = input_digests(dataset=dataset, joints3d=joints3d, fits=fits, truth=truth)
        header = Header("result", STAGE, settings.settings(), digests, seed=settings.seed)
        earlier = None if settings.force else _earlier(output, header)
        if earlier is not None:
            return _report(output, earlier, protocol, skipped=True)
        if settings.dry_run:
            names = [artifact.path.name for artifact in (joints3d, fits) if artifact is not None]
            note = f"would compare {' and '.join(names)} with {settings.dataset.name} by protocol {protocol.name}"
            return StageReport(STAGE, [], notes=[note])
        summaries = _summaries(settings, protocol, dataset, joints3d, fits, truth)
    result = _result(settings, header, protocol, summaries)
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return _report(output, result, protocol, skipped=False)


def _summaries(
    settings: Evaluate,
    protocol: Protocol,
    dataset: Artifact,
    joints3d: Artifact | None,
    fits: Artifact | None,
    truth: Artifact | None,
) -> dict[str, Summary]:
    resampling = Resampling(settings.bootstrap, settings.seed)
    cameras = cameras_from_columns(dataset.table("cameras"))
    summaries = {}
    if joints3d is not None:
        summaries["joints3d"] = compare_joints(dataset, LabelSource(joints3d, cameras), protocol, resampling)
    if fits is not None:
        body = SegmentScaledBody(load_body(settings.body)).to(resolve_device(settings.device))
        source = FitSource(fits, cameras, body, dataset.skeleton)
        summaries["fits"] = compare_joints(dataset, source, protocol, resampling)
        if truth is not None:
            summaries["fits_vertices"] = compare_vertices(dataset, fits, truth, body, resampling)
    return summaries


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


def _earlier(output: Path, header: Header) -> dict[str, Any] | None:
    """The result that is there already, if it was made by the same settings from the same inputs."""
    try:
        content = json.loads(output.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(content, dict) and {"fingerprint", "results", "tables"} <= set(content)
    return content if whole and content["fingerprint"] == header.fingerprint() else None


def _report(output: Path, result: Mapping[str, Any], protocol: Protocol, *, skipped: bool) -> StageReport:
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
    notes.append(f"Published figure of protocol {protocol.name}: {METRIC_OF_ALIGNMENT[protocol.headline]}.")
    return StageReport(
        STAGE,
        [output],
        skipped=skipped,
        metrics=metrics,
        counts=counts,
        notes=notes,
        tables=_shown(result["tables"]),
    )


def _shown(tables: Mapping[str, Sequence[Sequence[Any]]]) -> list[Table]:
    return [Table(title, columns, rows) for parts in tables.values() for title, columns, rows in parts]
