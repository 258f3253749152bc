"""How an artifact was made, and the digests by which a stage knows that it need not be made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import posekit
from posekit.errors import MissingFileError
from posekit.skeleton.skeleton import Skeleton


@dataclass(frozen=True)
class Header:
    """What a file says of itself besides its tables.

    `settings` are the settings that can change the content (no paths, no devices), `inputs` the content digests of what
    was read, by role, and `facts` what this kind of file adds (names of loss terms, the digest of the body, ...).
    """

    kind: str
    stage: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    skeleton: Skeleton | None = None
    seed: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    version: str = posekit.__version__

    def fingerprint(self) -> str:
        """A digest of everything that determines the content: the same fingerprint means the same work."""
        identity = {
            "kind": self.kind,
            "stage": self.stage,
            "settings": dict(self.settings),
            "inputs": dict(self.inputs),
            "seed": self.seed,
            "version": self.version,
        }
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """JSON in one fixed form, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise MissingFileError("file not found", got=path) from None


def files_digest(paths: Iterable[Path], root: Path) -> str:
    """One digest for many files: their paths below `root` and their contents, in a fixed order."""
    whole = hashlib.sha256()
    for path in sorted(paths):
        whole.update(f"{path.relative_to(root).as_posix()}\0{file_digest(path)}\n".encode())
    return whole.hexdigest()
