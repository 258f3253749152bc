"""`posekit eval mpii`: PCKh of 2D key points against the labels of a data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from posekit.artifacts.files import Artifact, is_current
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import DATASET, ERRORS, KEYPOINTS, POSES
from posekit.atomic import replacing
from posekit.config.base import beside
from posekit.config.mpii import EvaluateMpii
from posekit.errors import InputError
from posekit.evaluation.comparison import Resampling
from posekit.evaluation.pckh import PckhProtocol, compare_keypoints, group_table
from posekit.evaluation.report import Summary
from posekit.evaluation.sample_errors import write_sample_errors
from posekit.stages.report import StageReport, Table, earlier_result, input_digests, optional_input, require_same_source

STAGE = "eval mpii"
_LOW_COVERAGE = 0.95


def evaluate_mpii(config: EvaluateMpii) -> StageReport:
    """Writes `results/NAME.json` with the whole protocol, and the shares of right joints of single people beside it.

    Skips the work when both are there already. Raises InputError when there is nothing to evaluate, when it was made from
    another version of the data set, or when that has no head sizes; DataError when nobody can be measured.
    """
    output = config.output or beside(config.dataset, "results", ".json")
    errors = output.with_suffix(".errors.h5")
    protocol = PckhProtocol(config.split, config.not_predicted)
    with ExitStack() as stack:
        dataset = stack.enter_context(Artifact(config.dataset, DATASET))
        evaluated = _open_evaluated(config, dataset, stack)
        digests = input_digests(dataset=dataset, **evaluated)
        header = Header("result", STAGE, config.settings(), digests, seed=config.seed)
        errors_header = replace(header, kind=ERRORS.name)
        earlier = None if config.force else earlier_result(output, header, "tables")
        if earlier is not None and is_current(errors, errors_header):
            return _report(output, earlier, skipped=True)
        if config.dry_run:
            names = " and ".join(artifact.path.name for artifact in evaluated.values())
            return StageReport(STAGE, [], notes=[f"would compare {names} with {config.dataset.name}"])
        resampling = Resampling(config.bootstrap, config.seed)
        summaries = {
            name: compare_keypoints(dataset, artifact, protocol, resampling, name)
            for name, artifact in evaluated.items()
        }
        samples = {name: summary.samples for name, summary in summaries.items() if summary.samples is not None}
        write_sample_errors(errors, errors_header, dataset.table("sequences"), samples)
    result = _result(config, header, protocol, summaries)
    with Artifact(errors, ERRORS) as written:
        result["errors"] = {"file": errors.name, "digest": written.digest}
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return _report(output, result, skipped=False)


def _open_evaluated(config: EvaluateMpii, dataset: Artifact, stack: ExitStack) -> dict[str, Artifact]:
    asked = {
        "keypoints": (config.keypoints, beside(config.dataset, "labels", ".keypoints.h5"), KEYPOINTS),
        "predictions": (config.predictions, beside(config.dataset, "predictions", ".h5"), POSES),
    }
    evaluated = {}
    for name, (given, default, kind) in asked.items():
        path = optional_input(given, default)
        if path is not None:
            evaluated[name] = stack.enter_context(Artifact(path, kind))
            require_same_source(evaluated[name], "dataset", dataset)
    if not evaluated:
        raise InputError(
            "nothing to evaluate",
            got=f"neither key points nor predictions of {config.dataset}",
            hint="Run `posekit pseudo-label keypoints` or `predict` first, or name a file with --keypoints or --predictions",
        )
    return evaluated


def _result(
    config: EvaluateMpii, header: Header, protocol: PckhProtocol, summaries: Mapping[str, Summary]
) -> dict[str, Any]:
    results = {name: summary.to_dict() for name, summary in summaries.items()}
    return {
        "stage": STAGE,
        "posekit_version": header.version,
        "fingerprint": header.fingerprint(),
        "dataset": config.dataset.name,
        "inputs": dict(header.inputs),
        "settings": dict(header.settings),
        "seed": config.seed,
        "protocol": protocol.to_dict(),
        "results": results,
        "tables": {
            name: [
                [summary.title, *group_table(results[name])],
                [f"{summary.title} by joint", *summary.joint_table()],
            ]
            for name, summary in summaries.items()
        },
    }


def _report(output: Path, result: Mapping[str, Any], *, skipped: bool) -> StageReport:
    metrics: dict[str, float] = {}
    counts: dict[str, int] = {}
    notes = []
    for name, summary in result["results"].items():
        metrics |= {f"{name}_{metric}_percent": found["mean"] for metric, found in summary["metrics"].items()}
        left_out = sum(summary["skipped"].values())
        counts |= {f"{name}: evaluated": summary["evaluated"]}
        counts |= {f"{name}: {reason}": count for reason, count in summary["skipped"].items()}
        counts |= {f"{name}: labelled joints without prediction": summary["labelled_without_prediction"]}
        if summary["evaluated"] < _LOW_COVERAGE * (summary["evaluated"] + left_out):
            notes.append(f"{name}: {left_out} people were left out; the figures do not speak for them.")
        if summary["joints_left_out"]:
            missing = ", ".join(summary["joints_left_out"])
            notes.append(
                f"{name}: these joints cannot be compared, so published figures are of other joints: {missing}."
            )
    notes.append("Published figure: mean of pckh_50 on the people of the validation list.")
    tables = [Table(title, columns, rows) for parts in result["tables"].values() for title, columns, rows in parts]
    return StageReport(
        STAGE,
        [output, output.with_suffix(".errors.h5")],
        skipped=skipped,
        metrics=metrics,
        counts=counts,
        notes=notes,
        tables=tables,
    )
