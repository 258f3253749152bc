"""`pseudo-label keypoints`: from a network, from files, and disturbed ones for studies."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.config.keypoints import PseudoLabelKeypoints
from posekit.config.labels import Triangulate
from posekit.config.pose_resnet import TrainPoseResNet2D
from posekit.errors import ConfigError, DataError, FormatError, InputError, MissingFileError
from posekit.models.backbone import Backbone
from posekit.models.pose_resnet import PoseResNet, PoseResNetForm
from posekit.skeleton.catalog import MPII16
from posekit.skeleton.skeleton import mirrored
from posekit.stages.pose_network import PoseNetwork
from posekit.stages.pseudo_label_keypoints import pseudo_label_keypoints
from posekit.stages.train_pose_resnet_2d import train_pose_resnet_2d
from posekit.stages.triangulate import triangulate
from posekit.training.pose_resnet import PoseFacts


@pytest.fixture(scope="module")
def files(pose_data: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pose_data.write_files(tmp_path_factory.mktemp("workspace"))


def label(made: Any, output: Path, **changes: Any) -> tuple[Any, dict[str, np.ndarray], dict[str, Any]]:
    settings = {"dataset": made.dataset, "output": output, "device": "cpu"} | changes
    report = pseudo_label_keypoints(PseudoLabelKeypoints(**settings))
    with Artifact(output) as artifact:
        artifact.verify()
        return report, artifact.table("samples"), dict(artifact.header.facts)


@pytest.fixture(scope="module")
def model(files: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "2d"
    small = {"backbone": "resnet10", "weights": "none", "input_size": 32, "depth_bins": 8, "deconv_width": 8}
    small |= {"pool": "none", "batch": 4, "epochs": 1, "decay": "none", "decay_epochs": (), "device": "cpu"}
    train_pose_resnet_2d(TrainPoseResNet2D(**(small | {"datasets": (files.dataset,), "output": folder})))
    return folder


def test_a_network_labels_everybody_who_has_a_picture(files: Any, model: Path, tmp_path: Path) -> None:
    report, samples, facts = label(files, tmp_path / "k.h5", model=model)
    keypoints = samples["keypoints2d"]
    with Artifact(files.dataset) as dataset:
        boxes = dataset.read("samples", "bbox")
        assert np.array_equal(samples["frame"], dataset.read("samples", "frame"))
    assert facts["source"] == "network"
    assert keypoints.shape[1:] == (16, 3)
    assert np.isnan(keypoints[2, :, :2]).all() and (keypoints[2, :, 2] == 0.0).all()
    seen = np.arange(len(keypoints)) != 2
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2.0, 1.25 * (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert (np.abs(keypoints[seen][..., :2] - centre[seen][:, None]) <= side[seen][:, None, None] / 2.0).all()
    assert report.counts["samples without key points"] == 1
    assert label(files, tmp_path / "k.h5", model=model)[0].skipped
    again = label(files, tmp_path / "again.h5", model=model, batch=5)[1]
    np.testing.assert_allclose(keypoints, again["keypoints2d"], atol=1e-3)
    both = label(files, tmp_path / "mirror.h5", model=model, mirror=True)[1]["keypoints2d"]
    assert np.isfinite(both[seen]).all() and not np.array_equal(both[seen], keypoints[seen])


@pytest.mark.parametrize("half_cell", [True, False])
def test_with_mirror_images_a_mirrored_picture_has_mirrored_joints(half_cell: bool) -> None:
    form = PoseResNetForm("resnet10", depth_bins=4, pool="none", deconv_width=4, half_cell=half_cell)
    bare = PoseResNet(Backbone("resnet10"), form).eval()
    torch.nn.init.normal_(bare.head.weight, std=3e8, generator=torch.Generator().manual_seed(0))
    facts = PoseFacts(64, 1.25, form, MPII16, 2, "crop")
    network = PoseNetwork(bare, facts, torch.device("cpu"), "64-true", mirror=True)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sides = [MPII16.index(mirrored(name)) for name in MPII16.joints]
    with torch.no_grad():
        (points, sure), (other, as_sure) = network.found(images), network.found(images.flip(-1))
        plain = PoseNetwork(bare, facts, torch.device("cpu"), "64-true").found(images)[0]
    other, edge = other[:, sides], 0.0 if half_cell else 1 / 16
    torch.testing.assert_close(-other[..., 0] - edge, points[..., 0])
    torch.testing.assert_close(other[..., 1:], points[..., 1:])
    torch.testing.assert_close(as_sure[:, sides], sure)
    assert not torch.allclose(plain, points, atol=0.01)


def test_the_truth_can_be_disturbed_for_studies(files: Any, tmp_path: Path) -> None:
    with Artifact(files.dataset) as dataset:
        own = dataset.read("samples", "keypoints2d")
    exact = label(files, tmp_path / "exact.h5", source="truth")[1]["keypoints2d"]
    assert np.array_equal(exact, own)
    noisy = label(files, tmp_path / "noisy.h5", source="truth", noise_px=3.0)[1]["keypoints2d"]
    difference = (noisy - own)[..., :2]
    assert 2.7 < difference.std() < 3.3 and abs(difference.mean()) < 0.5
    wild = label(files, tmp_path / "wild.h5", source="truth", outliers=0.25)[1]["keypoints2d"]
    moved = np.abs((wild - own)[..., :2]).max(axis=-1) > 0
    assert 0.18 < moved.mean() < 0.32
    assert np.array_equal(wild[~moved], own[~moved])


def person(points: np.ndarray, confidence: float = 0.8) -> dict[str, Any]:
    keypoints = np.column_stack([points, np.full(len(points), confidence)])
    keypoints[3] = 0.0
    return {"person_id": [-1], "pose_keypoints_2d": keypoints.reshape(-1).tolist()}


def test_openpose_s_people_are_found_by_their_boxes(files: Any, pose_data: ModuleType, tmp_path: Path) -> None:
    with Artifact(files.dataset) as dataset:
        boxes = dataset.read("samples", "bbox").astype(float)
        rows = {int(f): i for i, f in enumerate(dataset.read("samples", "frame")) if i < 8 and i % 2 == 0}
    folder = tmp_path / "openpose" / "a_json"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    expected = {}
    for frame in range(16):
        row = rows.get(frame, 0)
        inside = random.uniform(boxes[row, :2], boxes[row, 2:], (25, 2))
        inside[:2] = boxes[row].reshape(2, 2)
        expected[row] = inside
        people = [person(inside + 500.0), person(inside)]
        (folder / f"a_{frame:012d}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": people}))
    _, samples, facts = label(files, tmp_path / "k.h5", source="files", files=tmp_path / "openpose", order="body25")
    assert facts["source"] == "files"
    for frame, row in rows.items():
        if frame:
            np.testing.assert_allclose(samples["keypoints2d"][row, 4:, :2], expected[row][4:], atol=1e-3)
            assert np.isnan(samples["keypoints2d"][row, 3, :2]).all() and samples["keypoints2d"][row, 3, 2] == 0.0


def test_labels_of_other_data_are_refused(files: Any, model: Path, pose_data: ModuleType, tmp_path: Path) -> None:
    label(files, tmp_path / "k.h5", model=model)
    pose_data.write_dataset(tmp_path / "other.h5")
    with pytest.raises(InputError, match="was not made from"):
        triangulate(Triangulate(dataset=tmp_path / "other.h5", keypoints=tmp_path / "k.h5", output=tmp_path / "o.h5"))


def test_settings_must_go_with_the_source(files: Any, model: Path, tmp_path: Path) -> None:
    for changes in ({"noise_px": 1.0}, {"outliers": 0.1}, {"files": tmp_path}, {"source": "truth", "model": model}):
        with pytest.raises(ConfigError, match="does not go with"):
            label(files, tmp_path / "k.h5", **changes)
    with pytest.raises(ConfigError, match="no files"):
        label(files, tmp_path / "k.h5", source="files")
    with pytest.raises(MissingFileError):
        label(files, tmp_path / "k.h5", model=tmp_path / "none")
    with pytest.raises(MissingFileError):
        label(files, tmp_path / "k.h5", source="files", files=tmp_path / "none")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(FormatError):
        label(files, tmp_path / "k.h5", source="files", files=tmp_path / "broken.json")


def test_files_of_other_people_give_an_error(files: Any, tmp_path: Path) -> None:
    folder = tmp_path / "openpose"
    folder.mkdir()
    points = np.random.default_rng(0).uniform(5000.0, 6000.0, (25, 2))
    (folder / "a_000000000000_keypoints.json").write_text(json.dumps({"version": 1.3, "people": [person(points)]}))
    with pytest.raises(DataError, match="nobody has a key point"):
        label(files, tmp_path / "k.h5", source="files", files=folder, order="body25")
