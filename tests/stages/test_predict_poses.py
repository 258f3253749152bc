"""Joints predicted by a Pose ResNet: metres from a network that is right, and files from one that is not."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import POSES
from posekit.config.prediction import Predict
from posekit.config.results import Evaluate, Export, Render
from posekit.errors import ConfigError, InputError, MissingFileError
from posekit.evaluation.protocols import H36M_BONE_LENGTH
from posekit.export.trc import read_trc
from posekit.models.backbone import Backbone
from posekit.models.pose_resnet import PoseResNet, PoseResNetForm
from posekit.skeleton.catalog import H36M17, MPII16
from posekit.skeleton.mapping import joint_map
from posekit.stages import predict_poses
from posekit.stages.evaluate import evaluate
from posekit.stages.export import export
from posekit.stages.pose_network import PoseNetwork
from posekit.stages.predict import predict
from posekit.stages.render import render
from posekit.training.pose_resnet import NETWORK, STAGE_2D, STAGE_3D, PoseFacts
from posekit.training.regressor import STAGE as REGRESSOR_STAGE
from posekit.training.runs import KIND, RunFolder

FORM = PoseResNetForm(backbone="resnet10", depth_bins=4, pool="none", deconv_width=4)
ROOT = MPII16.index("pelvis")


def write_run(folder: Path, stage: str = STAGE_3D, units: Any = "crop") -> Path:
    torch.manual_seed(0)
    network = PoseResNet(Backbone("resnet10"), FORM)
    with torch.no_grad():
        network.head.weight.normal_(0.0, 30.0)  # so that joints depend on the picture
    facts = PoseFacts(32, 1.25, FORM, MPII16, 2 if stage == STAGE_2D else 3, units)
    run = RunFolder(folder, Header(KIND, stage, facts=facts.plain()))
    run.begin()
    run.finish({f"{NETWORK}.{name}": value for name, value in network.state_dict().items()})
    return folder


class Knowing(PoseNetwork):
    """A network that knows the truth of a data set, in the normalised coordinates of section 4.5."""

    def __init__(self, units: Any = "crop", unseen: tuple[int, ...] = ()) -> None:
        self.facts = PoseFacts(64, 1.25, FORM, MPII16, 3, units, digest="truth")
        self.unseen = unseen

    def crops(self, dataset: Artifact, rows: np.ndarray) -> np.ndarray:
        centre, side, _ = self._squares(dataset, rows)
        scale = 2.0 / side
        return np.stack(
            [np.array([[s, 0.0, -s * x], [0.0, s, -s * y]]) for s, (x, y) in zip(scale, centre, strict=True)]
        )

    def coordinates(self, dataset: Artifact, rows: np.ndarray, batch: int) -> tuple[np.ndarray, ...]:
        centre, side, unit = self._squares(dataset, rows)
        true = self._true(dataset, rows)
        pixels = joint_map(H36M17, MPII16).points(dataset.read("samples", "keypoints2d", rows)[..., :2].astype(float))
        flat = (pixels - centre[:, None]) / side[:, None, None]
        deep = (true[..., 2] - true[:, [ROOT], 2]) / unit[:, None]
        seen = ~np.isin(rows, self.unseen)
        points = np.concatenate([flat, deep[..., None]], axis=2)
        points[~seen] = np.nan
        return points, np.where(seen[:, None], np.full(pixels.shape[:2], 0.7), 0.0), seen

    def _true(self, dataset: Artifact, rows: np.ndarray) -> np.ndarray:
        return joint_map(H36M17, MPII16).points(dataset.read("samples", "joints3d", rows).astype(float))

    def _squares(self, dataset: Artifact, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        camera = dataset.read("samples", "camera", rows)
        K = dataset.table("cameras")["intrinsics"][camera]
        focal, depth = np.sqrt(K[:, 0, 0] * K[:, 1, 1]), self._true(dataset, rows)[:, ROOT, 2]
        if self.facts.depth_units == "box2000":
            centre = dataset.read("samples", "keypoints2d", rows)[:, 0, :2].astype(float)
            return centre, 2.0 * focal / depth, np.full(len(rows), 2.0)
        box = dataset.read("samples", "bbox", rows).astype(float)
        side = 1.25 * (box[:, 2:] - box[:, :2]).max(axis=1)
        return (box[:, :2] + box[:, 2:]) / 2.0, side, side * depth / focal


@pytest.fixture
def knowing(recording: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes `posekit predict` use a network that knows the truth."""

    def use(units: Any = "crop", unseen: tuple[int, ...] = ()) -> Path:
        network = Knowing(units, unseen)
        monkeypatch.setattr(predict_poses.PoseNetwork, "open", lambda *_: network)
        return write_run(recording.root / "runs" / units, units=units)

    return use


