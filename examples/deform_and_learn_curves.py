"""The two pictures of the report of `reproduce_deform_and_learn.sh`."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from deform_and_learn_results import BONES, STRATEGIES, MissingResultError, Results

from posekit.training.logs import read_log

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def draw_errors(results: Results, path: Path) -> None:
    """Errors by round on training and test images, and those of the strategies after as many epochs."""
    numbers = list(range(1, results.rounds + 1))
    epochs = [number * int(results.size["epochs"]) for number in numbers]
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for about, heading, file, marker in (
        ("fits on training images", "fits", results.train, "s"),
        ("rounds, test images", "predictions", results.test, "o"),
    ):
        found = [results.figure(file(number), heading, BONES) for number in numbers]
        line = axes.plot(epochs, [one.mean for one in found], marker=marker, label=about)[0]
        if all(one.interval is not None for one in found):
            bounds = [[one.interval[side] for one in found if one.interval is not None] for side in (0, 1)]
            axes.fill_between(epochs, *bounds, color=line.get_color(), alpha=0.15)
    for marker, (key, about, _) in zip("vDX", STRATEGIES, strict=True):
        found_one = results.figure(f"runs/{key}/round-1/h36m.json", "predictions", BONES)
        axes.plot(epochs[-1], found_one.mean, marker, markersize=8, linestyle="none", label=f"{about}, test images")
    axes.set_xlabel(f"epochs of training ({results.size['epochs']} in each round)")
    axes.set_ylabel("MPJPE, rescaled [mm]")
    axes.set_xticks(epochs)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_losses(results: Results, path: Path) -> None:
    """Losses of the labels that all trainings share, one panel each."""
    names = {"dense": "dense correspondences", "keypoints": "key points"}
    figure, panels = plt.subplots(1, len(names), figsize=(10, 3.8), layout="constrained")
    runs = {"rounds": [f"runs/rounds/round-{number}/model" for number in range(1, results.rounds + 1)]}
    runs |= {about: [f"runs/{key}/round-1/model"] for key, about, _ in STRATEGIES}
    for about, folders in runs.items():
        lines, first = [], 0
        for folder in folders:
            log = [line for line in read_log(results.folder / folder) if "losses" in line]
            if not log:
                raise MissingResultError(f"{results.folder / folder} has no log of losses")
            lines += [(first + line["step"], line["losses"]) for line in log]
            first += log[-1]["step"]
        for panel, (name, title) in zip(panels, names.items(), strict=True):
            points = [(step, losses[name]) for step, losses in lines if name in losses]
            panel.plot(*zip(*points, strict=True), label=about, marker="." if len(points) < 5 else None)
            panel.set_title(title)
    for panel in panels:
        panel.set_xlabel("steps")
        panel.set_yscale("log")
        panel.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("loss in training, before its weight")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
