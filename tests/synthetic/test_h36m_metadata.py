from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from posekit.body.smpl_file import load_body
from posekit.datasets.h36m_metadata import read_metadata
from posekit.errors import OutputError
from posekit.synthetic.h36m_joints import Human36MJoints
from posekit.synthetic.h36m_metadata import camera_numbers, write_metadata
from posekit.synthetic.h36m_names import ACTIONS, SUBJECTS, base_name
from posekit.synthetic.rig import rig


@pytest.fixture
def written(tmp_path: Path) -> Path:
    body = load_body()
    rest = Human36MJoints(body)(body.v_template.astype(float)[None], body.rest_joints[None])[0]
    path = tmp_path / "metadata.xml"
    write_metadata(path, 500, 3, {("S9", "Walking", 1): (12, 13, 13, 12), ("S9", "_ALL", 2): (3, 3, 3, 3)}, rest)
    return path


def cells(path: Path, table: str) -> list[list[str]]:
    found = ElementTree.parse(path).getroot().find(table)
    assert found is not None
    return [[cell.text or "" for cell in row] for row in found]


@pytest.mark.parametrize("subject", ["S1", "S7", "S11"])
def test_cameras_come_back_exactly(written: Path, subject: str) -> None:
    metadata = read_metadata(written)
    for camera in rig(subject, 500, 3):
        found = metadata.camera(subject, camera.name, camera.width, camera.height)
        np.testing.assert_allclose(found.rotation, camera.rotation, atol=1e-14)
        np.testing.assert_allclose(found.translation, camera.translation, atol=1e-13)
        np.testing.assert_array_equal(found.intrinsics, camera.intrinsics)
        assert (found.distortion, found.lens, found.session) == (camera.distortion, "human36m", subject)


def test_the_naming_table_comes_back(written: Path) -> None:
    takes = read_metadata(written).takes
    for subject in SUBJECTS:
        assert len(takes[subject]) == 30
        for action in ACTIONS:
            for trial in (1, 2):
                take = takes[subject][base_name(subject, action, trial)]
                assert (take.action, take.trial) == (action, trial)
    assert cells(written, "mapping")[-1][2:4] == ["[502 500;500 500;500 500;502 500]"] * 2
    assert cells(written, "mapping")[-1][8] == "[502 500;502 500;502 500;502 500]"


def test_tables_have_the_sizes_of_the_release(written: Path) -> None:
    mapping, frames = cells(written, "mapping"), cells(written, "frames")
    assert len(mapping) == 35 and {len(row) for row in mapping} == {13}
    assert len(frames) == 11 and {len(row) for row in frames} == {33}
    row = next(i for i, line in enumerate(mapping[1:33]) if line[:2] == ["14", "1"])
    assert mapping[1:33][row][2 + SUBJECTS.index("S9")] == "Walking 1"
    assert frames[SUBJECTS.index("S9")][1 + row] == "[12 13 13 12 50]"
    assert frames[SUBJECTS.index("S9")][2] == "[3 3 3 3 12]"
    assert frames[0][1] == "[0 0 0 0 0]"
    assert len(camera_numbers(1000, 0)) == 300
    measurements = cells(written, "subject_measurements")
    assert len(measurements) == 11 and {len(row[0].strip("[]").split()) for row in measurements} == {87}


def test_the_skeleton_is_whole(written: Path) -> None:
    root = ElementTree.parse(written).getroot()
    items = root.findall("skel_pos/tree/item")
    assert [item.findtext("name") for item in items][:4] == ["Hips", "RightUpLeg", "RightLeg", "RightFoot"]
    assert len(items) == 32
    offsets = np.array([[float(v) for v in (item.findtext("offset") or "").strip("[]").split()] for item in items])
    thigh, shin = np.linalg.norm(offsets[[2, 3]], axis=1)
    assert 300 < thigh < 500 and 300 < shin < 500
    assert [cell.text for cell in root.findall("dbcameras/index2id/cell")] == [c.name for c in rig("S1", 100, 0)]
    assert len(root.findall("actionnames/cell")) == 16
    assert root.findtext("w0") == root.findtext("dbcameras/projectionParams")


def test_unwritable_folders(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_metadata(tmp_path / "nowhere" / "metadata.xml", 500, 0, {}, np.zeros((32, 3)))
