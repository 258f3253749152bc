"""The report of `reproduce_image_ssl.sh`: reads the results below a folder, writes Markdown and copies one picture.

    python examples/image_ssl_report.py OUT REPORT.md

Every sentence about an order or a target is computed from the numbers in its table. A result that is missing is an error.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

ROWS = {
    "self": ("self-supervised", "84.2 / 54.4", "124.7 / 88.5"),
    "weak": ("weakly supervised", "80.7 / 52.7", "107.4 / 69.1"),
    "semi": ("semi-supervised", "65.8 / 44.9", "106.0 / 66.0"),
    "no-real": ("self, without L_real", "95.7 / 60.3", "–"),
    "no-real-no-mask": ("self, without L_real and L_mask", "96.8 / 62.1", "–"),
    "jigsaw": ("self, jigsaw alone", "90.1 / 55.5", "126.7 / 89.5"),
    "rotation": ("self, rotation alone", "93.1 / 60.0", "137.5 / 98.4"),
    "inpainting": ("self, in-painting alone", "91.2 / 58.2", "135.9 / 98.7"),
}
"""What each row is, and MPJPE / PA-MPJPE (mm) of the paper on Human3.6M and 3DPW (tables 5, 7 and 9)."""

METRICS = ("mpjpe", "pa_mpjpe")
LEAST_GAIN = 4.0


class MissingResultError(Exception):
    """A result that the report needs is not there."""


class Results:
    """The results below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.size = self.read("size.json")
        self.seeds = self.size["seeds"].split()

    def read(self, name: str) -> Any:
        """A JSON file of the results."""
        path = self.folder / "results" / name
        if not path.is_file():
            raise MissingResultError(f"{path} is missing: run reproduce_image_ssl.sh to its end")
        return json.loads(path.read_text(encoding="utf-8"))

    def errors(self, name: str, heading: str = "predictions") -> dict[str, float]:
        """Mean errors of one result, mm."""
        metrics = self.read(f"{name}.json")["results"][heading]["metrics"]
        return {metric: metrics[metric]["mean"] for metric in METRICS}

    def row(self, name: str) -> dict[str, list[float]]:
        """Errors of all seeds, and what the monitor saw last: overlap (%) and scale of the cameras."""
        errors = [self.errors(f"{name}-{seed}") for seed in self.seeds]
        seen = [self.monitored(f"{name}-{seed}") for seed in self.seeds]
        found = {metric: [one[metric] for one in errors] for metric in METRICS}
        return found | {key: [one[key] for one in seen] for key in ("iou_percent", "camera_scale")}

    def monitored(self, run: str) -> dict[str, float]:
        """The last line of a run's log that the monitor wrote."""
        path = self.folder / "runs" / run / "log.jsonl"
        if not path.is_file():
            raise MissingResultError(f"{path} is missing: run reproduce_image_ssl.sh to its end")
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [line["monitor"] for line in lines if "monitor" in line][-1]


