from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import CORRESPONDENCES, TRUTH
from posekit.body.smpl_file import load_body
from posekit.records import Clip, cameras_from_columns, clips_from_columns
from posekit.synthetic.bodies import Take, TakeRequest, perform, posed
from posekit.synthetic.recording import DENSE_FILE, TRUTH_FILE, Frame, Recording, TruthWriter
from posekit.synthetic.rig import rig
from posekit.synthetic.scene import Look, Scene, Stage
from posekit.threads import one_thread_each

FRAMES, POINTS = 3, 20


def recording(cameras: tuple[int, ...] = (0, 2)) -> Recording:
    body = load_body()
    take = perform(body, TakeRequest("Posing", "S5", 1, FRAMES, 10.0), seed=0)
    scene = Scene(body, Stage(rig("S5", 160, 0), Look.of(0, "S5")), take.seats)
    return Recording("S5 Posing 2", take, scene, cameras, POINTS, seed=0)


def write(folder: Path) -> tuple[Recording, list[Frame]]:
    recorded = recording()
    truth, dense = (Header(kind=kind, stage="test", seed=0) for kind in ("truth", "correspondences"))
    clips = [Clip("other", 10.0), Clip("S5 Posing 2", 10.0, "S5", "Posing", 1, "train")]
    frames = []
    with TruthWriter(folder, truth, dense, [*rig("S1", 160, 0), *rig("S5", 160, 0)], clips) as writer:
        for frame in recorded.frames(load_body()):
            writer.add(1, 0, recorded, frame)
            frames.append(frame)
    return recorded, frames


def test_what_is_noted_comes_back(tmp_path: Path) -> None:
    recorded, frames = write(tmp_path)
    with Artifact(tmp_path / TRUTH_FILE, TRUTH) as truth, Artifact(tmp_path / DENSE_FILE, CORRESPONDENCES) as dense:
        truth.verify()
        dense.verify()
        cameras = cameras_from_columns(truth.table("cameras"))
        assert clips_from_columns(truth.table("sequences"))[1].action == "Posing"
        np.testing.assert_array_equal(truth.read("bodies", "pose"), recorded.take.pose.astype(np.float32))
        np.testing.assert_array_equal(truth.read("bodies", "frame"), range(FRAMES))
        for artifact, table in ((truth, "views"), (dense, "samples")):
            assert artifact.rows(table) == FRAMES * 2
            np.testing.assert_array_equal(artifact.read(table, "sequence"), [1] * 6)
            np.testing.assert_array_equal(artifact.read(table, "frame"), [0, 0, 1, 1, 2, 2])
            named = [cameras[row] for row in artifact.read(table, "camera")]
            assert [(camera.session, camera.name) for camera in named[:2]] == [("S5", "54138969"), ("S5", "58860488")]
        views = [view for frame in frames for view in frame.views.values()]
        for row, view in enumerate(views):
            png = truth.read_ragged("views", "iuv", slice(row, row + 1))[0]
            np.testing.assert_array_equal(cv2.imdecode(png, cv2.IMREAD_COLOR)[..., ::-1], view.iuv)
            png = truth.read_ragged("views", "mask", slice(row, row + 1))[0]
            np.testing.assert_array_equal(cv2.imdecode(png, cv2.IMREAD_GRAYSCALE), view.mask)
            np.testing.assert_array_equal(dense.read_ragged("samples", "vertices", [row])[0], view.vertices)


def test_the_body_can_be_rebuilt_from_the_truth(tmp_path: Path) -> None:
    _, frames = write(tmp_path)
    body = load_body()
    with Artifact(tmp_path / TRUTH_FILE, TRUTH) as truth:
        stored = {name: truth.read("bodies", name).astype(np.float64) for name in ("betas", "pose", "translation")}

    rebuilt = posed(body, Take(10.0, stored["betas"][0], stored["pose"], stored["translation"]))
    for frame in frames:
        np.testing.assert_allclose(rebuilt.vertices[frame.index], frame.vertices, atol=1e-9)


def test_nothing_is_left_when_recording_fails(tmp_path: Path) -> None:
    recorded = recording()
    headers = [Header(kind=kind, stage="test", seed=0) for kind in ("truth", "correspondences")]
    with (
        pytest.raises(RuntimeError, match="lights out"),
        TruthWriter(tmp_path, *headers, rig("S5", 160, 0), [Clip("S5 Posing 2", 10.0)]) as writer,
    ):
        for frame in recorded.frames(load_body()):
            writer.add(0, 0, recorded, frame)
            raise RuntimeError("lights out")
    assert list(tmp_path.iterdir()) == []


def test_points_do_not_depend_on_which_other_cameras_look() -> None:
    body = load_body()
    both, one = (next(iter(recording(cameras).frames(body))).views[2] for cameras in ((0, 2), (2,)))
    np.testing.assert_array_equal(both.vertices, one.vertices)


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with one_thread_each():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
