from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posekit.config.results import Compare, Evaluate
from posekit.errors import InputError, MissingFileError
from posekit.stages.compare import compare
from posekit.stages.evaluate import evaluate
from posekit.stages.report import StageReport


def _evaluated(recording: Any, name: str, noise: float, **settings: Any) -> Path:
    noisy = recording.joints + noise * np.random.default_rng(3).normal(size=recording.joints.shape)
    recording.write_labels(noisy)
    output = recording.root / "results" / f"{name}.json"
    evaluate(Evaluate(dataset=recording.dataset, output=output, bootstrap=0, device="cpu", **settings))
    return output


def _compared(first: Path, second: Path, **settings: Any) -> StageReport:
    return compare(Compare(first=first, second=second, bootstrap=100, **settings))


def test_a_better_result_is_seen_as_better(recording: Any) -> None:
    worse, better = _evaluated(recording, "worse", 0.04), _evaluated(recording, "better", 0.02)
    output = recording.root / "compared.json"
    report = _compared(worse, better, output=output)
    assert report.metrics["mpjpe_difference_high_mm"] < 0
    assert report.metrics["mpjpe_ratio"] == pytest.approx(0.5, abs=0.01) and report.metrics["mpjpe_improved"] == 1.0
    assert report.counts["joints: paired"] == 72 and report.counts["joints: only in the first"] == 0
    content = json.loads(output.read_text())
    first, second = (json.loads(path.read_text())["results"]["joints3d"]["metrics"] for path in (worse, better))
    metric = content["comparisons"]["joints"]["metrics"]["mpjpe"]
    assert metric["first"] == pytest.approx(first["mpjpe"]["mean"], rel=1e-6)
    assert metric["difference"] == pytest.approx(second["mpjpe"]["mean"] - first["mpjpe"]["mean"], rel=1e-5)
    assert set(metric["per_action"]) == {"Directions", "Walking"}
    assert content["first"]["heading"] == "joints3d" and content["protocol"]["name"] == "all"
    back = _compared(better, worse)
    assert back.metrics["mpjpe_difference_mm"] == pytest.approx(-report.metrics["mpjpe_difference_mm"])
    assert [table.title for table in report.tables] == ["joints", "mpjpe by action"]


def test_a_result_equals_itself(recording: Any) -> None:
    path = _evaluated(recording, "one", 0.04)
    metrics = _compared(path, path).metrics
    differences = [value for name, value in metrics.items() if "_difference" in name]
    assert differences and not any(differences) and metrics["mpjpe_ratio"] == 1.0


def test_headings_of_one_result_are_compared(recording: Any) -> None:
    path = _evaluated(recording, "one", 0.01, baseline=True)
    report = _compared(path, path, heading="mean-pose", second_heading="joints3d")
    assert report.metrics["mpjpe_difference_mm"] < 0 and "mean-pose" in report.notes[0]
    with pytest.raises(InputError, match="holds no such heading"):
        _compared(path, path, heading="predictions")


def test_vertices_are_compared_where_both_have_them(recording: Any) -> None:
    recording.write_truth()
    recording.write_fits()
    good = _evaluated(recording, "good", 0.01, truth=recording.truth)
    scales = np.ones(recording.pose.shape[:2])
    scales[:, 4] = 1.3
    recording.write_fits(segment_scales=scales)
    bad = _evaluated(recording, "bad", 0.01, truth=recording.truth)
    report = _compared(good, bad)
    assert "fits" in report.notes[0] and report.counts["vertices: paired"] == 72
    assert report.metrics["per_vertex_reconstruction_difference_low_mm"] > 0
    assert report.metrics["per_pixel_vertices_difference_low_px"] > 0


def test_samples_without_a_partner_are_counted(recording: Any) -> None:
    whole = _evaluated(recording, "whole", 0.01)
    keep = slice(0, 20)
    recording.keys = {name: values[keep] for name, values in recording.keys.items()}
    recording.joints = recording.joints[keep]
    part = _evaluated(recording, "part", 0.01)
    report = _compared(whole, part)
    assert report.counts["joints: paired"] == 60 and report.counts["joints: only in the first"] == 12
    assert any("12 samples are only in the first" in note for note in report.notes)


def test_results_of_other_protocols_and_data_are_refused(recording: Any) -> None:
    everything = _evaluated(recording, "all", 0.01)
    with pytest.raises(InputError, match="different protocols"):
        _compared(everything, _evaluated(recording, "p1", 0.01, protocol="p1"))
    with pytest.raises(InputError, match="different protocols"):
        _compared(everything, _evaluated(recording, "train", 0.01, split="train"))
    recording.write_dataset(seed=1)
    with pytest.raises(InputError, match="different data sets"):
        _compared(everything, _evaluated(recording, "other", 0.01))


def test_what_is_no_result_is_refused(recording: Any) -> None:
    path = _evaluated(recording, "one", 0.01)
    with pytest.raises(MissingFileError, match="result not found"):
        _compared(path, recording.root / "none.json")
    broken = recording.root / "broken.json"
    broken.write_text("{")
    with pytest.raises(InputError, match="not a result"):
        _compared(broken, path)
    broken.write_text("[]")
    with pytest.raises(InputError, match="not a result"):
        _compared(broken, path)
    content = json.loads(path.read_text())
    del content["errors"]
    broken.write_text(json.dumps(content))
    with pytest.raises(InputError, match="keeps no errors of samples"):
        _compared(broken, path)


def test_errors_of_another_result_are_refused(recording: Any) -> None:
    first, second = _evaluated(recording, "first", 0.01), _evaluated(recording, "second", 0.02)
    second.with_suffix(".errors.h5").replace(first.with_suffix(".errors.h5"))
    with pytest.raises(InputError, match="does not belong to"):
        _compared(first, first)


def test_headings_that_only_one_result_has(recording: Any) -> None:
    path = _evaluated(recording, "labels", 0.01)
    (recording.root / "labels" / "toy.joints3d.h5").unlink()
    recording.write_fits()
    output = recording.root / "results" / "fits.json"
    evaluate(Evaluate(dataset=recording.dataset, output=output, bootstrap=0, device="cpu"))
    with pytest.raises(InputError, match="nothing under the same heading"):
        _compared(path, output)
    assert _compared(path, output, heading="joints3d", second_heading="fits").counts["joints: paired"] == 72


def test_dry_run_says_what_it_would_do(recording: Any) -> None:
    path = _evaluated(recording, "one", 0.01)
    report = _compared(path, path, dry_run=True, output=recording.root / "c.json")
    assert "would compare joints3d" in report.notes[0] and not (recording.root / "c.json").exists()
