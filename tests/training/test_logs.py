"""The log of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from posekit.errors import OutputError
from posekit.training.logs import RunLog, read_log


def test_lines_come_back(tmp_path: Path) -> None:
    with RunLog(tmp_path, 0) as log:
        log.write(5, {"losses": {"a": 1.5}, "lr": 1e-3})
        log.write(10, {"monitor": {"error": 2.0}})
    assert read_log(tmp_path) == [
        {"step": 5, "losses": {"a": 1.5}, "lr": 1e-3},
        {"step": 10, "monitor": {"error": 2.0}},
    ]
    assert read_log(tmp_path / "nowhere") == []


def test_what_comes_after_the_checkpoint_is_cut_off(tmp_path: Path) -> None:
    with RunLog(tmp_path, 0) as log:
        for step in (5, 10, 15):
            log.write(step, {"lr": 1.0})
    with (tmp_path / "log.jsonl").open("a") as lines:
        lines.write('{"step": 20, "lr"')  # cut short by a kill
    assert [line["step"] for line in read_log(tmp_path)] == [5, 10, 15]
    with RunLog(tmp_path, 10) as log:
        log.write(15, {"lr": 2.0})
    assert [(line["step"], line["lr"]) for line in read_log(tmp_path)] == [(5, 1.0), (10, 1.0), (15, 2.0)]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_a_training_that_starts_over_has_a_new_log(tmp_path: Path) -> None:
    for _ in range(2):
        with RunLog(tmp_path, 0) as log:
            log.write(5, {"lr": 1.0})
    assert len(read_log(tmp_path)) == 1
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_curves_reach_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path, 0) as log:
        log.write(5, {"losses": {"a": 1.5}, "lr": 1e-3, "monitor": {"error": 2.0}})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"losses/a", "training/lr", "monitor/error"}
    assert events.Scalars("losses/a")[0].step == 5


def test_other_processes_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with RunLog(tmp_path, 0) as log:
        log.write(5, {"lr": 1.0})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_refuses(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        RunLog(tmp_path, 0)
