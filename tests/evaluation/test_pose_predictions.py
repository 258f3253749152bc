from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.evaluation.keys import Keys
from posekit.evaluation.pose_predictions import PoseSource
from posekit.evaluation.predictions import NO_PREDICTION, NOT_TRUSTED
from posekit.skeleton.catalog import H36M17, MPII16

JOINTS = np.random.default_rng(0).normal(size=(3, 16, 3)).astype(np.float32)
PIXELS = np.random.default_rng(1).uniform(0, 100, (3, 16, 3)).astype(np.float32)


@pytest.fixture
def poses(tmp_path: Path) -> Path:
    header = Header("poses", "predict", skeleton=MPII16, facts={"scale": "bones", "root_depth": "none"})
    with ArtifactWriter(tmp_path / "a.h5", header) as writer:
        writer.append(
            "samples",
            {
                "sequence": [0, 0, 1],
                "frame": [5, 5, 0],
                "person": [0, 0, 0],
                "camera": [0, 1, 0],
                "joints3d": JOINTS,
                "keypoints2d": PIXELS,
                "ok": [True, True, False],
                "reason": ["", "", "no picture"],
            },
        )
    return tmp_path / "a.h5"


def keys(*rows: tuple[int, int, int, int]) -> Keys:
    return Keys(*np.array(rows).T)


def test_the_prediction_of_this_very_view_or_why_there_is_none(poses: Path) -> None:
    with Artifact(poses) as artifact:
        source = PoseSource(artifact)
        found = source.predict(keys((0, 5, 0, 1), (1, 0, 0, 0), (0, 5, 0, 2), (0, 5, 0, 0)))
        assert source.skeleton is artifact.skeleton and source.facts["scale"] == "bones"
    assert list(found.reason) == ["", f"{NOT_TRUSTED}: no picture", NO_PREDICTION, ""]
    np.testing.assert_array_equal(found.points[[0, 3]], JOINTS[[1, 0]])
    np.testing.assert_array_equal(found.pixels[[0, 3]], PIXELS[[1, 0], :, :2])
    assert np.isnan(found.points[1:3]).all() and np.isnan(found.pixels[1:3]).all()


def test_joints_of_another_skeleton_are_nan_where_the_network_does_not_know_them(poses: Path) -> None:
    with Artifact(poses) as artifact:
        found = PoseSource(artifact, H36M17).predict(keys((0, 5, 0, 0)))
    wrist = H36M17.index("left_wrist")
    np.testing.assert_array_equal(found.points[0, wrist], JOINTS[0, MPII16.index("left_wrist")])
    np.testing.assert_array_equal(found.pixels[0, wrist], PIXELS[0, MPII16.index("left_wrist"), :2])
    missing = [name for row, name in enumerate(H36M17.joints) if np.isnan(found.points[0, row]).any()]
    assert missing == [name for name in H36M17.joints if name not in MPII16]
