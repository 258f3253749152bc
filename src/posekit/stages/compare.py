"""`posekit eval compare`: two results of the same samples, paired."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import ERRORS
from posekit.atomic import replacing
from posekit.config.results import Compare
from posekit.errors import InputError, MissingFileError
from posekit.evaluation.comparison import Resampling
from posekit.evaluation.pairing import PairedComparison, pair_errors
from posekit.evaluation.protocols import METRIC_OF_ALIGNMENT
from posekit.evaluation.sample_errors import SampleErrors, read_sample_errors
from posekit.records import Clip, clips_from_columns
from posekit.stages.report import StageReport, Table

STAGE = "eval compare"
_HEADINGS = ("predictions", "fits", "joints3d", "keypoints", "mean-pose")
_LOW_COVERAGE = 0.95


@dataclass(frozen=True)
class _Result:
    """A result of `posekit eval` with the errors of its samples."""

    path: Path
    content: Mapping[str, Any]
    errors: Mapping[str, SampleErrors]
    clips: list[Clip]


def compare(settings: Compare) -> StageReport:
    """Pairs the samples of two results: differences (second minus first), ratios, and how sure they are.

    Raises InputError when the results are of different data sets or protocols, or lack what is to be compared, and
    DataError when no sample is in both.
    """
    first, second = _load(settings.first), _load(settings.second)
    _require_comparable(first, second)
    mine, theirs = _headings(settings, first, second)
    if settings.dry_run:
        note = f"would compare {mine} of {first.path.name} with {theirs} of {second.path.name}"
        return StageReport(STAGE, [], notes=[note])
    resampling = Resampling(settings.bootstrap, settings.seed)
    parts = {"joints": pair_errors(first.errors[mine], second.errors[theirs], first.clips, resampling)}
    vertices = f"{mine}_vertices", f"{theirs}_vertices"
    if vertices[0] in first.errors and vertices[1] in second.errors:
        _require_same_truth(first, second)
        pair = first.errors[vertices[0]], second.errors[vertices[1]]
        parts["vertices"] = pair_errors(*pair, first.clips, resampling)
    outputs = []
    if settings.output is not None:
        content = {
            "stage": STAGE,
            "first": _identity(first, mine),
            "second": _identity(second, theirs),
            "settings": settings.settings(),
            "seed": settings.seed,
            "protocol": first.content["protocol"],
            "comparisons": {name: part.to_dict() for name, part in parts.items()},
        }
        with replacing(settings.output) as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        outputs.append(settings.output)
    names = f"{first.path.stem}: {mine}", f"{second.path.stem}: {theirs}"
    headline = first.content["protocol"]["headline"]
    return _report(parts, names, METRIC_OF_ALIGNMENT.get(headline, headline), outputs)


def _load(path: Path) -> _Result:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError("result not found", got=path, hint="Run `posekit eval` first") from None
    except (OSError, ValueError) as error:
        raise InputError("not a result of `posekit eval`", got=f"{path}: {error}") from error
    if not isinstance(content, dict) or not {"protocol", "inputs", "results"} <= set(content):
        raise InputError(
            "not a result of `posekit eval`", got=path, hint="Name the JSON file that `posekit eval` wrote"
        )
    recorded = content.get("errors")
    if not isinstance(recorded, dict):
        raise InputError(f"{path} keeps no errors of samples", hint="Run `posekit eval` again")
    # The name alone counts: what a file names must not lead out of its folder.
    beside = path.with_name(Path(str(recorded.get("file"))).name)
    with Artifact(beside, ERRORS) as artifact:
        if artifact.digest != recorded.get("digest"):
            raise InputError(
                f"{beside} does not belong to {path}",
                got=artifact.digest[:12],
                accepted=str(recorded.get("digest"))[:12],
                hint="Run `posekit eval` again with --force",
            )
        clips = clips_from_columns(artifact.table("sequences"))
        return _Result(path, content, read_sample_errors(artifact), clips)


def _require_comparable(first: _Result, second: _Result) -> None:
    if first.content["inputs"].get("dataset") != second.content["inputs"].get("dataset"):
        raise InputError(
            "the two results are of different data sets",
            got=f"{first.content.get('dataset')} and {second.content.get('dataset')}",
            accepted="results of one data set file",
        )
    mine, theirs = first.content["protocol"], second.content["protocol"]
    different = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
    if different:
        raise InputError(
            "the two results are of different protocols",
            got=[f"{key}: {mine.get(key)} and {theirs.get(key)}" for key in different],
            hint="Run `posekit eval` with the same --protocol, --split and --canonical for both",
        )


def _require_same_truth(first: _Result, second: _Result) -> None:
    if first.content["inputs"].get("truth") != second.content["inputs"].get("truth"):
        raise InputError("the vertices of the two results were compared with different truths", hint="Evaluate again")


def _headings(settings: Compare, first: _Result, second: _Result) -> tuple[str, str]:
    shared = [name for name in _HEADINGS if name in first.errors and (settings.second_heading or name) in second.errors]
    mine = settings.heading or (shared[0] if shared else None)
    if mine is None:
        raise InputError(
            "the two results hold nothing under the same heading",
            got=f"{_known(first)} and {_known(second)}",
            hint="Name what to compare with --heading and --second-heading",
        )
    theirs = settings.second_heading or mine
    for result, heading in ((first, mine), (second, theirs)):
        if heading not in result.errors:
            raise InputError(f"{result.path} holds no such heading", got=heading, accepted=_known(result))
    return mine, theirs


def _known(result: _Result) -> list[str]:
    return [name for name in _HEADINGS if name in result.errors]


def _identity(result: _Result, heading: str) -> dict[str, Any]:
    inputs = dict(result.content["inputs"])
    return {
        "file": result.path.name,
        "heading": heading,
        "fingerprint": result.content.get("fingerprint"),
        "inputs": inputs,
    }


def _report(
    parts: Mapping[str, PairedComparison], names: tuple[str, str], headline: str, outputs: list[Path]
) -> StageReport:
    metrics: dict[str, float] = {}
    counts: dict[str, int] = {}
    notes = [f"First: {names[0]}. Second: {names[1]}. Differences are second minus first."]
    tables = []
    for what, part in parts.items():
        for metric in part.metrics:
            unit = {"%": "percent"}.get(metric.unit, metric.unit)
            metrics[f"{metric.metric}_difference_{unit}"] = metric.difference
            if metric.difference_interval is not None:
                low, high = metric.difference_interval
                metrics |= {
                    f"{metric.metric}_difference_low_{unit}": low,
                    f"{metric.metric}_difference_high_{unit}": high,
                }
            if metric.ratio is not None:
                metrics[f"{metric.metric}_ratio"] = metric.ratio
            metrics[f"{metric.metric}_improved"] = metric.improved
        counts |= {f"{what}: paired": part.paired}
        counts |= {f"{what}: only in the first": part.only_first, f"{what}: only in the second": part.only_second}
        tables.append(Table(what, *part.overall_table()))
        if part.paired < _LOW_COVERAGE * (part.paired + max(part.only_first, part.only_second)):
            left = part.only_first, part.only_second
            notes.append(f"{what}: {left[0]} samples are only in the first result and {left[1]} only in the second.")
    joints = parts["joints"]
    by_action = (
        joints.action_table(headline) if any(metric.metric == headline for metric in joints.metrics) else ([], [])
    )
    if by_action[1]:
        tables.append(Table(f"{headline} by action", *by_action))
    notes.append(f"Intervals are drawn from {joints.interval_from}.")
    return StageReport(STAGE, outputs, metrics=metrics, counts=counts, notes=notes, tables=tables)
