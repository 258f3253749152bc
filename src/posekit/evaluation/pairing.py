"""Two evaluations of the same samples, compared sample by sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from posekit.errors import DataError
from posekit.evaluation.comparison import Resampling, resampled_groups
from posekit.evaluation.keys import RowIndex
from posekit.evaluation.report import Groups, percentile_interval, resampled_means, shown_number
from posekit.evaluation.sample_errors import SampleErrors
from posekit.records import Clip

MORE_IS_BETTER = ("pck3d", "auc3d", "pckh_50", "pckh_10", "pckh_auc")
"""Metrics that are no errors."""


@dataclass(frozen=True)
class PairedMetric:
    """One metric over the samples that both results have, in `unit`.

    `difference` is second minus first and `ratio` second over first, both of the means, with their 95 % intervals of the
    paired bootstrap. `improved` is the share of samples in which the second is better.
    """

    metric: str
    unit: str
    samples: int
    first: float
    second: float
    difference: float
    difference_interval: tuple[float, float] | None
    ratio: float | None
    ratio_interval: tuple[float, float] | None
    improved: float
    per_action: Mapping[str, PairedMetric]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = asdict(self)
        for name in ("difference", "ratio"):
            plain[f"{name}_interval_95"] = plain.pop(f"{name}_interval")
        plain["per_action"] = {name: part.to_dict() for name, part in self.per_action.items()}
        return plain


@dataclass(frozen=True)
class PairedComparison:
    """All metrics that two evaluations share, and how many of their samples pair."""

    metrics: Sequence[PairedMetric]
    paired: int
    only_first: int
    only_second: int
    interval_from: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "paired": self.paired,
            "only_first": self.only_first,
            "only_second": self.only_second,
            "interval_from": self.interval_from,
            "metrics": {metric.metric: metric.to_dict() for metric in self.metrics},
        }

    def overall_table(self) -> tuple[list[str], list[list[str]]]:
        """Column names, and a row of text for each metric."""
        columns = ["metric", "first", "second", "difference", "95 % interval", "ratio", "improved", "unit", "samples"]
        return columns, [_row(metric.metric, metric) for metric in self.metrics]

    def action_table(self, metric: str) -> tuple[list[str], list[list[str]]]:
        """Column names, and a row of text for each action."""
        (found,) = (candidate for candidate in self.metrics if candidate.metric == metric)
        columns = ["action", "first", "second", "difference", "95 % interval", "ratio", "improved", "unit", "samples"]
        return columns, [_row(action, part) for action, part in found.per_action.items()]


def pair_errors(
    first: SampleErrors, second: SampleErrors, clips: Sequence[Clip], resampling: Resampling
) -> PairedComparison:
    """Compares the samples that both evaluations measured; DataError where there are none, or no metric in common."""
    rows = RowIndex(second.keys).find(first.keys)
    mine = np.flatnonzero(rows >= 0)
    shared = [metric for metric in first.values if metric in second.values]
    if not len(mine) or not shared:
        raise DataError(
            "the two results have nothing in common",
            got=f"{len(first.keys)} and {len(second.keys)} samples, {len(mine)} the same; metrics {shared}",
            hint="Evaluate both with the same protocol, and with --truth where vertices are to be compared",
        )
    keys = first.keys.at(mine)
    groups = resampled_groups(clips, keys.sequence, keys.frame)
    metrics = [
        _pair(
            metric,
            first.units[metric],
            np.stack([first.values[metric][mine], second.values[metric][rows[mine]]], axis=1),
            groups,
            resampling,
        )
        for metric in shared
    ]
    return PairedComparison(
        metrics=[metric for metric in metrics if metric is not None],
        paired=len(mine),
        only_first=len(first.keys) - len(mine),
        only_second=len(second.keys) - len(mine),
        interval_from=groups.unit_name,
    )


def _pair(
    metric: str, unit: str, values: Float[np.ndarray, "N 2"], groups: Groups, resampling: Resampling
) -> PairedMetric | None:
    measured = np.isfinite(values).all(1)
    if not measured.any():
        return None
    values = values[measured]
    actions, units = np.asarray(groups.action, dtype=str)[measured], np.asarray(groups.unit)[measured]
    per_action = {
        str(action): _measured(metric, unit, values[actions == action], units[actions == action], resampling, {})
        for action in np.unique(actions)
        if action
    }
    return _measured(metric, unit, values, units, resampling, per_action)


def _measured(
    metric: str,
    unit: str,
    values: Float[np.ndarray, "N 2"],
    units: np.ndarray,
    resampling: Resampling,
    per_action: Mapping[str, PairedMetric],
) -> PairedMetric:
    change = values[:, 1] - values[:, 0]
    first, second = (float(mean) for mean in values.mean(0))
    # The difference has a column of its own, so that equal samples give exactly zero.
    columns = np.column_stack([values, change])
    draws = resampled_means(columns, units, resampling.draws, resampling.seed) if resampling.draws else None
    return PairedMetric(
        metric=metric,
        unit=unit,
        samples=len(values),
        first=first,
        second=second,
        difference=float(change.mean()),
        difference_interval=None if draws is None else percentile_interval(draws[:, 2]),
        ratio=second / first if first else None,
        ratio_interval=None
        if draws is None or not draws[:, 0].all()
        else percentile_interval(draws[:, 1] / draws[:, 0]),
        improved=float(((change > 0) if metric in MORE_IS_BETTER else (change < 0)).mean()),
        per_action=per_action,
    )


def _row(name: str, metric: PairedMetric) -> list[str]:
    interval = metric.difference_interval
    return [
        name,
        shown_number(metric.first),
        shown_number(metric.second),
        shown_number(metric.difference),
        "" if interval is None else f"{shown_number(interval[0])} to {shown_number(interval[1])}",
        "" if metric.ratio is None else f"{metric.ratio:.3f}",
        f"{100 * metric.improved:.1f} %",
        metric.unit,
        str(metric.samples),
    ]
