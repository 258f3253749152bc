"""Means of losses and the pace of steps."""

from __future__ import annotations

import time

import pytest
import torch

from posekit.errors import TrainingError
from posekit.training.meter import Meter

CPU = torch.device("cpu")


def test_means_are_over_the_steps_that_had_the_loss() -> None:
    meter = Meter(CPU, batch=4)
    meter.add({"a": torch.tensor(1.0), "b": torch.tensor([3.0])})
    meter.add({"a": torch.tensor(2.0)})
    line = meter.take(2, waited=0.0)
    assert line["losses"] == meter.last == {"a": 1.5, "b": 3.0}
    meter.add({"a": torch.tensor(5.0)})
    assert meter.take(3, waited=0.0)["losses"] == {"a": 5.0}


def test_sums_survive_a_checkpoint() -> None:
    meter, other = Meter(CPU, 4), Meter(CPU, 4)
    meter.add({"a": torch.tensor(1.0)})
    other.restore(meter.totals, meter.counts)
    for each in (meter, other):
        each.add({"a": torch.tensor(2.0)})
    assert meter.means() == other.means() == {"a": 1.5}


def test_the_pace_leaves_pauses_out() -> None:
    meter = Meter(CPU, batch=10)
    with meter.paused():
        time.sleep(0.2)
    for _ in range(2):
        time.sleep(0.02)
        meter.add({})
    line = meter.take(2, waited=0.03)
    assert 20 <= line["step_ms"] < 100
    assert line["wait_ms"] == pytest.approx(15)
    assert line["samples_per_s"] == pytest.approx(1e4 / line["step_ms"], rel=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_losses_that_are_no_numbers(value: float) -> None:
    meter = Meter(CPU, 4)
    meter.add({"good": torch.tensor(1.0), "bad": torch.tensor(value)})
    meter.add({"good": torch.tensor(1.0), "bad": torch.tensor(1.0)})
    with pytest.raises(TrainingError, match="bad = "):
        meter.take(7, 0.0)
