"""What the stage `triangulate` tells: figures by name, kept with the artifact, and tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posekit.config.labels import Triangulate
from posekit.records import Camera
from posekit.stages.report import StageReport, Table
from posekit.stages.triangulation_quality import RAW, WRITTEN, TriangulationQuality
from posekit.stages.triangulation_session import Session

STAGE = "triangulate"

_BEFORE = {WRITTEN: "", RAW: "_before_steadying"}


def triangulation_facts(
    config: Triangulate, quality: TriangulationQuality, sessions: Sequence[Session], records: Sequence[Camera]
) -> dict[str, Any]:
    """Everything that `triangulation_report` needs, as plain values; metrics are those of the joints as written, and with
    `steady` also of the same joints before."""
    series = [WRITTEN, RAW] if config.steady else [WRITTEN]
    metrics = quality.shares()
    spread: dict[str, dict[str, float]] = {}
    for one in series:
        metrics |= {
            f"reprojection_{name}{_BEFORE[one]}": v for name, v in quality.overall(one).items() if name != "p95_px"
        }
        spread[one] = quality.bone_spread(one)
        if spread[one]:
            metrics[f"bone_spread{_BEFORE[one]}_percent"] = 100.0 * float(np.median(list(spread[one].values())))
        columns = quality.camera_columns(one)
        for i in np.flatnonzero(columns["points"]).tolist():
            label = "_".join(part for part in (records[i].session, records[i].name) if part)
            for name in ("median_px", "mean_px"):
                metrics[f"reprojection_{name}{_BEFORE[one]}_{label}"] = float(columns[name][i])
    agreement = {session.name: session.agreement for session in sessions if session.agreement is not None}
    if agreement:
        total = sum(found.joints for found in agreement.values())
        metrics["agreement_mean_mm"] = 1e3 * sum(a.mean * a.joints for a in agreement.values()) / total
        metrics["agreement_median_mm"] = 1e3 * float(np.median([a.median for a in agreement.values()]))
    return {
        "cameras_used": config.cameras,
        "world": "of the calibration" if config.cameras == "known" else "the first camera of each session",
        "metrics": metrics,
        "counts": quality.counts,
        "reprojection": {one: _error_rows(quality, records, one) for one in series},
        "bone_spread": {one: [list(item) for item in spread[one].items()] for one in series},
        "agreement": [[name, 1e3 * a.mean, 1e3 * a.median, a.frames] for name, a in agreement.items()],
        "pairs": _pair_rows(sessions),
        "scales": {session.name: session.scale for session in sessions if session.rig is not None},
    }


def triangulation_report(output: Path, facts: Any, *, skipped: bool) -> StageReport:
    """The report of a run that ended with these facts."""
    tables = [_error_table(facts["reprojection"]), _bone_table(facts["bone_spread"])]
    if facts["agreement"]:
        tables.append(
            Table(
                "Agreement with the known cameras, after similarity alignment",
                ["session", "mean (mm)", "median (mm)", "frames"],
                [[row[0], f"{row[1]:.1f}", f"{row[2]:.1f}", str(row[3])] for row in facts["agreement"]],
            )
        )
    if facts["pairs"]:
        tables.append(_pair_table(facts["pairs"]))
    tables = [_without_empty_columns(table) for table in tables]
    return StageReport(STAGE, [output], skipped, facts["metrics"], facts["counts"], tables=tables)


def _without_empty_columns(table: Table) -> Table:
    """Sessions mostly have no name."""
    kept = [i for i in range(len(table.columns)) if not table.rows or any(row[i] for row in table.rows)]
    return Table(table.title, [table.columns[i] for i in kept], [[row[i] for i in kept] for row in table.rows])


def _error_rows(quality: TriangulationQuality, records: Sequence[Camera], series: str) -> list[list[Any]]:
    columns, whole = quality.camera_columns(series), quality.overall(series)
    names = ("median_px", "mean_px", "p95_px")
    seen = np.flatnonzero(columns["points"]).tolist()
    rows = [[records[i].name, records[i].session, *(float(columns[name][i]) for name in names)] for i in seen]
    return [*rows, ["all cameras", "", *(whole[name] for name in names)]]


def _error_table(rows: dict[str, list[list[Any]]]) -> Table:
    if RAW not in rows:
        columns = ["median", "mean", "95 %"]
    else:
        columns = [f"{name}, {which}" for name in ("median", "mean", "95 %") for which in ("raw", "steadied")]
    series = [rows[one] for one in (RAW, WRITTEN) if one in rows]
    lines = []
    for row in zip(*series, strict=True):
        figures = [f"{one[column]:.2f}" for column in (2, 3, 4) for one in row]
        lines.append([row[0][0], row[0][1], *figures])
    return Table("Reprojection error (px)", ["camera", "session", *columns], lines)


def _bone_table(spread: dict[str, list[list[Any]]]) -> Table:
    series = [spread[one] for one in (RAW, WRITTEN) if one in spread]
    lines = [[row[0][0], *(f"{100 * one[1]:.1f}" for one in row)] for row in zip(*series, strict=True)]
    if lines:
        lines.append(["median over bones", *(f"{100 * np.median([v for _, v in one]):.1f}" for one in series)])
    columns = ["raw (%)", "steadied (%)"] if RAW in spread else ["%"]
    return Table("Spread of bone lengths (standard deviation / mean)", ["bone", *columns], lines)


def _pair_rows(sessions: Sequence[Session]) -> list[list[Any]]:
    return [
        [
            session.name,
            *(session.records[i].name for i in (pair.first, pair.second)),
            pair.weakness,
            pair.quality.figures(),
        ]
        for session in sessions
        if session.rig is not None
        for pair in session.rig.pairs
    ]


def _pair_table(rows: list[list[Any]]) -> Table:
    return Table(
        "Camera pairs",
        ["session", "first", "second", "inliers", "median error (px)", "angle (deg)", "used"],
        [
            [
                *row[:3],
                f"{row[4]['inliers']:.0f} of {row[4]['matches']:.0f}",
                f"{row[4]['median_error_px']:.2f}",
                f"{row[4]['median_angle_deg']:.0f}",
                f"no: {row[3]}" if row[3] else "yes",
            ]
            for row in rows
        ],
    )
