"""What a stage says when it is done, and the work that all stages share around their own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import Kind
from posekit.errors import ArtifactError, InputError


@dataclass(frozen=True)
class Table:
    """A small table for people: a title, column names, rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class StageReport:
    """The outcome of a stage.

    `outputs` are the files made, `skipped` says that an up-to-date result was there already, `metrics` are plain numbers
    by name (units in the name), `counts` numbers of things done or left out, by reason, and `notes` sentences that the
    user should read.
    """

    stage: str
    outputs: Sequence[Path]
    skipped: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "stage": self.stage,
            "outputs": [str(path) for path in self.outputs],
            "skipped": self.skipped,
            "metrics": {name: float(value) for name, value in self.metrics.items()},
            "counts": {name: int(value) for name, value in self.counts.items()},
            "notes": list(self.notes),
        }


def optional_input(given: Path | None, *defaults: Path) -> Path | None:
    """The path that was given, or the first of the default ones that is there."""
    return given if given is not None else next((path for path in defaults if path.exists()), None)


def earlier_result(output: Path, header: Header, needed: str) -> dict[str, Any] | None:
    """The JSON result that is there already, if it is whole (has `needed`) and was made by the same settings from the same
    inputs."""
    try:
        content = json.loads(output.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(content, dict) and {"fingerprint", "results", needed} <= set(content)
    return content if whole and content["fingerprint"] == header.fingerprint() else None


def require_same_source(made_from: Artifact, role: str, source: Artifact) -> None:
    """Raises InputError when an artifact was made from another version of `source` than the one at hand."""
    recorded = made_from.header.inputs.get(role)
    if recorded != source.digest:
        raise InputError(
            f"{made_from.path} was not made from {source.path}",
            got=f"digest {str(recorded)[:12]}",
            accepted=source.digest[:12],
            hint="Run the stage that makes it again",
        )


def input_digests(**artifacts: Artifact | None) -> dict[str, str]:
    """The content digests of the inputs that are there, by role."""
    return {role: artifact.digest for role, artifact in artifacts.items() if artifact is not None}


def open_optional(path: Path | None, kind: Kind) -> Artifact | None:
    """An artifact, or None where there is no path."""
    return None if path is None else Artifact(path, kind)


def open_one_of(path: Path, *kinds: Kind) -> Artifact:
    """An artifact of one of several kinds; ArtifactError for another one."""
    artifact = Artifact(path)
    if artifact.kind not in kinds:
        found = artifact.kind.name
        artifact.close()
        raise ArtifactError(f"wrong kind of artifact: {path}", got=found, accepted=[kind.name for kind in kinds])
    return artifact