def shown(values: list[float], digits: int = 1) -> str:
    """Mean and, of several, standard deviation."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def verdict(fine: bool) -> str:
    """Whether something holds."""
    return "holds" if fine else "does NOT hold"


def table(results: Results) -> str:
    """All rows."""
    start, mean_pose = results.errors("start"), results.errors("start", "mean-pose")
    lines = ["| trained | MPJPE (mm) | PA-MPJPE (mm) | silhouette IoU (%) | camera scale | paper: H36M | paper: 3DPW |"]
    lines += ["| " + " | ".join(["---"] * 7) + " |"]
    lines.append(
        f"| mean pose of the training people | {mean_pose['mpjpe']:.1f} | {mean_pose['pa_mpjpe']:.1f} | | | | |"
    )
    lines.append(f"| the network it starts from | {start['mpjpe']:.1f} | {start['pa_mpjpe']:.1f} | | | – / 56.8 | |")
    for name, (title, h36m, outside) in ROWS.items():
        row = results.row(name)
        cells = [shown(row["mpjpe"]), shown(row["pa_mpjpe"]), shown(row["iou_percent"]), shown(row["camera_scale"], 2)]
        lines.append(f"| {title} | {' | '.join(cells)} | {h36m} | {outside} |")
    return "\n".join(lines)


def verdicts(results: Results) -> str:
    """What of the paper holds."""
    start = results.errors("start")

    def mean(name: str, key: str) -> float:
        return statistics.mean(results.row(name)[key])

    gains = {metric: 100.0 * (1.0 - mean("self", metric) / start[metric]) for metric in METRICS}
    listed = ", ".join(f"{metric} {gain:.1f} %" for metric, gain in gains.items())
    enough = min(gains.values()) >= LEAST_GAIN
    lines = [f"- Self-supervision lowers both errors by at least {LEAST_GAIN:.0f} %: {verdict(enough)} ({listed})."]
    for text, better, worse in (
        ("Weak supervision goes further than self", "weak", "self"),
        ("Semi-supervision goes further than weak", "semi", "weak"),
        ("Without L_real it is worse", "self", "no-real"),
        ("Without L_mask, too, worse still", "no-real", "no-real-no-mask"),
        ("All three tasks are better than the jigsaw alone", "self", "jigsaw"),
        ("All three tasks are better than rotation alone", "self", "rotation"),
        ("All three tasks are better than in-painting alone", "self", "inpainting"),
    ):
        pairs = [(mean(better, metric), mean(worse, metric)) for metric in METRICS]
        numbers = ", ".join(f"{one:.1f} against {other:.1f} mm" for one, other in pairs)
        lines.append(f"- {text}: {verdict(all(one < other for one, other in pairs))} (MPJPE, PA-MPJPE: {numbers}).")
    scale = mean("no-real-no-mask", "camera_scale")
    lines.append(
        f"- Without L_real and L_mask cameras collapse (scale below 0.5), with every loss they do not: "
        f"{verdict(scale < 0.5 <= mean('self', 'camera_scale'))} ({scale:.2f}, {mean('self', 'camera_scale'):.2f})."
    )
    return "\n".join(lines)


def made(results: Results) -> str:
    """How the numbers came about."""
    size = results.size
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    facts = json.loads((results.folder / "runs/start/config.json").read_text(encoding="utf-8"))["facts"]
    return f"""```text
examples/reproduce_image_ssl.sh OUT {size["size"]}
```

Commit {commit or "not noted"}, {date.today().isoformat()}. Network: {facts["backbone"]} on {size["side"]} px, init={facts["init"]}
(random numbers; the paper's begins with weights of HMR), trained for {size["epochs_start"]} epochs on labelled people of one room and few
poses; then {size["epochs"]} epochs of the heads and {size["epochs"]} of the network on these and on people filmed outside, without their
labels. Seeds: {", ".join(results.seeds)}; figures are means ± standard deviation over them, on people filmed outside that nothing was learned
from. Masks are the studio's. Compare ratios and orders with the paper, not millimetres."""


def main() -> int:
    """Writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("report", type=Path)
    given = parser.parse_args()
    try:
        results = Results(given.out)
        parts = [made(results), table(results), verdicts(results)]
        last = sorted((given.out / f"runs/self-{results.seeds[0]}/pictures").glob("*.png"))
        if not last:
            raise MissingResultError("the pictures of the self-supervised run are missing")
    except MissingResultError as error:
        print(error, file=sys.stderr)
        return 1
    given.report.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(last[-1], given.report.with_name("image_ssl-tasks.png"))
    parts.append(
        "![Image, jigsaw, turned, hole, in-painted, mask, rendered, over a background](image_ssl-tasks.png)\n\nPeople after the last "
        "epoch: image, jigsaw, turned, hole, in-painted, mask, rendered, over a background."
    )
    title = (
        "# Image-level self-supervision on studio data\n\nWritten by `examples/reproduce_image_ssl.sh`; do not edit."
    )
    given.report.write_text("\n\n".join([title, *parts]) + "\n", encoding="utf-8")
    print(f"wrote {given.report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
