"""The folders that the studio renders into: recognised by a notice, made whole under another name, then put in place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posekit.atomic import writing
from posekit.errors import InputError

NOTICE_FILE = "SYNTHETIC.txt"


def check_replaceable(output: Path) -> None:
    """Raises InputError where something is that the studio did not make."""
    if output.is_file():
        raise InputError("a file where a folder is to be written", got=output)
    if output.is_dir() and any(output.iterdir()) and not (output / NOTICE_FILE).is_file():
        raise InputError(
            f"{output} holds data that the studio did not make, and it would be replaced",
            hint="Choose another folder with --output",
        )


@contextmanager
def replacing_folder(output: Path, notice: str) -> Iterator[Path]:
    """An empty folder that takes the place of `output` when the block ends without error. Raises OutputError."""
    unfinished = output.with_name(f".{output.name}.unfinished")
    with writing(unfinished):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        (unfinished / NOTICE_FILE).write_text(notice, encoding="utf-8")
    yield unfinished
    outdated = output.with_name(f".{output.name}.outdated")
    with writing(output):
        shutil.rmtree(outdated, ignore_errors=True)
        if output.exists():
            output.rename(outdated)
        unfinished.rename(output)
        shutil.rmtree(outdated, ignore_errors=True)
