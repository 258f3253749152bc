from __future__ import annotations

import json
import math

import numpy as np
import pytest

from posekit.evaluation.report import ErrorTable, Groups, MetricSummary, Summary, bootstrap_interval, summarize

NAN = float("nan")


def _summary(errors: list[list[float]], actions: list[str] | None = None, **options: int) -> MetricSummary:
    table = ErrorTable("mpjpe", np.array(errors), tuple("abc"[: len(errors[0])]))
    return summarize(table, Groups(actions or [""] * len(errors), range(len(errors))), **options)


def test_means_of_samples_joints_and_actions_in_millimetres() -> None:
    summary = _summary([[0.0, 0.02], [0.04, 0.06], [0.10, 0.10]], ["Walk", "Sit", "Sit"])
    assert summary.mean == pytest.approx((10 + 50 + 100) / 3)
    assert summary.median == pytest.approx(50)
    assert summary.per_point == pytest.approx({"a": 140 / 3, "b": 60})
    assert summary.per_action == pytest.approx({"Sit": 75, "Walk": 10})
    assert summary.mean_of_actions == pytest.approx(42.5)


def test_left_out_points_and_samples_do_not_count() -> None:
    summary = _summary([[NAN, 0.02], [NAN, NAN], [0.01, 0.03]])
    assert summary.samples == 2
    assert summary.mean == pytest.approx(20)
    assert summary.per_point == pytest.approx({"a": 10, "b": 25})
    assert summary.mean_of_actions is None


def test_nothing_evaluated_is_nan_not_zero() -> None:
    summary = _summary([[NAN, NAN]])
    assert math.isnan(summary.mean) and math.isnan(summary.median) and summary.interval is None
    assert "NaN" not in json.dumps(summary.to_dict()) and summary.to_dict()["mean"] is None


def test_bootstrap_covers_the_mean_and_is_reproducible() -> None:
    values = np.random.default_rng(0).normal(100, 20, 400)
    low, high = bootstrap_interval(values, np.arange(400), 2000, seed=1) or (NAN, NAN)
    assert (low, high) == bootstrap_interval(values, np.arange(400), 2000, seed=1)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.35)
    assert high == pytest.approx(values.mean() + half, abs=0.35)


def test_bootstrap_draws_whole_units() -> None:
    # Forty copies of ten values know no more than the ten: the interval must not shrink.
    ten = np.random.default_rng(0).normal(100, 20, 10)
    copies, units = np.repeat(ten, 40), np.repeat(np.arange(10), 40)
    assert bootstrap_interval(copies, units, 500, 3) == pytest.approx(bootstrap_interval(ten, np.arange(10), 500, 3))
    narrow = bootstrap_interval(copies, np.arange(400), 500, 3)
    wide = bootstrap_interval(copies, units, 500, 3)
    assert narrow is not None and wide is not None and narrow[1] - narrow[0] < 0.4 * (wide[1] - wide[0])
    assert bootstrap_interval(ten, np.zeros(10), 500, 3) is None


def test_bootstrap_can_be_left_out() -> None:
    assert _summary([[0.1], [0.2]], bootstrap=0).interval is None


def test_summary_as_json_and_tables() -> None:
    metric = _summary([[0.0, 0.02], [0.04, 0.06]], ["Walk", "Sit"])
    summary = Summary(
        "labels", [metric], evaluated=2, skipped={"no prediction": 3}, facts={"protocol": {"name": "all"}}
    )
    content = json.loads(json.dumps(summary.to_dict()))
    assert content["metrics"]["mpjpe"]["mean"] == pytest.approx(30)
    assert content["skipped"] == {"no prediction": 3} and content["protocol"] == {"name": "all"}
    columns, rows = summary.overall_table()
    assert len(rows) == 1 and len(rows[0]) == len(columns) and rows[0][1] == "30.0"
    assert summary.joint_table() == (["joint", "mpjpe [mm]"], [["a", "20.0"], ["b", "40.0"]])
    assert summary.action_table()[1] == [["Sit", "50.0"], ["Walk", "10.0"]]


def test_points_without_names_have_no_breakdown() -> None:
    metric = summarize(ErrorTable("per_vertex", np.full((3, 100), 0.01)), Groups([""] * 3, range(3)))
    assert metric.per_point == {} and metric.mean == pytest.approx(10)
    assert Summary("fits", [metric], 3).joint_table()[1] == []
