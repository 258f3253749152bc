"""Predicted joints on frames and from other sides, and heat maps."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.config.results import Render
from posekit.errors import ConfigError, InputError
from posekit.models.pose_resnet import PoseResNetForm
from posekit.render.drawing import SIDE_COLORS
from posekit.skeleton.catalog import MPII16
from posekit.stages import render as stage
from posekit.stages.pose_network import PoseNetwork
from posekit.stages.render import render
from posekit.stages.render_heat_maps import CELL, GAP, STRIP, joint_grid, over
from posekit.stages.render_poses import PredictedJoints
from posekit.training.pose_resnet import PoseFacts

FORM = PoseResNetForm(backbone="resnet10", depth_bins=4, pool="none", deconv_width=4)


def pictures(outputs: Any) -> list[np.ndarray]:
    return [cv2.imread(str(path))[:, :, ::-1] for path in outputs if "sheet" not in path.name]


def test_joints_are_drawn_where_the_network_saw_them(pose_data: ModuleType, tmp_path: Path) -> None:
    files = pose_data.write_files(tmp_path)
    with Artifact(files.dataset) as dataset:
        columns = {name: dataset.read("samples", name)[1:2] for name in ("sequence", "frame", "person", "camera")}
        crop = dataset.read("samples", "crop_from_image")[1]
        digest = dataset.digest
    inside = np.random.default_rng(0).uniform(4, 44, (1, 16, 2))  # px of the crop of 48
    back = np.linalg.inv(crop[:, :2])
    columns |= {
        "joints3d": np.zeros((1, 16, 3)),
        "keypoints2d": np.concatenate([(inside - crop[:, 2]) @ back.T, np.full((1, 16, 1), 0.01)], axis=2),
        "ok": [True],
        "reason": [""],
    }
    header = Header("poses", "predict", inputs={"dataset": digest}, skeleton=MPII16, facts={"root_depth": "none"})
    with ArtifactWriter(tmp_path / "predictions" / "a.h5", header) as writer:
        writer.append("samples", columns)
    report = render(Render(dataset=files.dataset, images=True, device="cpu", camera=("b",), frames=1, scale=4.0))
    (image,) = pictures(report.outputs)
    assert image.shape == (192, 192, 3)
    for joint, (x, y) in zip(MPII16.joints, (inside[0] + 0.5) * 4 - 0.5, strict=True):
        color = image[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].reshape(-1, 3).astype(int)
        nearest = np.abs(color - SIDE_COLORS[MPII16.side(joint)]).max(axis=1).min()
        covered = y < 45 and x < 170  # by the name of the camera
        others = np.linalg.norm(inside[0] - (np.array([x, y]) + 0.5) / 4 + 0.5, axis=1)
        assert nearest < 60 or covered or np.sort(others)[1] < 4.0, joint


def test_skeletons_stand_in_space_as_one_view_sees_them(recording: Any) -> None:
    with Artifact(recording.write_poses(metric=True)) as poses:
        joints = PredictedJoints(poses, 0)
        people, points, _ = joints.standing(5) or pytest.fail("nobody")
        rows = np.flatnonzero((recording.keys["sequence"] == 0) & (recording.keys["frame"] == 5))
        camera = recording.cameras[0]
        true = recording.joints[rows][:, 0] @ camera.rotation.T + camera.translation
        np.testing.assert_allclose(points[:, MPII16.index("pelvis")], true, atol=1e-5)
        assert people == [0, 1] and joints.standing(4) is None and joints.seen(4, 0) is None
        assert joints.frames() == joints.frames(2) == set(range(0, 26, 5))
    with Artifact(recording.write_poses()) as poses:
        _, points, _ = PredictedJoints(poses, 0).standing(5) or pytest.fail("nobody")
    # People without a place stand side by side.
    np.testing.assert_allclose(points[:, MPII16.index("pelvis")], [[0, 0, 0], [1.2, 0, 0]], atol=1e-6)


def test_poses_that_may_not_be_used_are_not_drawn(recording: Any) -> None:
    usable = np.ones(72, dtype=bool)
    usable[::2] = False
    with Artifact(recording.write_poses(ok=usable)) as poses:
        seen = [PredictedJoints(poses, 0).seen(0, camera) for camera in range(3)]
    assert [found.people if found else [] for found in seen] == [[1], [0], [1]]


@pytest.mark.parametrize("kind", ["side", "turntable"])
@pytest.mark.parametrize("metric", [False, True])
def test_views_show_skeletons(recording: Any, kind: str, metric: bool) -> None:
    recording.write_poses(metric=metric)
    report = render(Render(dataset=recording.dataset, kind=kind, frames=2, images=True, scale=0.3, device="cpu"))
    images = pictures(report.outputs)
    assert len(images) == 2
    for image in images:
        colored = (image.max(axis=2).astype(int) - image.min(axis=2)) > 90
        assert colored.sum() > 60  # two people's limbs


def test_heat_maps_lie_where_they_are_in_the_crop() -> None:
    heat = np.zeros((16, 8, 8))
    heat[:, 2, 5] = 1.0
    crop = np.full((CELL, CELL, 3), 128, np.uint8)
    image = over(crop, heat[0])
    away = np.abs(image.astype(int) - 128).max(axis=2)
    y, x = (axis[away > 0.5 * away.max()].mean() for axis in np.mgrid[:CELL, :CELL])
    # The centre of the cell; pixel centres are whole numbers.
    assert abs(x - (5.5 * CELL / 8 - 0.5)) < 1.0 and abs(y - (2.5 * CELL / 8 - 0.5)) < 1.0
    assert not away[CELL // 2 :, : CELL // 4].any()
    grid = joint_grid(crop, heat, MPII16)
    assert grid.shape == (4 * (CELL + STRIP + GAP), 4 * (CELL + GAP), 3)


@pytest.mark.parametrize("half_cell", [True, False])
def test_a_ring_is_where_the_network_puts_the_joint(half_cell: bool) -> None:
    heat = np.full((16, 8, 8), 1e-9)
    heat[:, 1, 2], heat[:, 5, 6] = 0.5, 0.5  # the mean is between the two peaks
    cell = joint_grid(np.zeros((CELL, CELL, 3), np.uint8), heat, MPII16, half_cell=half_cell)[:CELL, :CELL]
    mean = np.array([4.0, 3.0]) + 0.5 * half_cell
    near = np.hypot(*(np.mgrid[:CELL, :CELL][::-1] - (mean * CELL / 8 - 0.5)[:, None, None]))
    white = cell.min(axis=2) > 150
    assert white[near < 7].sum() > 15 and not white[near < 4].any()


class Pointing(PoseNetwork):
    """Sees every joint in one cell of a row of its own."""

    def __init__(self) -> None:
        self.facts = PoseFacts(32, 1.25, FORM, MPII16, 3, "crop", digest="pointing")

    def heat_maps(self, dataset: Artifact, rows: np.ndarray) -> np.ndarray:
        maps = np.zeros((len(rows), 16, 16, 16))
        for joint in range(16):
            maps[:, joint, joint, 8] = 1.0
        maps[rows == 2] = np.nan  # no picture there
        return maps


def test_one_grid_for_everybody_with_a_picture(
    pose_data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = pose_data.write_files(tmp_path)
    monkeypatch.setattr(stage.PoseNetwork, "open", lambda *_: Pointing())
    settings = Render(dataset=files.dataset, kind="heatmaps", model=tmp_path, device="cpu")
    report = render(settings)
    assert (report.counts["people drawn"], report.counts["no picture"]) == (7, 1)
    assert report.outputs[0].name == "a_000000_P0.png"
    assert report.outputs[0].parent.name == "S1_Walking_heatmaps"
    assert render(settings).skipped
    few = settings.model_copy(update={"camera": ("b",), "frames": 2, "sequence": "S5/Sitting"})
    images = pictures(render(few).outputs)
    assert [image.shape for image in images] == [(4 * (CELL + STRIP + GAP), 4 * (CELL + GAP), 3)] * 2
    # The bright spot moves down from joint to joint, over a crop in grey.
    for joint, top in ((0, 0), (12, 3 * (CELL + STRIP + GAP))):
        cell = images[0][top : top + CELL, :CELL].astype(int)
        colored = cell.max(axis=2) - cell.min(axis=2)
        y, x = (axis[colored > 40].mean() for axis in np.mgrid[:CELL, :CELL])
        assert abs(y - (joint + 0.5) * CELL / 16) < 8 and abs(x - 8.5 * CELL / 16) < 3


def test_heat_maps_need_a_model_and_a_model_heat_maps(recording: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--kind heatmaps --model RUN, --kind columns"):
        render(Render(dataset=recording.dataset, kind="heatmaps"))
    with pytest.raises(ConfigError, match="--kind heatmaps --model RUN, --kind columns"):
        render(Render(dataset=recording.dataset, model=tmp_path))


def test_cameras_and_sequences_of_heat_maps_must_be_there(
    pose_data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = pose_data.write_files(tmp_path)
    monkeypatch.setattr(stage.PoseNetwork, "open", lambda *_: Pointing())
    for wrong, message in (({"camera": ("c",)}, "accepted: a, b"), ({"sequence": "S7"}, "S9/Walking")):
        with pytest.raises(InputError, match=message):
            render(Render(dataset=files.dataset, kind="heatmaps", model=tmp_path, device="cpu", **wrong))
