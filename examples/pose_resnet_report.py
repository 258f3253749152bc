"""The report of `reproduce_pose_resnet.sh`: reads the results below a folder, writes Markdown and copies two pictures.

    python examples/pose_resnet_report.py OUT REPORT.md

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

METRICS = ("mpjpe", "pa_mpjpe", "n_mpjpe")
PAPER_ABLATION = {
    "nothing": ("–", "–", "–", "–", 102.7, 89.5, 98.0),
    "transfer": ("✓", "–", "–", "–", 83.7, 71.7, 82.8),
    "transfer-occlusion": ("✓", "✓", "–", "–", 76.1, 65.8, 74.5),
    "transfer-wasp": ("✓", "–", "✓", "–", 83.3, 71.2, 82.3),
    "transfer-cbam": ("✓", "–", "–", "✓", 82.8, 73.2, 81.8),
    "no-cbam": ("✓", "✓", "✓", "–", 76.0, 65.0, 74.4),
    "no-wasp": ("✓", "✓", "–", "✓", 74.8, 64.1, 72.9),
    "full": ("✓", "✓", "✓", "✓", 74.6, 63.8, 73.2),
}
"""Table 4: transfer, occlusion, WASP, CBAM; MPJPE, P-MPJPE, N-MPJPE in mm."""

PAPER_SUPERVISED = (51.8, 41.9, 49.4)
PAPER_RATIO = 1.44
PAPER_DEPTHS = {"resnet18": 84.7, "resnet34": 86.3, "resnet50": 88.3, "resnet101": 88.9}
LABELS = {
    "self": "key points of the 2D network, intrinsics alone",
    "self-2dgt": "true key points, intrinsics alone",
    "noisy": "true key points with noise of 2 px (of 1000), intrinsics alone",
    "extrinsics-given": "key points of the 2D network, cameras known",
}


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
            raise MissingResultError(f"{path} is missing: run reproduce_pose_resnet.sh to its end")
        return json.loads(path.read_text(encoding="utf-8"))

    def errors(self, name: str, heading: str = "predictions") -> dict[str, float]:
        """Mean errors of one result, mm."""
        found = self.read(f"{name}.json")["results"][heading]
        return {metric: found["metrics"][metric]["mean"] for metric in METRICS} | {"evaluated": found["evaluated"]}

    def over_seeds(self, row: str, ending: str = "") -> dict[str, list[float]]:
        """The errors of all seeds of a row."""
        each = [self.errors(f"3d-{row}-{seed}{ending}") for seed in self.seeds]
        return {metric: [one[metric] for one in each] for metric in METRICS}


def shown(values: list[float]) -> str:
    """Mean and, of several, standard deviation."""
    if len(values) < 2:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def verdict(fine: bool) -> str:
    """Whether something holds."""
    return "holds" if fine else "does NOT hold"


def made(results: Results) -> str:
    size = results.size
    config = json.loads(
        (results.folder / f"runs/3d-full-{results.seeds[0]}" / "config.json").read_text(encoding="utf-8")
    )
    settings = config["settings"]
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    machine = results.folder / "machine.txt"
    return f"""## How it was made

```text
examples/reproduce_pose_resnet.sh OUT {size["size"]}
```

