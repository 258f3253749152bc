"""`posekit eval lifter`: depths of a lifter against the ground truth of a data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import DATASET
from posekit.atomic import replacing
from posekit.config.base import beside
from posekit.config.lifter import EvaluateLifter
from posekit.evaluation.comparison import Resampling
from posekit.evaluation.depths import compare_depths
from posekit.evaluation.report import Summary
from posekit.labeling.lifting import load_lifter
from posekit.stages.device import resolve_device
from posekit.stages.report import StageReport, Table, earlier_result

STAGE = "eval lifter"


def evaluate_lifter(config: EvaluateLifter) -> StageReport:
    """Writes `results/NAME.lifter.json`; skips the work when that is there already.

    Raises InputError where the data set has no ground truth, DataError where none of its samples can be measured.
    """
    output = config.output or beside(config.dataset, "results", ".lifter.json")
    lifter = load_lifter(config.lifter, resolve_device(config.device))
    with Artifact(config.dataset, DATASET) as dataset:
        inputs = {"dataset": dataset.digest, "lifter": lifter.digest}
        header = Header("result", STAGE, config.settings(), inputs, seed=config.seed)
        earlier = None if config.force else earlier_result(output, header, "tables")
        if earlier is not None:
            return _report(output, earlier, skipped=True)
        if config.dry_run:
            note = f"would measure the depths of {config.lifter} on {config.dataset.name}"
            return StageReport(STAGE, [], notes=[note])
        summary = compare_depths(dataset, lifter, config.split, Resampling(config.bootstrap, config.seed))
    result = _result(config, header, summary)
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return _report(output, result, skipped=False)


def _result(config: EvaluateLifter, header: Header, summary: Summary) -> dict[str, Any]:
    tables = [("", summary.overall_table()), ("by joint", summary.joint_table()), ("by action", summary.action_table())]
    return {
        "stage": STAGE,
        "posekit_version": header.version,
        "fingerprint": header.fingerprint(),
        "dataset": config.dataset.name,
        "inputs": dict(header.inputs),
        "settings": dict(header.settings),
        "seed": config.seed,
        "results": {"lifter": summary.to_dict()},
        "tables": [[f"{summary.title} {part}".strip(), *table] for part, table in tables if table[1]],
    }


def _report(output: Path, result: Mapping[str, Any], *, skipped: bool) -> StageReport:
    summary = result["results"]["lifter"]
    metrics = {
        f"{name}_{'percent' if metric['unit'] == '%' else metric['unit']}": metric["mean"]
        for name, metric in summary["metrics"].items()
    }
    if summary["depth_correlation"] is not None:
        metrics["depth_correlation"] = summary["depth_correlation"]
    return StageReport(
        STAGE,
        [output],
        skipped=skipped,
        metrics=metrics,
        counts={"evaluated": summary["evaluated"], **summary["skipped"]},
        notes=[f"Depths of zero would be {summary['depth_of_nothing_mm']:.0f} mm off."],
        tables=[Table(title, columns, rows) for title, columns, rows in result["tables"]],
    )
