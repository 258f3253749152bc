"""What each loss of the lifter is worth: trains it with and without them, and measures flips and depth errors.

    posekit synthesize h36m && posekit preprocess h36m
    python benchmarks/study_lifter.py data/h36m.h5

Learns from the part `train`, measures on the part `test`. The recipe is `demo` with fewer epochs, so that all trainings
together take some minutes on a CPU; `--epochs 65` trains as the recipe does. Errors of a seed scatter by a few mm.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import RESULTS, write_results

from posekit.config.base import RECIPES, build_config, load_recipe
from posekit.config.lifter import EvaluateLifter, TrainLifter
from posekit.stages.evaluate_lifter import evaluate_lifter
from posekit.stages.train_lifter import train_lifter

NO_GEOMETRY: dict[str, Any] = {"w_ratio": 0.0, "w_symmetry": 0.0, "orientation": "none", "w_twist": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "all losses": {},
    "without bone ratios": {"w_ratio": 0.0},
    "without symmetry": {"w_symmetry": 0.0},
    "without orientation": {"orientation": "none"},
    "without ratios, symmetry, orientation, twist": NO_GEOMETRY,
    "without the discriminator": {"w_adversarial": 0.0},
    "without consistency": {"w_consistency": 0.0},
    "level cameras, far away": {"learn_tilt": False, "distance": 0.0},
    "as in the paper": {
        "learn_tilt": False, "distance": 0.0, "w_consistency": 0.0, "w_twist": 0.0, "blur": 0.0, "sway": 0.0,
        "random_angles": 0, "w_adversarial": 0.1, "w_ratio": 1.0, "w_symmetry": 1.0, "w_orientation": 1.0,
    },
    "as in the paper, without ratios, symmetry, orientation": {
        "learn_tilt": False, "distance": 0.0, "w_consistency": 0.0, "blur": 0.0, "sway": 0.0,
        "random_angles": 0, "w_adversarial": 0.1, **NO_GEOMETRY,
    },
}  # fmt: skip
SHOWN = ("flipped_percent", "turned_about_percent", "depth_mm", "n_mpjpe_mm", "depth_correlation")


def study(dataset: Path, variant: dict[str, Any], epochs: int, seed: int) -> dict[str, float]:
    """Figures of one training."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        settings = load_recipe(RECIPES / "lifter" / "demo.yaml") | variant
        settings |= {"datasets": (dataset,), "output": output, "epochs": epochs, "seed": seed, "device": "cpu"}
        began = time.perf_counter()
        train_lifter(build_config(TrainLifter, settings))
        seconds = time.perf_counter() - began
        report = evaluate_lifter(
            EvaluateLifter(dataset=dataset, lifter=output, output=output / "eval.json", bootstrap=0, device="cpu")
        )
    return {name: report.metrics[name] for name in SHOWN if name in report.metrics} | {"seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of lifter.json")
    given = parser.parse_args()
    results: dict[str, Any] = {}
    for name in given.variants:
        measured = [study(given.dataset, VARIANTS[name], given.epochs, seed) for seed in range(given.seeds)]
        results[name] = {"changed": VARIANTS[name], "seeds": measured}
        for figures in measured:
            print(f"{name:55}", "  ".join(f"{key} {value:.3g}" for key, value in figures.items()), flush=True)
        # After each, so that what was measured is kept when the rest is not waited for.
        write_results("lifter", {"epochs": given.epochs, "variants": results}, given.output)


if __name__ == "__main__":
    main()