Machine: {machine.read_text(encoding="utf-8").strip() if machine.is_file() else "not noted"}.
Commit {commit or "not noted"}, {date.today().isoformat()}.
Network: {settings["backbone"]} on {settings["input_size"]} px crops, heat maps of {settings["input_size"] // 4} x
{settings["input_size"] // 4} x {settings["depth_bins"]} cells, first weights: {settings["weights"]}; {size["epochs_2d"]} epochs of the
2D branch ({size["epochs_depths"]} where trunks are compared), {size["epochs"]} of the 3D branch, batch {settings["batch"]}, learning rate {settings["lr"]:g}, recipe `{size["recipe"]}`.
The paper: ResNet-50 with weights of ImageNet on 256 px, 130 epochs each, batch 16.

Seeds: {", ".join(results.seeds)}; figures are mean ± standard deviation over them. Test images are those of S9 and S11, whom no
network has learned from. The studio's people, rooms and motions are far fewer and simpler than those of the real data sets, so
compare ratios and orders with the paper, not millimetres.
"""


def labels(results: Results) -> str:
    rows, found = [], {}
    for name, about in LABELS.items():
        result = results.read(f"labels-{name}.json")["results"]["joints3d"]
        share = 100.0 * result["evaluated"] / (result["evaluated"] + sum(result["skipped"].values()))
        found[name] = share, result["metrics"]["pa_mpjpe"]["mean"]
        figures = [f"{result['metrics'][metric]['mean']:.1f}" for metric in METRICS]
        rows.append([about, f"{share:.1f} %", *figures])
    (share, own), (_, noisy) = found["self"], found["noisy"]
    return f"""## Labels of two views, training subjects

{table(["made from", "frames that pass", "MPJPE (mm)", "PA-MPJPE (mm)", "N-MPJPE (mm)"], rows)}

MPJPE contains the guess of each person's size; the labels in units of the crop that the network learns from do not.

- At least 90 % of the frames pass, and PA-MPJPE of the 2D network's labels is at most 40 mm: {verdict(share >= 90 and own <= 40)}
  ({share:.1f} %, {own:.1f} mm).
- At most 25 mm from true key points with 2 px of noise: {verdict(noisy <= 25)} ({noisy:.1f} mm).
"""


def supervision(results: Results) -> str:
    ours, theirs = results.over_seeds("full"), results.over_seeds("supervised")
    first = results.seeds[0]
    mean_pose = results.errors(f"3d-full-{first}", "mean-pose")
    rows = [["self-supervised", *(shown(ours[metric]) for metric in METRICS), "74.6 / 63.8 / 73.2"]]
    rows.append(["fully supervised", *(shown(theirs[metric]) for metric in METRICS), "51.8 / 41.9 / 49.4"])
    rows += [
        [f"{name} (seed {first})", *(f"{results.errors(f'3d-{name}-{first}')[metric]:.1f}" for metric in METRICS), ""]
        for name in ("self-2dgt", "extrinsics-given")
    ]
    rows.append(["mean pose of the training subjects", *(f"{mean_pose[metric]:.1f}" for metric in METRICS), ""])
    gt = {row: results.over_seeds(row, ".gt") for row in ("full", "supervised")}
    rows += [
        [f"{title}, true depth of the root", *(shown(gt[row][metric]) for metric in METRICS), ""]
        for row, title in (("full", "self-supervised"), ("supervised", "fully supervised"))
    ]
    ratios = {metric: statistics.mean(ours[metric]) / statistics.mean(theirs[metric]) for metric in METRICS}
    below = all(max(statistics.mean(one[m]) for one in (ours, theirs)) < 0.8 * mean_pose[m] for m in METRICS)
    listed = ", ".join(f"{metric} {ratio:.2f}" for metric, ratio in ratios.items())
    return f"""## Self-supervision against full supervision, held-out subjects

{table(["supervision", "MPJPE (mm)", "PA-MPJPE (mm)", "N-MPJPE (mm)", "paper"], rows)}

Without the depth of the root all predictions have the canonical size, so MPJPE contains everybody's size for both. With the true
depth of the root the scale leaks (EpipolarPose's evaluation).

- Self-supervised is at most {PAPER_RATIO} times fully supervised: {verdict(max(ratios.values()) <= PAPER_RATIO)} ({listed}).
- Both are below 0.8 times the mean pose: {verdict(below)}.
"""


def ablation(results: Results) -> str:
    rows = []
    for name, (transfer, occlusion, wasp, cbam, *paper) in PAPER_ABLATION.items():
        clear, covered = results.over_seeds(name), results.over_seeds(name, ".occluded")
        rows.append(
            [
                *(transfer, occlusion, wasp, cbam),
                *(shown(clear[metric]) for metric in METRICS),
                *(shown(covered[metric]) for metric in METRICS[:2]),
                " / ".join(f"{value:.1f}" for value in paper),
            ]
        )
    columns = [
        "transfer",
        "occlusion",
        "WASP",
        "CBAM",
        "MPJPE",
        "PA",
        "N",
        "MPJPE occluded",
        "PA occluded",
        "paper: MPJPE / PA / N",
    ]
    return f"""## Ablation, held-out subjects (mm)

{table(columns, rows)}

Occluded: objects pasted over each test image until a share of the person's box up to 70 %, drawn at random, is covered; the same
ones for every network.

{orders(results)}
"""


def orders(results: Results) -> str:
    def mean(row: str, ending: str = "", metric: str = "mpjpe") -> float:
        return statistics.mean(results.over_seeds(row, ending)[metric])

    def spread(*names: str) -> float:
        return max(
            statistics.stdev(results.over_seeds(name)["mpjpe"]) if len(results.seeds) > 1 else 0.0 for name in names
        )

    def line(text: str, better: str, worse: str, ending: str = "") -> str:
        one, other = mean(better, ending), mean(worse, ending)
        pa = mean(better, ending, "pa_mpjpe"), mean(worse, ending, "pa_mpjpe")
        return f"- {text}: {verdict(one < other)} (MPJPE {one:.1f} against {other:.1f} mm; PA {pa[0]:.1f} against {pa[1]:.1f} mm)."

    found = [
        line("Transfer helps", "transfer", "nothing"),
        line("Transfer helps on occluded images", "transfer", "nothing", ".occluded"),
        line("Occlusion helps", "transfer-occlusion", "transfer"),
        line("Occlusion helps on occluded images", "transfer-occlusion", "transfer", ".occluded"),
        line("WASP helps (without occlusion)", "transfer-wasp", "transfer"),
        line("CBAM helps (without occlusion)", "transfer-cbam", "transfer"),
        line("WASP helps the network with CBAM", "full", "no-wasp"),
        line("CBAM helps the network with WASP", "full", "no-cbam"),
    ]
    largest = spread("transfer", "transfer-wasp", "transfer-cbam", "full", "no-wasp", "no-cbam")
    return "\n".join(
        [
            *found,
            "",
            f"The largest standard deviation over seeds among these rows is {largest:.1f} mm: smaller differences mean nothing.",
        ]
    )


def depths(results: Results) -> str:
    rows = []
    for path in sorted((results.folder / "results").glob("2d-*.json")):
        name = path.stem.removeprefix("2d-")
        content = json.loads(path.read_text(encoding="utf-8"))
        figure = content["results"]["keypoints"]["metrics"]["pckh_50"]["mean"]
        paper = PAPER_DEPTHS.get(name)
        rows.append([name, f"{figure:.1f}", "" if paper is None else f"{paper:.1f}"])
    return f"""## 2D networks, held-out people

{table(["network", "PCKh@0.5 (%)", "paper (%)"], rows)}

`full`, `wasp`, `cbam` and `plain` have the trunk of the recipe with both modules, one, or none; the others have both modules and
the trunk that they are called after, and were trained for {results.size["epochs_depths"]} epochs instead of
{results.size["epochs_2d"]}.
"""


def pictures(results: Results, report: Path) -> str:
    first = results.seeds[0]
    chart = results.folder / "results" / f"3d-full-{first}.joints.png"
    if not chart.is_file():
        raise MissingResultError(f"{chart} is missing")
    shutil.copy(chart, report.with_name("pose_resnet-joints.png"))
    return """## Errors by joint

![Errors of each joint, self-supervised](pose_resnet-joints.png)

The paper (Figure 13): hips best; ankles, wrists, neck and head worst; left and right alike.
"""


def main() -> int:
    """Writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("report", type=Path)
    given = parser.parse_args()
    try:
        results = Results(given.out)
        parts = [made(results), labels(results), supervision(results), ablation(results), depths(results)]
        given.report.parent.mkdir(parents=True, exist_ok=True)
        parts.append(pictures(results, given.report))
    except MissingResultError as error:
        print(error, file=sys.stderr)
        return 1
    title = "# Pose ResNet on studio data\n\nWritten by `examples/reproduce_pose_resnet.sh`; do not edit."
    given.report.write_text("\n\n".join([title, *(part.strip() for part in parts)]) + "\n", encoding="utf-8")
    print(f"wrote {given.report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
