"""What a training writes down while it runs: lines of JSON, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from posekit import parallel
from posekit.atomic import replacing, writing

LOG = "log.jsonl"
TENSORBOARD = "tensorboard"


class RunLog:
    """The log of a run folder; only the main process writes.

    Lines after step `first` are cut off: they belong to steps that will be taken again. With `first` 0 the log begins
    anew. Raises OutputError where the file system refuses.
    """

    def __init__(self, folder: Path, first: int) -> None:
        self._lines = None
        if not parallel.is_main():
            return
        path = folder / LOG
        with writing(path):
            _cut(path, first)
            if first == 0:
                for old in (folder / TENSORBOARD).glob("events.out.tfevents.*"):
                    old.unlink()
            self._lines = path.open("a", encoding="utf-8")
            from torch.utils.tensorboard import SummaryWriter  # only here: it takes long to load

            self._board = SummaryWriter(str(folder / TENSORBOARD), purge_step=first + 1)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lines is not None:
            self._lines.close()
            self._board.close()

    def write(self, step: int, line: Mapping[str, Any]) -> None:
        """One line; mappings in it (losses, monitor) become groups of curves."""
        if self._lines is None:
            return
        with writing(Path(self._lines.name)):
            self._lines.write(json.dumps({"step": step, **line}) + "\n")
            self._lines.flush()
            for name, value in line.items():
                curves = value if isinstance(value, Mapping) else {name: value}
                group = name if isinstance(value, Mapping) else "training"
                for curve, number in curves.items():
                    self._board.add_scalar(f"{group}/{curve}", number, step)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log in a run folder; a last line that was cut short is left out."""
    path = folder / LOG
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def _cut(path: Path, last: int) -> None:
    kept = [line for line in read_log(path.parent) if line["step"] <= last]
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
