"""The errors of single samples, kept beside a result so that two results can be compared sample by sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.errors import ArtifactError
from posekit.evaluation.keys import Keys


@dataclass(frozen=True)
class SampleErrors:
    """For every evaluated sample the mean over its points of each metric, in the metric's unit; NaN: not measured."""

    keys: Keys
    values: Mapping[str, Float[np.ndarray, "N"]]
    units: Mapping[str, str]


def write_sample_errors(
    path: Path, header: Header, sequences: Mapping[str, np.ndarray], parts: Mapping[str, SampleErrors]
) -> None:
    """Writes an `errors` artifact: the parts under their headings, with the data set's table `sequences`."""
    units = {metric: unit for part in parts.values() for metric, unit in part.units.items()}
    facts = {"headings": list(parts), "metrics": list(units), "units": list(units.values())}
    with ArtifactWriter(path, replace(header, facts=facts)) as writer:
        writer.append("sequences", dict(sequences))
        for heading, part in enumerate(parts.values()):
            blank = np.full(len(part.keys), np.nan)
            writer.append(
                "errors",
                {
                    "heading": np.full(len(part.keys), heading),
                    "sequence": part.keys.sequence,
                    "frame": part.keys.frame,
                    "person": part.keys.person,
                    "camera": part.keys.camera,
                    "errors": np.stack([part.values.get(metric, blank) for metric in units], axis=1),
                },
            )


def read_sample_errors(artifact: Artifact) -> dict[str, SampleErrors]:
    """What `write_sample_errors` wrote, by heading; metrics that were never measured under a heading are left out.

    Raises ArtifactError when the file does not say what its headings and metrics are.
    """
    facts, heading = artifact.header.facts, artifact.read("errors", "heading")
    if not {"headings", "metrics", "units"} <= set(facts):
        raise ArtifactError(
            "the errors name no headings or metrics", got=artifact.path, hint="Run `posekit eval` again"
        )
    keys, errors = Keys.read(artifact, "errors"), artifact.read("errors", "errors")
    units = dict(zip(facts["metrics"], facts["units"], strict=True))
    parts = {}
    for number, name in enumerate(facts["headings"]):
        rows = heading == number
        values = {metric: errors[rows, column] for column, metric in enumerate(units)}
        measured = {metric: column for metric, column in values.items() if not np.isnan(column).all()}
        parts[name] = SampleErrors(keys.at(rows), measured, {metric: units[metric] for metric in measured})
    return parts