def errors_of(recording: Any, **settings: Any) -> tuple[dict[str, float], dict[str, Any]]:
    report = evaluate(Evaluate(dataset=recording.dataset, bootstrap=0, headings=("predictions",), **settings))
    result = json.loads(report.outputs[0].read_text())
    metrics = result["results"]["predictions"]["metrics"]
    return {name: metrics[name]["mean"] for name in ("mpjpe", "pa_mpjpe", "n_mpjpe", "per_pixel")}, result


@pytest.mark.parametrize("units", ["crop", "box2000"])
def test_the_true_depth_of_the_root_gives_the_truth_back(recording: Any, knowing: Any, units: str) -> None:
    report = predict(Predict(dataset=recording.dataset, model=knowing(units), root_depth="gt"))
    assert report.counts == {"people": 72, "ok": 72}
    errors, result = errors_of(recording, protocol="pose-resnet")
    # Rows are stored in single precision.
    assert max(errors.values()) < 0.01
    prediction = result["results"]["predictions"]["prediction"]
    assert prediction["root_depth"] == "gt" and "leaks metric scale" in prediction["scale"]
    assert prediction["seen_of_truth"] == ["depth of the root"] + ["place and depth of the root, for the crops"] * (
        units == "box2000"
    )
    assert len(result["results"]["predictions"]["joints"]) == 16
    assert result["results"]["predictions"]["metrics"]["mpjpe"]["per_joint"]["pelvis"] == 0.0
    with Artifact(report.outputs[0], POSES) as poses, Artifact(recording.dataset) as dataset:
        poses.verify()
        order = _in_order(dataset)
        true = joint_map(H36M17, MPII16).points(dataset.read("samples", "joints3d"))[order]
        np.testing.assert_allclose(poses.read("samples", "joints3d"), true, atol=1e-5)
        found = poses.read("samples", "keypoints2d")
        np.testing.assert_allclose(found[:, ROOT, :2], dataset.read("samples", "keypoints2d")[order, 0, :2], atol=1e-3)
        np.testing.assert_allclose(found[..., 2], 0.7, rtol=1e-6)


def _in_order(dataset: Artifact) -> np.ndarray:
    """The samples as predictions come: by sequence, person, camera and frame."""
    return np.lexsort([dataset.read("samples", name) for name in ("frame", "camera", "person", "sequence")])


def errors_of_rays(recording: Any, model: Path) -> tuple[dict[str, float], dict[str, Any]]:
    predict(Predict(dataset=recording.dataset, model=model, canonical="training", perspective="camera"))
    return errors_of(recording, protocol="pose-resnet")


@pytest.mark.parametrize("units", ["crop", "box2000"])
def test_without_depth_only_perspective_is_lost(recording: Any, knowing: Any, units: str) -> None:
    predict(Predict(dataset=recording.dataset, model=knowing(units), canonical="training"))
    errors, result = errors_of(recording, protocol="pose-resnet")
    # Weak perspective shears people who stand aside: a limb that reaches 0.3 m in depth, 1 m aside at 5 m, is 60 mm off;
    # the best similarity turns a part of it back.
    assert 5.0 < errors["n_mpjpe"] < 40.0
    assert errors["pa_mpjpe"] < min(30.0, errors["n_mpjpe"])
    # Everybody has the shape of the training subject, so that the size is known, but for what perspective does to it.
    assert errors["mpjpe"] < errors["n_mpjpe"] + 5.0
    assert errors["per_pixel"] < 0.01
    prediction = result["results"]["predictions"]["prediction"]
    rays, _ = errors_of_rays(recording, knowing(units))
    assert max(rays["n_mpjpe"], rays["pa_mpjpe"]) < 0.01
    assert rays["mpjpe"] < 5.0
    assert "training subjects S1" in prediction["scale"] and prediction["root_depth"] == "none"


