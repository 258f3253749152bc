"""What a stage noted of a folder of files that are no artifacts, so that unchanged work is skipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from posekit.artifacts.provenance import Header, file_digest
from posekit.atomic import replacing


def files_of(manifest: Path, header: Header) -> list[Path] | None:
    """The files that were made by the same work, if all are there and hold what they held; else None."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        same = content["fingerprint"] == header.fingerprint()
        digests = {manifest.parent / name: digest for name, digest in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    whole = same and all(path.is_file() and file_digest(path) == digest for path, digest in digests.items())
    return list(digests) if whole else None


def write_manifest(manifest: Path, header: Header, files: Sequence[Path]) -> None:
    """Notes files (below the manifest's folder) with the work that made them; to be called last."""
    content = {
        "stage": header.stage,
        "posekit_version": header.version,
        "fingerprint": header.fingerprint(),
        "inputs": dict(header.inputs),
        "settings": dict(header.settings),
        "files": {path.relative_to(manifest.parent).as_posix(): file_digest(path) for path in files},
    }
    with replacing(manifest) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
