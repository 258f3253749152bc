"""Foreground and part figures against the plain loops of the published evaluators."""

from __future__ import annotations

import numpy as np
import pytest

from posekit.evaluation.comparison import Resampling
from posekit.evaluation.segmentation import IGNORE, MASK_NAMES, mask_counts, part_counts, summarize_counts

PARTS = tuple(f"part {number}" for number in range(7))


def pictures(count: int = 6) -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(0)
    true = [random.integers(0, 7, (11 + i, 17)).astype(np.uint8) for i in range(count)]
    predicted = [np.where(random.uniform(size=t.shape) < 0.7, t, random.integers(0, 7, t.shape)) for t in true]
    for labels in true:
        labels[random.uniform(size=labels.shape) < 0.1] = IGNORE
    return [p.astype(np.uint8) for p in predicted], true


def by_plain_loops(predicted: list[np.ndarray], true: list[np.ndarray]) -> tuple[float, float]:
    """Part accuracy and F1 as SPIN's evaluator has them: sets of pixels, class by class."""
    tp, fp, fn = np.zeros(7), np.zeros(7), np.zeros(7)
    equal = pixels = 0
    for prediction, truth in zip(predicted, true, strict=True):
        for c in range(7):
            cgt, cpred = truth == c, prediction == c
            cpred[truth == 255] = False
            tp[c] += (cgt & cpred).sum()
            fp[c] += (~cgt & cpred).sum()
            fn[c] += (cgt & ~cpred).sum()
        background = truth.copy()
        background[background == 255] = 0
        equal += (background == prediction).sum()
        pixels += truth.size
    return 100.0 * equal / pixels, float((2 * tp / (2 * tp + fp + fn)).mean())


def test_parts_against_plain_loops() -> None:
    predicted, true = pictures()
    counts = np.stack([part_counts(p, t) for p, t in zip(predicted, true, strict=True)])
    summary = summarize_counts(counts, PARTS, Resampling(0))
    accuracy, f1 = by_plain_loops(predicted, true)
    assert summary.accuracy == pytest.approx(accuracy, abs=1e-6)
    assert summary.f1 == pytest.approx(f1, abs=1e-6)
    assert summary.images == len(true)


def test_foreground_against_plain_sums() -> None:
    predicted, true = pictures()
    masks = [(labels > 3).astype(np.uint8) * 255 for labels in true]
    counts = np.stack([mask_counts(p, m) for p, m in zip(predicted, masks, strict=True)])
    summary = summarize_counts(counts, MASK_NAMES, Resampling(0))
    p = np.concatenate([labels.ravel() > 0 for labels in predicted])
    t = np.concatenate([mask.ravel() > 0 for mask in masks])
    assert summary.accuracy == pytest.approx(100.0 * (p == t).mean(), abs=1e-6)
    each = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in ((~p, ~t), (p, t))]
    assert summary.f1 == pytest.approx(np.mean(each), abs=1e-6)
    assert summary.per_class == pytest.approx(dict(zip(MASK_NAMES, each, strict=True)), abs=1e-6)


def test_a_perfect_prediction_is_perfect_but_for_what_nobody_decided() -> None:
    _, true = pictures()
    perfect = [np.where(t == IGNORE, 0, t).astype(np.uint8) for t in true]
    summary = summarize_counts(
        np.stack([part_counts(p, t) for p, t in zip(perfect, true, strict=True)]), PARTS, Resampling(0)
    )
    assert summary.accuracy == 100.0
    assert summary.f1 == 1.0
    painted = [np.where(t == IGNORE, 3, t).astype(np.uint8) for t in true]
    summary = summarize_counts(
        np.stack([part_counts(p, t) for p, t in zip(painted, true, strict=True)]), PARTS, Resampling(0)
    )
    assert summary.accuracy < 100.0
    assert summary.f1 == 1.0


def test_pixels_are_added_up_before_ratios_are_taken() -> None:
    large, small = np.zeros((100, 100), np.uint8), np.ones((10, 10), np.uint8)
    counts = np.stack([mask_counts(large, large), mask_counts(np.zeros_like(small), small)])
    assert summarize_counts(counts, MASK_NAMES, Resampling(0)).accuracy == pytest.approx(100 * 10000 / 10100)


def test_classes_that_do_not_occur_are_left_out_and_intervals_hold_the_value() -> None:
    predicted, true = pictures(30)
    counts = np.stack([part_counts(np.minimum(p, 5), np.minimum(t, 5)) for p, t in zip(predicted, true, strict=True)])
    summary = summarize_counts(counts, PARTS, Resampling(200, 1))
    assert summary.per_class["part 6"] is None
    assert 0 < summary.f1 < 1
    assert summary.accuracy_interval is not None
    assert summary.f1_interval is not None
    assert summary.accuracy_interval[0] < summary.accuracy < summary.accuracy_interval[1]
    assert summary.f1_interval[0] < summary.f1 < summary.f1_interval[1]
    assert summarize_counts(counts[:1], PARTS, Resampling(200)).accuracy_interval is None