def test_sizes_that_are_asked_for(recording: Any, knowing: Any) -> None:
    model = knowing()
    with Artifact(recording.dataset) as dataset:
        true = joint_map(H36M17, MPII16).points(dataset.read("samples", "joints3d"))
    ends = np.array(MPII16.bones)
    sums = {}
    for name, settings in {
        "constant": {},
        "training": {"canonical": "training"},
        "tall": {"stature": 1.9},
        "short": {"stature": 1.5},
    }.items():
        path = predict(Predict(dataset=recording.dataset, model=model, **settings)).outputs[0]
        with Artifact(path, POSES) as poses:
            joints = poses.read("samples", "joints3d")
            assert not joints[:, ROOT].any()
            lengths = np.linalg.norm(joints[:, ends[:, 1]] - joints[:, ends[:, 0]], axis=-1).sum(1)
            np.testing.assert_allclose(lengths, poses.header.facts["bone_length_m"], rtol=1e-5)
            sums[name] = float(lengths[0])
    assert sums["constant"] == pytest.approx(H36M_BONE_LENGTH, rel=1e-5)
    truth = np.linalg.norm(true[:36, ends[:, 1]] - true[:36, ends[:, 0]], axis=-1).sum(1).mean()
    assert sums["training"] == pytest.approx(truth, rel=1e-4)
    assert sums["tall"] / sums["short"] == pytest.approx(1.9 / 1.5, rel=1e-5)
    assert sums["short"] < sums["constant"] < sums["tall"]


def test_people_that_cannot_be_had_are_marked_with_the_reason(recording: Any, knowing: Any) -> None:
    report = predict(Predict(dataset=recording.dataset, model=knowing(unseen=(1, 70))))
    assert report.counts == {"people": 72, "ok": 70, f"not ok: {predict_poses.NO_PICTURE}": 2}
    assert any("not to be used" in note for note in report.notes)
    with Artifact(report.outputs[0], POSES) as poses:
        keys = [poses.read("samples", name) for name in ("sequence", "frame", "person", "camera")]
        assert np.isnan(poses.read("samples", "joints3d")[~poses.read("samples", "ok")]).all()
        assert not poses.read("samples", "keypoints2d")[~poses.read("samples", "ok"), :, 2].any()
        assert len(np.unique(np.stack(keys), axis=1).T) == 72
    _, result = errors_of(recording, histogram=True)
    # The data set's own joints; those that the network does not know are left out, in the chart as well.
    per_joint = result["results"]["predictions"]["metrics"]["mpjpe"]["per_joint"]
    assert [name for name, mean in per_joint.items() if mean is None] == ["spine", "jaw", "head"]
    assert (recording.root / "results" / "toy.joints.png").stat().st_size > 10000
    skipped = result["results"]["predictions"]["skipped"]
    assert skipped == {f"prediction marked as not usable: {predict_poses.NO_PICTURE}": 2}


