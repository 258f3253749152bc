"""The demo runs every stage and ends in figures that make sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import FITS, POSES
from posekit.config.programs import Demo
from posekit.pipelines import demo as stages
from posekit.pipelines.demo import demo


@pytest.mark.slow
def test_the_demo_measures_what_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = stages.load_recipe

    def short(path: Path) -> dict[str, Any]:
        """The recipe with a lifter that is hardly trained: what it knows is tested elsewhere."""
        recipe = shipped(path)
        if "lifter_settings" in recipe:
            recipe["lifter_settings"] = {**recipe["lifter_settings"], "epochs": 4}
        return recipe

    monkeypatch.setattr(stages, "load_recipe", short)
    config = Demo(
        output=tmp_path / "a demo",
        frames=4,
        resolution=200,
        iters=30,
        learning_frames=2,
        learning_epochs=1,
        pose_epochs=1,
        device="cpu",
    )
    report = demo(config)
    summary = json.loads((config.output / "summary.json").read_text())
    names = [stage["name"] for stage in summary["stages"]]
    assert names[0] == "synthesize h36m"
    assert {"triangulate (known cameras)", "register", "train deform-and-learn", "predict"} <= set(names)
    assert {"triangulate (pairs of views)", "train pose-resnet", "predict (joints)", "render joints"} <= set(names)
    assert all(Path(stage["output"]).exists() for stage in summary["stages"] if stage["output"])
    metrics = summary["metrics"]
    assert metrics["eval (known cameras, fits): joints3d_mpjpe_mm"] < 100
    assert metrics["eval (learned): mean-pose_mpjpe_mm"] > 100
    assert [table.title for table in report.tables][-1] == "What was run"
    with Artifact(config.output / "learning" / "predictions" / "h36m.h5", FITS) as predictions:
        assert predictions.rows("fits")
    assert metrics["eval (learned joints): predictions_pa_mpjpe_mm"] < 500
    with Artifact(config.output / "learning" / "predictions" / "joints.h5", POSES) as joints:
        assert joints.rows("samples")


def test_the_demo_without_learning_names_no_training(tmp_path: Path) -> None:
    report = demo(Demo(output=tmp_path, learn=False, dry_run=True))
    assert "train" not in report.notes[0]
    assert "train deform-and-learn" in demo(Demo(output=tmp_path, dry_run=True)).notes[0]
