from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from posekit.export.tables import write_csv, write_npz


def test_csv_has_times_of_the_video_and_empty_cells(tmp_path: Path) -> None:
    points = np.arange(12.0).reshape(2, 2, 3)
    points[1, 1] = np.nan
    confidence = np.array([[0.5, 1.0], [0.25, 0.0]])
    write_csv(tmp_path / "a.csv", points, ["hip", "knee"], np.array([10, 15]), 50.0, confidence=confidence)
    with (tmp_path / "a.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0])[:6] == ["frame", "time", "hip_x", "hip_y", "hip_z", "hip_confidence"]
    assert float(rows[1]["time"]) == 0.3 and rows[1]["frame"] == "15"
    assert rows[1]["knee_x"] == "" and float(rows[1]["hip_z"]) == 8.0 and float(rows[1]["hip_confidence"]) == 0.25


def test_csv_without_confidence(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", np.zeros((1, 1, 3)), ["hip"], np.array([0]), 25.0)
    assert (tmp_path / "a.csv").read_text().split() == ["frame,time,hip_x,hip_y,hip_z", "0,0.000000" + ",0.000000" * 3]


def test_npz_opens_without_pickle(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"points": np.ones((2, 3)), "names": np.array(["hip", "knee"])})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as content:
        assert content["names"].tolist() == ["hip", "knee"] and content["points"].shape == (2, 3)
    with pytest.raises(ValueError, match="objects"):
        write_npz(tmp_path / "b.npz", {"bad": np.array([None])})
    assert not (tmp_path / "b.npz").exists()