def test_samples_without_true_depth_are_marked(recording: Any, knowing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = knowing()
    read = Artifact.read

    def hidden(self: Artifact, table: str, column: str, rows: Any = None) -> np.ndarray:
        values = read(self, table, column, rows)
        if column == "joints3d" and table == "samples":
            values[:2] = np.nan
        return values

    # The network itself knows: only the stage does not.
    with Artifact(recording.dataset) as dataset:
        whole = Knowing()
        every = np.arange(72)
        known, crops = whole.coordinates(dataset, every, 8), whole.crops(dataset, every)
    monkeypatch.setattr(Knowing, "coordinates", lambda self, dataset, rows, batch: tuple(v[rows] for v in known))
    monkeypatch.setattr(Knowing, "crops", lambda self, dataset, rows: crops[rows])
    monkeypatch.setattr(Artifact, "read", hidden)
    report = predict(Predict(dataset=recording.dataset, model=model, root_depth="gt"))
    assert report.counts[f"not ok: {predict_poses.NO_DEPTH}"] == 2


def test_work_that_is_there_is_not_done_again(recording: Any, knowing: Any) -> None:
    config = Predict(dataset=recording.dataset, model=knowing())
    first, again = predict(config), predict(config.model_copy(update={"batch": 3}))
    assert again.skipped and again.counts == first.counts
    assert not predict(config.model_copy(update={"root_depth": "gt"})).skipped
    assert "would predict" in predict(config.model_copy(update={"dry_run": True, "split": "test"})).notes[0]


def test_settings_of_the_other_kind_of_model_are_refused(recording: Any, knowing: Any, tmp_path: Path) -> None:
    model = knowing()
    for wrong in ({"refine": True}, {"w_depth": 1.0}, {"dense": tmp_path / "a.h5"}, {"min_score": 0.5}):
        with pytest.raises(ConfigError, match=f"--{next(iter(wrong)).replace('_', '-')}.*joints, not bodies"):
            predict(Predict(dataset=recording.dataset, model=model, **wrong))
    regressor = write_run(tmp_path / "regressor", REGRESSOR_STAGE)
    for wrong in ({"root_depth": "gt"}, {"stature": 1.7}, {"canonical": "training"}):
        with pytest.raises(ConfigError, match=f"--{next(iter(wrong)).replace('_', '-')}.*finds bodies"):
            predict(Predict(dataset=recording.dataset, model=regressor, **wrong))
    with pytest.raises(ConfigError, match="knows no depth"):
        predict(Predict(dataset=recording.dataset, model=write_run(tmp_path / "flat", STAGE_2D)))
    with pytest.raises(ConfigError, match="no size or perspective to be chosen"):
        predict(Predict(dataset=recording.dataset, model=model, root_depth="gt", stature=1.7))
    with pytest.raises(ConfigError, match="at once"):
        predict(Predict(dataset=recording.dataset, model=model, canonical="training", stature=1.7))
    with pytest.raises(MissingFileError, match="no run folder"):
        predict(Predict(dataset=recording.dataset, model=tmp_path / "nothing"))


def test_truth_that_is_not_there_is_said(recording: Any, knowing: Any) -> None:
    model = knowing()
    recording.write_dataset(with_truth=False)
    with pytest.raises(InputError, match="--root-depth none"):
        predict(Predict(dataset=recording.dataset, model=model, root_depth="gt"))
    with pytest.raises(InputError, match="--canonical constant"):
        predict(Predict(dataset=recording.dataset, model=model, canonical="training"))


def test_the_network_of_a_run_on_stored_pictures(pose_data: ModuleType, tmp_path: Path) -> None:
    files = pose_data.write_files(tmp_path)  # the picture of the third row is missing
    model = write_run(tmp_path / "runs" / "tiny")
    report = predict(Predict(dataset=files.dataset, model=model, device="cpu", batch=5))
    assert report.counts["ok"] == report.counts["people"] - 1
    assert report.metrics["network_ms_per_image"] > 0
    network = PoseNetwork.open(model, torch.device("cpu"))
    with Artifact(report.outputs[0], POSES) as poses, Artifact(files.dataset) as dataset:
        every = np.arange(dataset.rows("samples"))
        at = _in_order(dataset)
        keypoints = network.keypoints(dataset, every, 64)[at]
        np.testing.assert_allclose(poses.read("samples", "keypoints2d"), keypoints, rtol=1e-5, atol=1e-3)
        assert poses.header.inputs["model"] == network.digest
        assert not poses.read("samples", "ok")[np.flatnonzero(at == 2)].any()


def test_own_pictures_go_all_the_way(tmp_path: Path) -> None:
    folder = tmp_path / "my pictures"
    folder.mkdir()
    for number in range(2):
        picture = np.random.default_rng(number).integers(0, 255, (4, 4, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"p {number}.png"), cv2.resize(picture, (120, 160)))
    data = tmp_path / "data"
    model = write_run(tmp_path / "runs" / "tiny")
    report = predict(Predict(media=folder, data=data, model=model, stature=1.8, device="cpu"))
    assert report.counts == {"people": 2, "ok": 2}
    dataset = data / "my pictures.h5"
    drawn = render(Render(dataset=dataset)).outputs
    assert [path.suffix for path in drawn] == [".png"] * 3
    changed = (cv2.imread(str(drawn[0])).astype(int) - cv2.imread(str(folder / "p 0.png"))).any(axis=2)
    assert changed.any()
    files = export(Export(dataset=dataset, formats=("trc", "csv", "npz"))).outputs
    trc = read_trc(next(path for path in files if path.suffix == ".trc"))
    ends = np.array(MPII16.bones)
    length = np.linalg.norm(trc.points[:, ends[:, 1]] - trc.points[:, ends[:, 0]], axis=-1).sum()
    assert length == pytest.approx(H36M_BONE_LENGTH * 1.8 / 1.7347, rel=1e-3)
    assert np.nanmin(trc.points[..., 1]) == pytest.approx(0.0, abs=1e-5)
