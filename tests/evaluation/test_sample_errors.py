from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import ERRORS
from posekit.artifacts.writing import ArtifactWriter
from posekit.errors import ArtifactError
from posekit.evaluation.keys import Keys
from posekit.evaluation.sample_errors import SampleErrors, read_sample_errors, write_sample_errors
from posekit.records import Clip, clip_columns


def _part(count: int, seed: int, units: dict[str, str]) -> SampleErrors:
    generator = np.random.default_rng(seed)
    numbers = np.arange(count, dtype=np.int64)
    return SampleErrors(
        Keys(numbers % 2, numbers, 0 * numbers, 0 * numbers + 3),
        {metric: generator.random(count) for metric in units},
        units,
    )


def test_what_is_written_comes_back_under_its_heading(tmp_path: Path) -> None:
    parts = {
        "fits": _part(5, 0, {"mpjpe": "mm", "per_pixel": "px"}),
        "fits_vertices": _part(3, 1, {"per_pixel_vertices": "px"}),
        "mean-pose": _part(4, 2, {"mpjpe": "mm"}),
    }
    sequences = {name: np.asarray(values) for name, values in clip_columns([Clip("a", 50.0), Clip("b", 50.0)]).items()}
    path = tmp_path / "toy.errors.h5"
    write_sample_errors(path, Header("errors", "eval", seed=0), sequences, parts)
    with Artifact(path, ERRORS) as artifact:
        artifact.verify()
        found = read_sample_errors(artifact)
    assert list(found) == list(parts)
    for heading, part in parts.items():
        assert found[heading].units == part.units
        np.testing.assert_array_equal(found[heading].keys.frame, part.keys.frame)
        np.testing.assert_array_equal(found[heading].keys.camera, part.keys.camera)
        for metric, values in part.values.items():
            np.testing.assert_array_equal(found[heading].values[metric], values)


def test_a_file_that_does_not_name_its_metrics_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy.errors.h5"
    with ArtifactWriter(path, Header("errors", "eval")) as writer:
        writer.append("sequences", clip_columns([Clip("a", 50.0)]))
    with Artifact(path, ERRORS) as artifact, pytest.raises(ArtifactError, match="name no headings"):
        read_sample_errors(artifact)
