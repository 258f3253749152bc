from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posekit.errors import FormatError, MissingFileError, OutputError
from posekit.export.trc import read_trc, write_trc

NAMES = ["pelvis", "right_hip", "left_hip"]


def _points() -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(4, 3, 3))
    points[2, 1] = np.nan
    return points


@pytest.mark.parametrize("unit", ["mm", "m"])
def test_round_trip(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "walk.trc"
    write_trc(path, _points(), NAMES, 50.0, first_frame=7, unit=unit)
    back = read_trc(path)
    np.testing.assert_allclose(back.points, _points(), atol=6e-6 if unit == "m" else 6e-9)
    assert back.names == tuple(NAMES) and back.rate == 50.0
    assert back.frames.tolist() == [7, 8, 9, 10]
    np.testing.assert_allclose(back.times, np.arange(4) / 50)


def test_layout_is_what_opensim_reads(tmp_path: Path) -> None:
    write_trc(tmp_path / "walk.trc", _points(), NAMES, 29.97)
    lines = (tmp_path / "walk.trc").read_text().splitlines()
    assert lines[0].split("\t") == ["PathFileType", "4", "(X/Y/Z)", "walk.trc"]
    assert lines[1].split("\t")[4] == "Units" and len(lines[1].split("\t")) == 8
    assert lines[2].split("\t") == ["29.97", "29.97", "4", "3", "mm", "29.97", "1", "4"]
    assert lines[3].split("\t")[:6] == ["Frame#", "Time", "pelvis", "", "", "right_hip"]
    assert lines[4].split("\t") == ["", "", "X1", "Y1", "Z1", "X2", "Y2", "Z2", "X3", "Y3", "Z3"]
    assert lines[5] == ""
    assert len(lines) == 10 and all(len(line.split("\t")) == 11 for line in lines[6:])
    assert lines[8].split("\t")[5:8] == ["", "", ""]


def test_reads_files_of_other_writers(tmp_path: Path) -> None:
    path = tmp_path / "other.trc"
    path.write_text(
        "PathFileType\t4\t(X/Y/Z)\tother.trc\n"
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames\n"
        "60\t60\t2\t2\tm\t60\t0\t2\n"
        "Frame#\tTime\tNeck\t\t\tHead\t\n\t\tX1\tY1\tZ1\tX2\tY2\tZ2\n"
        "0\t0.0\t1\t2\t3\t\t\t\n1\t0.016667\t1.5\t2\t3\t4\t5\t6\n"
    )
    trajectories = read_trc(path)
    assert trajectories.names == ("Neck", "Head") and trajectories.points.shape == (2, 2, 3)
    assert np.isnan(trajectories.points[0, 1]).all() and trajectories.points[1, 1].tolist() == [4, 5, 6]


def test_no_frames_is_a_file_too(tmp_path: Path) -> None:
    write_trc(tmp_path / "none.trc", np.zeros((0, 3, 3)), NAMES, 50.0)
    assert read_trc(tmp_path / "none.trc").points.shape == (0, 3, 3)


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
    [
        (0, "something else", "not a TRC file"),
        (2, "50\t50\t4\t3\tfurlong\t50\t1\t4", "known unit"),
        (2, "50\t50\t4\tmany\tmm\t50\t1\t4", "known unit"),
        (3, "Frame#\tTime\tpelvis", "line 4"),
        (7, "1\tx", "line 8"),
        (7, "\t".join(["1"] * 14), "line 8 has too many"),
    ],
)
def test_damage_is_named(tmp_path: Path, line: int, replacement: str, message: str) -> None:
    path = tmp_path / "walk.trc"
    write_trc(path, _points(), NAMES, 50.0)
    lines = path.read_text().splitlines()
    lines[line] = replacement
    path.write_text("\n".join(lines))
    with pytest.raises(FormatError, match=message):
        read_trc(path)


def test_missing_empty_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_trc(tmp_path / "none.trc")
    (tmp_path / "empty.trc").touch()
    with pytest.raises(FormatError, match="empty"):
        read_trc(tmp_path / "empty.trc")
    (tmp_path / "binary.trc").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(FormatError, match="not text"):
        read_trc(tmp_path / "binary.trc")


def test_refused_writes_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_trc(tmp_path / "file" / "walk.trc", _points(), NAMES, 50.0)
    with pytest.raises(ValueError, match="names"):
        write_trc(tmp_path / "walk.trc", _points(), NAMES[:2], 50.0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
