"""A chart of the errors of the single joints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posekit.atomic import replacing
from posekit.evaluation.report import QUANTILES

_COLORS = ("#4f7cac", "#d9803f", "#5b9a68", "#a45f9e")
_INK = "#22262b"


@dataclass(frozen=True)
class JointErrors:
    """Errors of every joint of something that was evaluated: their means and, where known, their `QUANTILES`."""

    title: str
    means: Mapping[str, float]
    quantiles: Mapping[str, Sequence[float]]


def draw_joint_chart(path: Path, parts: Sequence[JointErrors], metric: str, unit: str) -> Path:
    """Writes a PNG: for each joint a bar as high as its mean error, as the paper of Pose ResNet shows them, and the spread of
    the errors over the samples as a box (quartiles, median) with whiskers (5 and 95 percent)."""
    from matplotlib.figure import Figure  # only here: few runs draw charts, and matplotlib is slow to import

    joints = list(dict.fromkeys(joint for part in parts for joint in part.means))
    figure = Figure(figsize=(max(6.4, 1.6 + 0.62 * len(joints)), 4.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(1, len(parts))
    for number, part in enumerate(parts):
        places = np.arange(len(joints)) - 0.4 + (number + 0.5) * width
        color = _COLORS[number % len(_COLORS)]
        heights = [part.means.get(joint, np.nan) for joint in joints]
        axes.bar(places, heights, 0.92 * width, color=color, alpha=0.55, label=part.title)
        boxes = [
            (place, part.quantiles[joint])
            for place, joint in zip(places, joints, strict=True)
            if joint in part.quantiles
        ]
        if boxes:
            axes.bxp(
                [dict(zip(_BOX_PARTS, spread, strict=True)) for _, spread in boxes],
                positions=[place for place, _ in boxes],
                widths=0.42 * width,
                showfliers=False,
                patch_artist=True,
                manage_ticks=False,
                boxprops={"facecolor": "white", "edgecolor": _INK, "linewidth": 0.8},
                medianprops={"color": color, "linewidth": 1.6},
                whiskerprops={"color": _INK, "linewidth": 0.8},
                capprops={"color": _INK, "linewidth": 0.8},
            )
    axes.set_xticks(np.arange(len(joints)), [joint.replace("_", " ") for joint in joints], rotation=40, ha="right")
    axes.set_ylabel(f"{metric} [{unit}]")
    axes.set_ylim(bottom=0)
    axes.set_xlim(-0.6, len(joints) - 0.4)
    axes.grid(axis="y", color="#d8dce0", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    low, high = round(100 * QUANTILES[0]), round(100 * QUANTILES[-1])
    axes.set_title(f"bars: means; boxes: quartiles; whiskers: {low} to {high} % of the samples", fontsize=9, loc="left")
    axes.legend(fontsize=8, frameon=False)
    with replacing(path) as temporary:
        # Nothing in the file may depend on when or by what it was drawn.
        figure.savefig(temporary, format="png", metadata={"Software": None})
    return path


_BOX_PARTS = ("whislo", "q1", "med", "q3", "whishi")
