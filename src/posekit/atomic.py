"""Files that are whole or absent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from posekit.errors import OutputError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns failures of the file system inside the block into OutputError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"cannot write {path}", got=error, hint="Check that the folder exists, is writable and has free space"
        ) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, of the same ending, that takes its name when the block ends without error.

    Raises OutputError where the file system refuses.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
