"""Training and measuring a lifter on poses of a body that sways and bends before slightly raised cameras."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.landmarks import regressor
from posekit.body.smpl_file import load_body
from posekit.config.base import build_config, find_recipe, load_recipe
from posekit.config.lifter import EvaluateLifter, TrainLifter
from posekit.errors import ConfigError, DataError, InputError
from posekit.labeling.lifting import load_lifter
from posekit.records import Camera, Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import COMMON14, H36M17, MPII16
from posekit.stages.evaluate_lifter import evaluate_lifter
from posekit.stages.train_lifter import resting_joints, train_lifter

COUNT = 120
K = np.array([[500.0, 0.0, 320.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]])


def write_dataset(path: Path, *, truth: bool = True, broken: int = 0) -> Path:
    """Joints of a body at rest, knees bent a little, at all yaws: half for training, half for testing."""
    rng = np.random.default_rng(0)
    body = load_body(None)
    rest = regressor(body, H36M17) @ body.v_template
    rest = (rest - rest[0]) * [1.0, -1.0, -1.0]  # faces the camera
    points = np.repeat(rest[None], COUNT, axis=0)
    for knee in H36M17.indices("left_knee", "right_knee"):
        points[:, knee, 2] -= rng.uniform(0.0, 0.2, COUNT)
    yaw = rng.uniform(0.0, 2 * np.pi, COUNT)
    turn = np.zeros((COUNT, 3, 3))
    turn[:, 0, 0] = turn[:, 2, 2] = np.cos(yaw)
    turn[:, 0, 2], turn[:, 2, 0], turn[:, 1, 1] = np.sin(yaw), -np.sin(yaw), 1.0
    joints = points @ turn.transpose(0, 2, 1) + [0.0, 0.0, 5.0]
    pixels = joints @ K.T
    keypoints = np.concatenate([pixels[..., :2] / pixels[..., 2:], np.ones((COUNT, 17, 1))], axis=-1)
    keypoints[:broken, 3, 2] = 0.0
    samples = {
        "sequence": np.repeat([0, 1], COUNT // 2),
        "frame": np.arange(COUNT),
        "person": np.zeros(COUNT),
        "camera": np.zeros(COUNT),
        "bbox": np.tile([0.0, 0.0, 640.0, 480.0], (COUNT, 1)),
        "keypoints2d": keypoints,
    }
    with ArtifactWriter(path, Header("dataset", "test", skeleton=H36M17)) as writer:
        writer.append("cameras", camera_columns([Camera("c", 640, 480, K)]))
        clips = [
            Clip("S1 Turning", 50.0, "S1", "Turning", 1, "train"),
            Clip("S9 Turning", 50.0, "S9", "Turning", 1, "test"),
        ]
        writer.append("sequences", clip_columns(clips))
        writer.append("samples", samples | ({"joints3d": joints} if truth else {}))
    return path


def config(dataset: Path, output: Path, **changed: object) -> TrainLifter:
    settings = {
        "datasets": (dataset,), "output": output, "epochs": 2, "batch": 20, "width": 16, "random_angles": 1,
        "workers": 1, "device": "cpu", "w_consistency": 0.3, "w_twist": 1.0, "learn_tilt": True, "distance": 10.0,
        "blur": 0.05, "sway": 10.0, "log_every": 2,
    }  # fmt: skip
    return TrainLifter.model_validate(settings | changed)


def measured(dataset: Path, run: Path, **settings: object) -> dict[str, float]:
    report = evaluate_lifter(
        EvaluateLifter.model_validate({"dataset": dataset, "lifter": run, "bootstrap": 0, "device": "cpu"} | settings)
    )
    return dict(report.metrics)


def test_a_training_makes_a_lifter_and_is_not_repeated(tmp_path: Path) -> None:
    dataset, run = write_dataset(tmp_path / "poses.h5", broken=3), tmp_path / "run"
    report = train_lifter(config(dataset, run))
    assert report.counts == {"poses": 57, "without every joint": 3, "of no extent": 0, "steps": 4}
    assert any("3 without every joint" in note for note in report.notes)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {"ratio", "symmetry", "orientation", "twist", "adversarial", "consistency"} <= set(lines[-1]["losses"])
    lifter = load_lifter(run, torch.device("cpu"))
    assert lifter.joint_names == COMMON14.joints and len(lifter.digest) == 64
    again = train_lifter(config(dataset, run))
    assert again.skipped and load_lifter(run, torch.device("cpu")).digest == lifter.digest
    forced = train_lifter(config(dataset, run, force=True))
    assert not forced.skipped and load_lifter(run, torch.device("cpu")).digest == lifter.digest
    assert not train_lifter(config(dataset, run, w_ratio=2.0)).skipped


def test_the_same_seed_gives_the_same_lifter(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "poses.h5")
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_lifter(config(dataset, tmp_path / name, seed=seed))
        digests.append(load_lifter(tmp_path / name, torch.device("cpu")).digest)
    assert digests[0] == digests[1] != digests[2]


def test_3d_joints_are_not_read(tmp_path: Path) -> None:
    """A data set without any gives the same weights."""
    for name, truth in (("with", True), ("without", False)):
        train_lifter(config(write_dataset(tmp_path / f"{name}.h5", truth=truth), tmp_path / name))
    first, second = (load_lifter(tmp_path / name, torch.device("cpu")) for name in ("with", "without"))
    assert first.digest == second.digest


@pytest.mark.parametrize(
    "changed", [{"joints": "mpii16", "orientation": "nose"}, {"random_angles": 0}, {"learn_tilt": False, "tilt": 8.0}]
)
def test_other_settings_train_too(tmp_path: Path, changed: dict[str, object]) -> None:
    dataset = write_dataset(tmp_path / "poses.h5")
    report = train_lifter(config(dataset, tmp_path / "run", epochs=1, **changed))
    assert np.isfinite(list(report.metrics.values())).all()
    joints = load_lifter(tmp_path / "run", torch.device("cpu")).skeleton
    assert joints == (MPII16 if changed.get("joints") == "mpii16" else COMMON14)


@pytest.mark.parametrize("name", ["ratio", "symmetry", "orientation", "twist", "consistency"])
def test_every_term_can_be_switched_off(tmp_path: Path, name: str) -> None:
    dataset = write_dataset(tmp_path / "poses.h5")
    outcomes = []
    for run, weight in (("on", 5.0), ("off", 0.0)):
        train_lifter(config(dataset, tmp_path / run, w_adversarial=0.0, **{f"w_{name}": weight}))
        outcomes.append(load_lifter(tmp_path / run, torch.device("cpu")).digest)
    assert outcomes[0] != outcomes[1] or name == "twist"


@pytest.mark.slow
def test_training_tells_front_from_back_on_turning_people(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "poses.h5")
    # The paper's weights; on so few poses the larger ones of the defaults are not stable.
    weights = {"w_adversarial": 0.1, "w_ratio": 1.0, "w_symmetry": 1.0, "w_orientation": 1.0}
    learned = weights | {"epochs": 80, "lr": 3e-3, "width": 32, "decay": "cosine"}
    train_lifter(config(dataset, tmp_path / "run", **learned))
    found = measured(dataset, tmp_path / "run", output=tmp_path / "run.json")
    train_lifter(
        config(dataset, tmp_path / "blind", **learned | {"orientation": "none", "w_ratio": 0.0, "w_symmetry": 0.0})
    )
    blind = measured(dataset, tmp_path / "blind", output=tmp_path / "blind.json")
    assert found["flipped_percent"] <= 5.0
    assert found["depth_mm"] < 0.8 * blind["depth_mm"]


def test_data_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "poses.h5")
    with pytest.raises(DataError, match="too few whole skeletons"):
        train_lifter(config(dataset, tmp_path / "run", batch=100))
    with pytest.raises(ConfigError, match="neck"):
        train_lifter(config(dataset, tmp_path / "run", orientation="nose"))
    with pytest.raises(ConfigError, match="no angle"):
        train_lifter(config(dataset, tmp_path / "run", angles=(), random_angles=0))
    with pytest.raises(ConfigError, match="no data set"):
        train_lifter(config(dataset, tmp_path / "run", datasets=()))
    report = train_lifter(config(dataset, tmp_path / "run", dry_run=True))
    assert not report.outputs and not (tmp_path / "run").exists()


def test_shipped_recipes_are_settings_of_the_stage() -> None:
    paper, demo = (
        build_config(TrainLifter, load_recipe(find_recipe(TrainLifter, Path(name)))) for name in ("paper", "demo")
    )
    assert (paper.width, paper.epochs, paper.batch, paper.lr, paper.w_adversarial) == (1024, 60, 1024, 2e-4, 0.1)
    assert not paper.learn_tilt and not paper.random_angles and not paper.w_consistency
    assert demo.width < paper.width


def test_resting_joints_follow_the_markers_of_the_data() -> None:
    body = load_body(None)
    markers, rig = (resting_joints(body, COMMON14, as_h36m=as_h36m) for as_h36m in (True, False))
    assert markers.shape == rig.shape == (14, 3)
    left, right = COMMON14.indices("left_hip", "right_hip")
    for joints in (markers, rig):
        assert joints[left, 0] > 0 > joints[right, 0]
    assert (markers - rig).norm(dim=-1).max() > 0.01


def test_results_are_kept_and_taken_up(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "poses.h5")
    train_lifter(config(dataset, tmp_path / "run"))
    settings = EvaluateLifter(dataset=dataset, lifter=tmp_path / "run", output=tmp_path / "r.json", device="cpu")
    assert not evaluate_lifter(settings.model_copy(update={"dry_run": True})).outputs
    first, second = evaluate_lifter(settings), evaluate_lifter(settings)
    assert (first.skipped, second.skipped) == (False, True)
    assert first.metrics == second.metrics and first.counts["evaluated"] == COUNT // 2
    result = json.loads((tmp_path / "r.json").read_text())["results"]["lifter"]
    assert set(result["metrics"]["depth"]["per_action"]) == {"Turning"}
    assert "pelvis" not in result["metrics"]["depth"]["per_joint"]
    with pytest.raises(InputError, match="no 3D ground truth"):
        measured(write_dataset(tmp_path / "bare.h5", truth=False), tmp_path / "run", output=tmp_path / "n.json")
