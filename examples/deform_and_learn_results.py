"""What `reproduce_deform_and_learn.sh` left in its folder, for its report, and how it is put into words."""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

BONES, PLAIN, ALIGNED = "bone_rescaled_mpjpe", "mpjpe", "pa_mpjpe"

STRATEGIES = (
    ("single-step", "single step, all terms", "not given (stayed high)"),
    ("single-step-noadv", "single step, without adversarial and joint terms", "148.1"),
    ("one-round", "one round, trained as long as all", "134.8"),
)


class MissingResultError(FileNotFoundError):
    """A result that the report needs is not there, or does not hold what it should."""


@dataclass(frozen=True)
class Figure:
    """A mean with its 95 % interval."""

    mean: float
    interval: tuple[float, float] | None

    def shown(self, digits: int = 1) -> str:
        text = f"{self.mean:.{digits}f}"
        if self.interval is None:
            return text
        low, high = self.interval
        return f"{text} ({low:.{digits}f} to {high:.{digits}f})"


@dataclass(frozen=True)
class Results:
    """The folder that the shell script worked in."""

    folder: Path
    study_file: Path

    def read(self, name: str | Path) -> dict[str, Any]:
        path = self.folder / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise MissingResultError(f"{path} is missing; run reproduce_deform_and_learn.sh to its end") from None
        except ValueError as error:
            raise MissingResultError(f"{path} is not whole: {error}") from error
        if not isinstance(content, dict):
            raise MissingResultError(f"{path} holds no result")
        return content

    def figure(self, name: str, heading: str, metric: str) -> Figure:
        """A metric of a result of `posekit eval`."""
        try:
            found = self.read(name)["results"][heading]["metrics"][metric]
            interval = found["interval_95"]
            return Figure(float(found["mean"]), None if interval is None else (interval[0], interval[1]))
        except (KeyError, TypeError) as error:
            raise MissingResultError(f"{self.folder / name} has no {metric} of {heading}") from error

    def samples(self, name: str, heading: str) -> tuple[int, int]:
        """How many samples were evaluated and how many left out."""
        found = self.read(name)["results"][heading]
        return found["evaluated"], sum(found["skipped"].values())

    def pair(self, name: str, metric: str = BONES, part: str = "joints") -> dict[str, Any]:
        """A metric of a result of `posekit eval compare`."""
        file = f"results/compare-{name}.json"
        try:
            found: dict[str, Any] = self.read(file)["comparisons"][part]["metrics"][metric]
        except KeyError as error:
            raise MissingResultError(f"{self.folder / file} has no {metric} of {part}") from error
        return found

    @cached_property
    def size(self) -> dict[str, Any]:
        return self.read("results/size.json")

    @property
    def rounds(self) -> int:
        return int(self.size["rounds"])

    def test(self, number: int) -> str:
        return f"runs/rounds/round-{number}/h36m.json"

    def train(self, number: int) -> str:
        return f"runs/rounds/round-{number}/h36m.fits.json"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def holds(true: bool, claim: str) -> str:
    return f"{claim}: {'holds' if true else 'does not hold'} here."


def order(names: Sequence[str], values: Sequence[float]) -> str:
    """Whether values rise in the order in which the paper's do."""
    rising = all(a < b for a, b in pairwise(values))
    return holds(rising, f"The paper's order ({' < '.join(names)})")


def met(true: bool) -> str:
    return "met" if true else "missed"


def ratio_text(pair: Mapping[str, Any], metric: str = "ratio") -> str:
    interval = pair[f"{metric}_interval_95"]
    digits = 2 if metric == "ratio" else 1
    return Figure(pair[metric], None if interval is None else tuple(interval)).shown(digits)


def machine() -> str:
    import torch

    names = []
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}, {gpu}; Python "
        f"{platform.python_version()}, PyTorch {torch.__version__}"
    )


def revision() -> str:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def times(results: Results) -> list[tuple[str, float]]:
    """Minutes of each step, over all runs that led to the results."""
    path = results.folder / "seconds.tsv"
    if not path.is_file():
        raise MissingResultError(f"{path} is missing; run reproduce_deform_and_learn.sh")
    minutes: dict[str, float] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for name, seconds in csv.reader(file, delimiter="\t"):
            if name != "Report":
                minutes[name] = minutes.get(name, 0.0) + float(seconds) / 60
    return list(minutes.items())
