"""Keys of rows, and which bodies a data set asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.errors import InputError
from posekit.registration.bodies import KeyedRows, bodies_of, pack_keys
from posekit.skeleton.catalog import H36M17


def test_keys_are_ordered_and_checked() -> None:
    sequence, frame = np.array([0, 0, 1, -1]), np.array([5, 6, 0, 2])
    keys = pack_keys(sequence, frame)
    assert keys[0] < keys[1] < keys[2] and keys[3] == -1
    with pytest.raises(InputError, match="frame"):
        pack_keys(np.array([0]), np.array([1 << 40]))


def test_rows_are_found_by_key() -> None:
    rows = KeyedRows(np.array([7, 3, 3, 9]))
    assert rows.find(np.array([3, 9, 4, -1, 100])).tolist() == [1, 3, -1, -1, -1]
    assert KeyedRows(np.array([], dtype=np.int64)).find(np.array([1])).tolist() == [-1]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two people; frames 0, 10, ... 50 in two views; the second person is not in view 1 at frame 20."""
    table = [(0, 10 * f, p, c) for c in (1, 0) for f in range(6) for p in (1, 0) if (f, p, c) != (2, 1, 1)]
    sequence, frame, person, camera = np.array(table).T
    path = tmp_path / "data.h5"
    with ArtifactWriter(path, Header("dataset", "test", skeleton=H36M17)) as writer:
        columns = {"sequence": sequence, "frame": frame, "person": person, "camera": camera}
        labels = {"bbox": np.zeros((len(table), 4)), "keypoints2d": np.zeros((len(table), 17, 3))}
        writer.append("samples", columns | labels)
    return path


def test_one_body_per_instant_and_person(dataset: Path) -> None:
    with Artifact(dataset) as artifact:
        bodies = bodies_of(artifact, joint_views=True, usable=np.ones(2, bool), stride=1)
        camera = artifact.read("samples", "camera")
    assert bodies.person.tolist() == [0] * 6 + [1] * 6
    assert bodies.frame.tolist() == [0, 10, 20, 30, 40, 50] * 2
    assert (bodies.camera == -1).all()
    assert (bodies.samples >= 0).sum(1).tolist() == [2] * 8 + [1] + [2] * 3
    assert camera[bodies.samples[0]].tolist() == [0, 1]
    assert bodies.linked().tolist() == [False, True, True, True, True, True] * 2


def test_one_body_per_image_of_usable_cameras_at_a_stride(dataset: Path) -> None:
    with Artifact(dataset) as artifact:
        single = bodies_of(artifact, joint_views=False, usable=np.ones(2, bool), stride=1)
        strided = bodies_of(artifact, joint_views=False, usable=np.array([False, True]), stride=2)
    assert single.samples.shape == (23, 1) and sorted(set(single.camera.tolist())) == [0, 1]
    assert strided.frame.tolist() == [0, 20, 40, 0, 40] and (strided.camera == 1).all()
