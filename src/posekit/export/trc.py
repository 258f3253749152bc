"""Marker trajectories as TRC files, which OpenSim and the gait programs around it read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from posekit.atomic import replacing
from posekit.errors import FormatError, MissingFileError

Unit = Literal["mm", "m"]

_PER_METRE: dict[str, float] = {"mm": 1000.0, "m": 1.0, "cm": 100.0}
_HEADER_NAMES = "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames"


@dataclass(frozen=True)
class Trajectories:
    """Markers over time, in metres; NaN where a marker is missing. `frames` are the numbers in the file's first column."""

    points: Float[np.ndarray, "T J 3"]
    names: tuple[str, ...]
    times: Float[np.ndarray, "T"]
    frames: Int[np.ndarray, "T"]
    rate: float


def write_trc(
    path: Path,
    points: Float[np.ndarray, "T J 3"],
    names: Sequence[str],
    fps: float,
    *,
    first_frame: int = 1,
    unit: Unit = "mm",
) -> None:
    """Writes points given in metres, in the axes they come in (OpenSim wants y up).

    Missing markers (NaN) become empty cells. Time starts at zero. Raises OutputError where the file cannot be written.
    """
    count, markers = points.shape[:2]
    if markers != len(names):
        raise ValueError(f"{markers} markers but {len(names)} names")
    scaled = points * _PER_METRE[unit]
    rate = f"{fps:g}"
    values = [rate, rate, str(count), str(markers), unit, rate, str(first_frame), str(count)]
    axes = [f"{axis}{marker}" for marker in range(1, markers + 1) for axis in "XYZ"]
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        _HEADER_NAMES,
        "\t".join(values),
        "Frame#\tTime\t" + "\t".join(f"{_cell(name)}\t\t" for name in names),
        "\t\t" + "\t".join(axes),
        "",
    ]
    for index in range(count):
        row = scaled[index]
        whole = np.isfinite(row).all(axis=1)
        cells = [
            f"{value:.5f}" if present else "" for point, present in zip(row, whole, strict=True) for value in point
        ]
        lines.append("\t".join([str(first_frame + index), f"{index / fps:.6f}", *cells]))
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def read_trc(path: Path) -> Trajectories:
    """Reads a TRC file of any common unit, with or without a blank line before the data.

    Raises MissingFileError, or FormatError that names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise MissingFileError("TRC file not found", got=path) from None
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not text", got=error) from error
    if len(lines) < 5 or not lines[0].startswith("PathFileType"):
        raise FormatError(f"{path} is not a TRC file", got=lines[0][:60] if lines else "an empty file")
    header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=False))
    try:
        rate, markers, unit = float(header["DataRate"]), int(header["NumMarkers"]), header["Units"].strip()
        per_metre = _PER_METRE[unit]
    except (KeyError, ValueError) as error:
        raise FormatError(f"{path}: lines 2 and 3 do not give rate, markers and a known unit", got=lines[2]) from error
    names = tuple(cell.strip() for cell in lines[3].split("\t")[2:] if cell.strip())
    if len(names) != markers:
        raise FormatError(f"{path}: line 4 does not name every marker", got=len(names), accepted=markers)
    numbered = [(number, line) for number, line in enumerate(lines[5:], start=6) if line.strip()]
    rows = np.array([_numbers(line, 2 + 3 * markers, f"{path}: line {number}") for number, line in numbered])
    rows = rows.reshape(len(numbered), 2 + 3 * markers)
    return Trajectories(
        points=rows[:, 2:].reshape(-1, markers, 3) / per_metre,
        names=names,
        times=rows[:, 1],
        frames=rows[:, 0].astype(np.int64),
        rate=rate,
    )


def _cell(name: str) -> str:
    return " ".join(name.split())


def _numbers(line: str, count: int, where: str) -> list[float]:
    cells = line.rstrip("\r\n").split("\t")
    cells += [""] * (count - len(cells))
    if any(cell.strip() for cell in cells[count:]):
        raise FormatError(f"{where} has too many cells", got=len(cells), accepted=count)
    try:
        return [float(cell) if cell.strip() else float("nan") for cell in cells[:count]]
    except ValueError as error:
        raise FormatError(f"{where} holds something that is no number", got=error) from error
