from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from posekit.errors import DataError
from posekit.evaluation.comparison import Resampling
from posekit.evaluation.keys import Keys
from posekit.evaluation.pairing import PairedMetric, pair_errors
from posekit.evaluation.sample_errors import SampleErrors
from posekit.records import Clip

CLIPS = [Clip(f"S{i} {'Walk' if i % 2 else 'Sit'}", 50.0, f"S{i}", "Walk" if i % 2 else "Sit") for i in range(12)]
FRAMES = 20


def _errors(seed: int = 0, shift: float = 0.0) -> SampleErrors:
    sequence, frame = (axis.reshape(-1) for axis in np.meshgrid(np.arange(12), np.arange(FRAMES), indexing="ij"))
    values = np.random.default_rng(seed).gamma(4.0, 20.0, len(frame)) + shift
    zero = np.zeros(len(frame), dtype=np.int64)
    return SampleErrors(Keys(sequence, frame, zero, zero), {"mpjpe": values}, {"mpjpe": "mm"})


def _mpjpe(first: SampleErrors, second: SampleErrors, draws: int = 300) -> PairedMetric:
    (metric,) = pair_errors(first, second, CLIPS, Resampling(draws)).metrics
    return metric


def test_a_result_does_not_differ_from_itself() -> None:
    metric = _mpjpe(_errors(), _errors())
    assert metric.difference == 0.0 and metric.difference_interval == (0.0, 0.0)
    assert metric.ratio == 1.0 and metric.ratio_interval == (1.0, 1.0) and metric.improved == 0.0
    assert all(part.difference == 0.0 for part in metric.per_action.values())


def test_swapping_negates_the_difference_and_inverts_the_ratio() -> None:
    first, second = _errors(0), _errors(1, shift=-3.0)
    there, back = _mpjpe(first, second), _mpjpe(second, first)
    assert there.difference_interval is not None and back.difference_interval is not None
    assert there.ratio is not None and back.ratio is not None
    assert there.difference == pytest.approx(-back.difference, abs=1e-12) and there.difference < 0
    np.testing.assert_allclose(there.difference_interval, -np.array(back.difference_interval[::-1]), atol=1e-9)
    assert there.ratio * back.ratio == pytest.approx(1.0)
    assert there.improved + back.improved == pytest.approx(1.0)


def test_a_uniform_improvement_is_certain() -> None:
    first = _errors()
    second = SampleErrors(first.keys, {"mpjpe": first.values["mpjpe"] * 0.9}, first.units)
    metric = _mpjpe(first, second)
    assert metric.difference_interval is not None and metric.difference_interval[1] < 0
    assert metric.ratio == pytest.approx(0.9) and metric.ratio_interval == pytest.approx((0.9, 0.9))
    assert metric.improved == 1.0
    assert metric.difference == pytest.approx(-0.1 * first.values["mpjpe"].mean())


def test_noise_of_whole_sequences_leaves_doubt() -> None:
    # Each sequence changes as a whole: the 12 changes, not the 240 samples, say how sure the mean is.
    first = _errors()
    change = np.repeat(np.random.default_rng(4).normal(0.0, 10.0, 12), FRAMES)
    second = SampleErrors(first.keys, {"mpjpe": first.values["mpjpe"] + change}, first.units)
    metric = _mpjpe(first, second, draws=2000)
    assert metric.difference_interval is not None
    width = metric.difference_interval[1] - metric.difference_interval[0]
    of_sequences = 2 * 1.96 * change[::FRAMES].std() / np.sqrt(12)
    assert width == pytest.approx(of_sequences, rel=0.15)
    assert pair_errors(first, second, CLIPS, Resampling(0)).interval_from == "sequences"


def test_pairs_are_found_by_key_whatever_the_order() -> None:
    first = _errors()
    order = np.random.default_rng(3).permutation(len(first.keys))[:200]
    second = SampleErrors(first.keys.at(order), {"mpjpe": first.values["mpjpe"][order] + 5.0}, first.units)
    comparison = pair_errors(first, second, CLIPS, Resampling(10))
    assert (comparison.paired, comparison.only_first, comparison.only_second) == (200, 40, 0)
    (metric,) = comparison.metrics
    assert metric.difference == pytest.approx(5.0) and metric.samples == 200
    assert metric.first == pytest.approx(first.values["mpjpe"][order].mean())


def test_per_action_and_tables_and_json() -> None:
    first, second = _errors(0), _errors(1)
    comparison = pair_errors(first, second, CLIPS, Resampling(20))
    (metric,) = comparison.metrics
    walking = first.keys.sequence % 2 == 1
    expected = (second.values["mpjpe"] - first.values["mpjpe"])[walking].mean()
    assert metric.per_action["Walk"].difference == pytest.approx(expected)
    content = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert content["metrics"]["mpjpe"]["per_action"]["Walk"]["difference"] == pytest.approx(expected)
    assert len(content["metrics"]["mpjpe"]["difference_interval_95"]) == 2
    for columns, rows in (comparison.overall_table(), comparison.action_table("mpjpe")):
        assert rows and all(len(row) == len(columns) for row in rows)


def test_more_is_better_where_it_is() -> None:
    first = _errors()
    low = SampleErrors(first.keys, {"pck3d": np.full(len(first.keys), 50.0)}, {"pck3d": "%"})
    high = replace(low, values={"pck3d": np.full(len(first.keys), 60.0)})
    assert _mpjpe(low, high).improved == 1.0 and _mpjpe(high, low).improved == 0.0


def test_samples_that_one_lacks_a_metric_for_do_not_count() -> None:
    first, second = _errors(), _errors(1)
    second.values["mpjpe"][:100] = np.nan
    metric = _mpjpe(first, second)
    assert metric.samples == 140 and np.isfinite(metric.difference)


def test_nothing_in_common_is_an_error() -> None:
    first = _errors()
    elsewhere = SampleErrors(first.keys.seen_by(2), first.values, first.units)
    with pytest.raises(DataError, match="nothing in common"):
        pair_errors(first, elsewhere, CLIPS, Resampling())
    other = SampleErrors(first.keys, {"n_mpjpe": first.values["mpjpe"]}, {"n_mpjpe": "mm"})
    with pytest.raises(DataError, match="nothing in common"):
        pair_errors(first, other, CLIPS, Resampling())
