"""How an artifact came to be, followed back through the artifacts that are still at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posekit.artifacts.files import Artifact
from posekit.errors import PosekitError

_SEARCHED = ("data", "labels", "fits", "raw", "runs")


def history(file: Path, root: Path) -> list[dict[str, Any]]:
    """The artifact and, behind it, every artifact below `root` that it was made from, nearest first."""
    at_hand = _digests_below(root)
    entries: list[dict[str, Any]] = []
    waiting, seen = [file], set()
    while waiting:
        path = waiting.pop(0)
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        with Artifact(path) as artifact:
            header = artifact.header
            found = {role: at_hand.get(digest) for role, digest in header.inputs.items()}
            entries.append(
                {
                    "file": str(path),
                    "kind": header.kind,
                    "stage": header.stage,
                    "version": header.version,
                    "digest": artifact.digest,
                    "seed": header.seed,
                    "settings": dict(header.settings),
                    "inputs": {
                        role: f"{digest[:16]} {found[role] or '(not at hand)'}"
                        for role, digest in header.inputs.items()
                    },
                }
            )
        waiting += [path for path in found.values() if path is not None]
    return entries


def _digests_below(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in _SEARCHED:
        for path in sorted((root / folder).rglob("*.h5")):
            try:
                with Artifact(path) as artifact:
                    found[artifact.digest] = path
            except PosekitError:
                continue  # damaged or foreign files cannot be anybody's input; `verify` reports them
    return found
