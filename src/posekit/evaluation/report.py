"""From errors of samples to what is printed and kept: means, medians, intervals, per joint and per action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from posekit.evaluation.keys import Keys
from posekit.evaluation.sample_errors import SampleErrors
from posekit.geometry.conventions import MILLIMETRES_PER_METRE

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""What is kept of the spread of each joint's errors over the samples."""


@dataclass(frozen=True)
class ErrorTable:
    """Errors of one metric: a row for each sample, a column for each point; NaN marks points that were left out.

    `unit` is the unit they are reported in and `factor` leads to it from that of `errors`. Without `names` the points
    are too many to be told apart (vertices).
    """

    metric: str
    errors: Float[np.ndarray, "N J"]
    names: tuple[str, ...] = ()
    unit: str = "mm"
    factor: float = MILLIMETRES_PER_METRE


@dataclass(frozen=True)
class Groups:
    """What the samples belong to: an action each (or the empty text), and a unit that is resampled as a whole.

    Frames of one sequence and views of one instant are not independent, so intervals are only honest when `unit` numbers
    the largest things that are: sequences, where there are enough of them.
    """

    action: Sequence[str]
    unit: Sequence[int]
    unit_name: str = "sample"


@dataclass(frozen=True)
class MetricSummary:
    """One metric over all samples, in `unit`; `interval` is the 95 % bootstrap interval of the mean.

    `per_point_quantiles` are the `QUANTILES` of each point's errors over the samples.
    """

    metric: str
    unit: str
    mean: float
    median: float
    samples: int
    interval: tuple[float, float] | None
    per_point: Mapping[str, float]
    per_action: Mapping[str, float]
    per_point_quantiles: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def mean_of_actions(self) -> float | None:
        """The mean of the actions' means, which many papers publish; None where no action is known."""
        return float(np.mean(list(self.per_action.values()))) if self.per_action else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for what could not be measured."""
        return {
            "metric": self.metric,
            "unit": self.unit,
            "mean": _json_number(self.mean),
            "median": _json_number(self.median),
            "mean_of_actions": _json_number(self.mean_of_actions),
            "interval_95": None if self.interval is None else list(self.interval),
            "samples": self.samples,
            "per_joint": {name: _json_number(value) for name, value in self.per_point.items()},
            "quantiles_per_joint": {name: list(values) for name, values in self.per_point_quantiles.items()},
            "per_action": {name: _json_number(value) for name, value in self.per_action.items()},
        }


@dataclass(frozen=True)
class Summary:
    """An evaluation: its metrics, how many samples they rest on, and how many were left out and why.

    `samples` are the errors of the single samples, where they are kept.
    """

    title: str
    metrics: Sequence[MetricSummary]
    evaluated: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    samples: SampleErrors | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "title": self.title,
            **self.facts,
            "evaluated": self.evaluated,
            "skipped": dict(self.skipped),
            "metrics": {metric.metric: metric.to_dict() for metric in self.metrics},
        }

    def overall_table(self) -> tuple[list[str], list[list[str]]]:
        """Column names, and a row of text for each metric."""
        columns = ["metric", "mean", "95 % interval", "median", "mean of actions", "unit", "samples"]
        return columns, [
            [
                metric.metric,
                shown_number(metric.mean),
                ""
                if metric.interval is None
                else f"{shown_number(metric.interval[0])} to {shown_number(metric.interval[1])}",
                shown_number(metric.median),
                shown_number(metric.mean_of_actions),
                metric.unit,
                str(metric.samples),
            ]
            for metric in self.metrics
        ]

    def joint_table(self) -> tuple[list[str], list[list[str]]]:
        """Column names, and a row of text for each joint."""
        return self._breakdown("joint", [metric.per_point for metric in self.metrics])

    def action_table(self) -> tuple[list[str], list[list[str]]]:
        """Column names, and a row of text for each action."""
        return self._breakdown("action", [metric.per_action for metric in self.metrics])

    def _breakdown(self, what: str, parts: Sequence[Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
        shown = [(metric, part) for metric, part in zip(self.metrics, parts, strict=True) if part]
        rows = list(dict.fromkeys(name for _, part in shown for name in part))
        columns = [what, *(f"{metric.metric} [{metric.unit}]" for metric, _ in shown)]
        return columns, [[row, *(shown_number(part.get(row)) for _, part in shown)] for row in rows]


def summarize(table: ErrorTable, groups: Groups, *, bootstrap: int = 1000, seed: int = 0) -> MetricSummary:
    """Mean and its spread over samples, each sample counting by its own mean over its points.

    Samples whose every point was left out do not count.
    """
    errors = table.errors * table.factor
    counted = ~np.isnan(errors).all(axis=1)
    errors = errors[counted]
    per_sample = _nanmean(errors, axis=1)
    actions = np.asarray(groups.action, dtype=str)[counted]
    units = np.asarray(groups.unit)[counted]
    per_joint = _nanmean(errors, axis=0) if table.names else np.zeros(0)
    return MetricSummary(
        metric=table.metric,
        unit=table.unit,
        mean=_mean(per_sample),
        median=float(np.median(per_sample)) if len(per_sample) else float("nan"),
        samples=len(per_sample),
        interval=bootstrap_interval(per_sample, units, bootstrap, seed) if bootstrap else None,
        per_point={name: float(value) for name, value in zip(table.names, per_joint, strict=True)},
        per_point_quantiles=_quantiles(errors, table.names) if table.unit == "mm" else {},
        per_action={str(name): _mean(per_sample[actions == name]) for name in np.unique(actions) if name},
    )


def bootstrap_interval(
    values: Float[np.ndarray, "N"], units: np.ndarray, resamplings: int, seed: int
) -> tuple[float, float] | None:
    """The 95 % percentile interval of the mean when whole units are drawn again with replacement.

    None when there are fewer than two units, from which nothing can be learned about spread.
    """
    means = resampled_means(values[:, None], units, resamplings, seed)
    return None if means is None else percentile_interval(means[:, 0])


def resampled_means(
    values: Float[np.ndarray, "N M"], units: np.ndarray, resamplings: int, seed: int
) -> Float[np.ndarray, "R M"] | None:
    """Means of columns over samples whose units were drawn again with replacement, the same draw for all columns.

    None when there are fewer than two units.
    """
    _, unit = np.unique(units, return_inverse=True)
    count = int(unit.max()) + 1 if len(unit) else 0
    if count < 2:
        return None
    sums = np.stack([np.bincount(unit, column, count) for column in values.T], axis=1)
    sizes = np.bincount(unit, minlength=count).astype(float)
    generator = np.random.default_rng(seed)
    means = np.empty((resamplings, values.shape[1]))
    for mean in means:
        drawn = np.bincount(generator.integers(count, size=count), minlength=count)
        mean[:] = drawn @ sums / (drawn @ sizes)
    return means


def percentile_interval(draws: Float[np.ndarray, "R"]) -> tuple[float, float]:
    """The middle 95 % of bootstrap draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def sample_errors(tables: Sequence[ErrorTable], keys: Keys) -> SampleErrors:
    """The mean of every sample over its points, in the unit of each table."""
    means = {table.metric: _nanmean(table.errors.astype(np.float64) * table.factor, axis=1) for table in tables}
    return SampleErrors(keys, means, {table.metric: table.unit for table in tables})


def _nanmean(values: Float[np.ndarray, "A B"], axis: int) -> Float[np.ndarray, "C"]:
    there = ~np.isnan(values)
    count = there.sum(axis=axis)
    total = np.where(there, values, 0.0).sum(axis=axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _quantiles(errors: Float[np.ndarray, "N J"], names: Sequence[str]) -> dict[str, list[float]]:
    """Of the named points that were measured at all."""
    found = {}
    for name, column in zip(names, errors.T, strict=False):
        there = column[~np.isnan(column)]
        if len(there):
            found[name] = [float(value) for value in np.quantile(there, QUANTILES)]
    return found


def _mean(values: Float[np.ndarray, "N"]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _json_number(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value


def shown_number(value: float | None) -> str:
    """A measured value with as many digits as tables show."""
    if value is None:
        return ""
    return "n/a" if np.isnan(value) else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
