"""How well bodies cover people in pictures: foreground and six parts, by the rules of HMR, SPIN and UP-3D.

Pixels are counted over the whole original image and added up over all images before any ratio is taken. Undecided pixels
of the truth (255) count for nothing where a part is predicted there, and then as background in the accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from posekit.evaluation.comparison import Resampling
from posekit.evaluation.report import percentile_interval

IGNORE = 255
MASK_NAMES = ("background", "foreground")

_EQUAL, _TOTAL = 0, 1


def mask_counts(predicted: UInt8[np.ndarray, "H W"], true: UInt8[np.ndarray, "H W"]) -> Int[np.ndarray, " 8"]:
    """Equal pixels, all pixels, then true positives, false positives and false negatives of background and foreground."""
    labels, truth = (predicted > 0).astype(np.uint8), (true > 0).astype(np.uint8)
    return _counts(labels, truth, len(MASK_NAMES), np.zeros(truth.shape, dtype=bool))


def part_counts(
    predicted: UInt8[np.ndarray, "H W"], true: UInt8[np.ndarray, "H W"], classes: int = 7
) -> Int[np.ndarray, " C"]:
    """Equal pixels, all pixels, then true positives, false positives and false negatives of every class."""
    undecided = true == IGNORE
    return _counts(predicted, np.where(undecided, np.uint8(0), true), classes, undecided)


def _counts(predicted: np.ndarray, true: np.ndarray, classes: int, undecided: np.ndarray) -> Int[np.ndarray, " C"]:
    """`true` has no undecided pixels left: they are background for the accuracy, and of no class otherwise."""
    rows = np.where(undecided, classes, true).astype(np.int64)
    table = np.bincount((rows * classes + predicted).ravel(), minlength=(classes + 1) * classes)
    decided = table.reshape(classes + 1, classes)[:classes]
    hit = decided.diagonal()
    # A part predicted where nobody decided is taken back, and does not count as background either.
    errors = [hit, decided.sum(axis=0) - hit, decided.sum(axis=1) - hit]
    equal = int((predicted == true).sum())
    return np.array([equal, true.size, *np.stack(errors, axis=1).ravel()], dtype=np.int64)


@dataclass(frozen=True)
class SegmentSummary:
    """Accuracy (%) and F1 (0 to 1) over images, each with its 95 % interval when images are drawn again.

    The F1 is the mean over the classes that occur, background included; `per_class` has each one's.
    """

    images: int
    accuracy: float
    f1: float
    accuracy_interval: tuple[float, float] | None
    f1_interval: tuple[float, float] | None
    per_class: dict[str, float | None]

    def to_dict(self, name: str) -> dict[str, dict[str, Any]]:
        """Plain values for JSON, in the form of other metrics."""
        return {
            f"{name}_accuracy": {
                "metric": f"{name}_accuracy",
                "unit": "%",
                "mean": self.accuracy,
                "interval_95": None if self.accuracy_interval is None else list(self.accuracy_interval),
                "samples": self.images,
            },
            f"{name}_f1": {
                "metric": f"{name}_f1",
                "unit": "",
                "mean": self.f1,
                "interval_95": None if self.f1_interval is None else list(self.f1_interval),
                "samples": self.images,
                "per_class": self.per_class,
            },
        }


def summarize_counts(counts: Int[np.ndarray, "N C"], names: Sequence[str], resampling: Resampling) -> SegmentSummary:
    """Figures of images from the counts of each; at least one image."""
    accuracy, f1, each = _figures(counts.sum(axis=0))
    accuracy_interval = f1_interval = None
    if resampling.draws and len(counts) > 1:
        generator = np.random.default_rng(resampling.seed)
        drawn = np.array(
            [
                _figures(
                    np.bincount(generator.integers(len(counts), size=len(counts)), minlength=len(counts)) @ counts
                )[:2]
                for _ in range(resampling.draws)
            ]
        )
        accuracy_interval, f1_interval = percentile_interval(drawn[:, 0]), percentile_interval(drawn[:, 1])
    per_class = {name: None if np.isnan(value) else float(value) for name, value in zip(names, each, strict=True)}
    return SegmentSummary(len(counts), accuracy, f1, accuracy_interval, f1_interval, per_class)


def _figures(counts: Int[np.ndarray, " C"]) -> tuple[float, float, np.ndarray]:
    hit, false, missed = counts[2:].reshape(-1, 3).T.astype(np.float64)
    size = 2.0 * hit + false + missed
    each = np.divide(2.0 * hit, size, out=np.full(len(size), np.nan), where=size > 0)
    return float(100.0 * counts[_EQUAL] / counts[_TOTAL]), float(np.nanmean(each)), each
