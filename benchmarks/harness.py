"""Times functions and writes the results, with the machine and the commit, as JSON.

Each benchmark beside this file compares two ways of doing one thing in one run, so that its ratios hold on any machine.
`minimum` is the figure to compare on a machine that others use as well; `median` and `spread` say how quiet it was.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of one call; `spread` is the distance between the quartiles."""

    median: float
    minimum: float
    spread: float
    repeats: int

    @property
    def median_ms(self) -> float:
        return 1e3 * self.median

    @property
    def minimum_ms(self) -> float:
        return 1e3 * self.minimum


def time_function(
    function: Callable[[], Any], *, warmup: int = 2, repeats: int = 9, max_seconds: float = 60.0
) -> Timing:
    """The time of `function()`, with pending CUDA work waited for; stops early, after at least one call, when
    `max_seconds` are spent."""
    for _ in range(warmup):
        function()
    seconds: list[float] = []
    began = time.perf_counter()
    while len(seconds) < repeats and (not seconds or time.perf_counter() - began < max_seconds):
        _synchronize()
        start = time.perf_counter()
        function()
        _synchronize()
        seconds.append(time.perf_counter() - start)
    ordered = sorted(seconds)
    count = len(ordered)
    return Timing(
        median=ordered[count // 2],
        minimum=ordered[0],
        spread=ordered[(3 * count) // 4 if count > 1 else 0] - ordered[count // 4],
        repeats=count,
    )


def write_results(name: str, results: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Writes `results` (timings, numbers, strings, nested mappings) to `<folder>/<name>.json` beside what ran them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    document = {"benchmark": name, **machine(), "results": _plain(results)}
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def machine() -> dict[str, Any]:
    """What a reader needs to judge a timing: processor, threads, versions, commit, time, and how busy the machine is."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Timing):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
