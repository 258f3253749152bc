"""Both trainings of Pose ResNet as stages, on a data set of noise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.config.base import build_config, find_recipe, load_recipe
from posekit.config.pose_resnet import TrainPoseResNet, TrainPoseResNet2D
from posekit.errors import ConfigError, DataError, FormatError, InputError, MissingFileError
from posekit.models.backbone import Backbone
from posekit.stages.pose_network import PoseNetwork
from posekit.stages.report import StageReport
from posekit.stages.train_pose_resnet import train_pose_resnet
from posekit.stages.train_pose_resnet_2d import train_pose_resnet_2d
from posekit.training.logs import read_log
from posekit.training.pose_resnet import PoseMethod
from posekit.training.runs import load_run

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "backbone": "resnet10",
    "weights": "none",
    "input_size": 32,
    "depth_bins": 8,
    "deconv_width": 8,
    "pool": "none",
    "batch": 4,
    "epochs": 1,
    "decay": "none",
    "decay_epochs": (),
    "device": "cpu",
    "log_every": 1,
}


@pytest.fixture(scope="module")
def files(pose_data: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pose_data.write_files(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def flat(files: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained 2D branch."""
    folder = tmp_path_factory.mktemp("runs") / "2d"
    run_2d(files, folder)
    return folder


@pytest.fixture(scope="module")
def occluders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voc") / "voc.occluders.h5"
    white = np.full((150, 150, 3), 255, np.uint8)
    coded = cv2.imencode(".png", np.dstack([white, white[..., :1]]))[1].reshape(-1)
    with ArtifactWriter(path, Header("occluders", "test")) as writer:
        columns = {"category": ["box"] * 2, "source": ["a"] * 2, "area_px": [90000] * 2, "image": [coded] * 2}
        writer.append("objects", columns)
    return path


def run_2d(files: Any, output: Path, **changes: Any) -> StageReport:
    return train_pose_resnet_2d(
        TrainPoseResNet2D(**(SMALL | {"datasets": (files.dataset,), "output": output} | changes))
    )


def run_3d(files: Any, init: Path | None, output: Path, **changes: Any) -> StageReport:
    settings = SMALL | {"dataset": files.dataset, "labels": files.labels, "output": output, "occlusion_p": 0.0}
    return train_pose_resnet(TrainPoseResNet(**(settings | {"init": init} | changes)))


def test_the_2d_branch_learns_training_people_with_pictures(files: Any, tmp_path: Path) -> None:
    report = run_2d(files, tmp_path, monitor_samples=4)
    # Two of three subjects, four frames of two cameras each; one picture is missing.
    assert (report.counts["samples"], report.counts["no picture"]) == (2 * 4 * 2 - 1, 1)
    assert report.metrics["error_percent"] > 0.0
    assert "covered_share" not in report.metrics
    network = PoseNetwork.open(tmp_path, CPU)
    assert (network.facts.dimensions, network.facts.input_size, network.skeleton.name) == (2, 32, "mpii16")
    assert run_2d(files, tmp_path, workers=1).skipped
    assert not run_2d(files, tmp_path, lr=1e-4).skipped


def test_the_3d_branch_learns_from_labels_of_two_views(files: Any, flat: Path, tmp_path: Path) -> None:
    report = run_3d(files, flat, tmp_path, monitor_samples=4)
    # The first frame of each sequence is not ok; the missing picture is of the second.
    assert report.counts["label not ok"] == 2 * 2
    assert report.counts["samples"] == 2 * 3 * 2 - 1
    assert 0.0 < report.metrics["pa_mpjpe_mm"] <= report.metrics["n_mpjpe_mm"]
    run = load_run(tmp_path)
    assert set(run.inputs) == {"dataset", "labels", "init"}
    assert run.facts["dimensions"] == 3
    assert run.inputs["init"] == load_run(flat).digest


def test_ground_truth_is_read_for_full_supervision_only(files: Any, flat: Path, tmp_path: Path) -> None:
    report = run_3d(files, flat, tmp_path / "full", labels=None, supervision="full")
    assert report.counts["samples"] == 2 * 4 * 2 - 1
    assert set(load_run(tmp_path / "full").inputs) == {"dataset", "init"}
    with pytest.raises(ConfigError, match="not from labels"):
        run_3d(files, flat, tmp_path / "other", supervision="full")


def test_labels_without_scale_teach_the_same(files: Any, flat: Path, pose_data: ModuleType, tmp_path: Path) -> None:
    run_3d(files, flat, tmp_path / "one")
    with Artifact(files.dataset) as dataset:
        pose_data.write_labels(tmp_path / "large.h5", dataset.digest, scale=8.0)
    run_3d(files, flat, tmp_path / "other", labels=tmp_path / "large.h5")
    one, other = (load_run(tmp_path / name).weights for name in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("supervision", "cameras", "source"),
    [("self", "intrinsics", "network"), ("self-2dgt", "intrinsics", "truth"), ("extrinsics-given", "known", "network")],
)
def test_labels_must_be_what_the_supervision_says(
    supervision: str, cameras: str, source: str, files: Any, flat: Path, pose_data: ModuleType, tmp_path: Path
) -> None:
    with Artifact(files.dataset) as dataset:
        pose_data.write_labels(tmp_path / "made.h5", dataset.digest, cameras=cameras, source=source)
    for name in ("self", "self-2dgt", "extrinsics-given"):
        if name == supervision:
            run_3d(files, flat, tmp_path / name, labels=tmp_path / "made.h5", supervision=name)
        else:
            with pytest.raises(InputError, match="another kind than the supervision"):
                run_3d(files, flat, tmp_path / name, labels=tmp_path / "made.h5", supervision=name, dry_run=True)


def test_weights_are_taken_over_or_not(files: Any, flat: Path, tmp_path: Path) -> None:
    tiny = {"lr": 1e-12}
    run_3d(files, flat, tmp_path / "with", **tiny)
    run_3d(files, None, tmp_path / "without", transfer=False, **tiny)
    name = "backbone.layer2.0.conv1.weight"
    theirs = load_run(flat).module("network")[name]
    torch.testing.assert_close(load_run(tmp_path / "with").module("network")[name], theirs, atol=1e-8, rtol=0.0)
    drawn = Backbone("resnet10").state_dict()["layer2.0.conv1.weight"]
    torch.testing.assert_close(load_run(tmp_path / "without").module("network")[name], drawn, atol=1e-8, rtol=0.0)
    with pytest.raises(ConfigError, match="not taken over"):
        run_3d(files, flat, tmp_path / "third", transfer=False)
    with pytest.raises(FormatError, match="another form"):
        run_3d(files, flat, tmp_path / "third", cbam=False)


def test_occlusion_is_logged_and_changes_what_is_learned(
    files: Any, flat: Path, occluders: Path, tmp_path: Path
) -> None:
    report = run_3d(files, flat, tmp_path / "some", occlusion_p=1.0, occluders=occluders)
    assert 0.1 < report.metrics["covered_share"] < 0.8
    assert all(0.0 <= line["losses"]["covered"] <= 1.0 for line in read_log(tmp_path / "some"))
    run_3d(files, flat, tmp_path / "none")
    one, other = (load_run(tmp_path / name) for name in ("some", "none"))
    assert "occluders" in one.inputs and "occluders" not in other.inputs
    assert one.digest != other.digest
    with pytest.raises(MissingFileError):
        run_3d(files, flat, tmp_path / "third", occlusion_p=0.5, occluders=tmp_path / "none.h5")


def test_samples_are_thinned_out(files: Any, flat: Path, tmp_path: Path) -> None:
    assert run_3d(files, flat, tmp_path / "most", max_samples=6).counts["samples"] <= 6
    assert run_3d(files, flat, tmp_path / "stride", stride=2, batch=2).counts["samples"] < 11
    rest = run_3d(files, flat, tmp_path / "rest", min_motion=1e6, batch=2)
    # Nobody moves that far, so the first labelled frame of each track remains.
    assert rest.counts["samples"] + rest.counts.get("no picture", 0) == 2 * 2
    with pytest.raises(ConfigError, match="fewer samples than one batch"):
        run_3d(files, flat, tmp_path / "few", max_samples=2)


def test_other_settings_that_cannot_work_are_refused(
    files: Any, flat: Path, pose_data: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="multiple of 32"):
        run_2d(files, tmp_path, input_size=48)
    with pytest.raises(ConfigError, match="--decay-epochs together"):
        run_2d(files, tmp_path, decay="steps")
    with pytest.raises(ConfigError, match="no data set"):
        run_2d(files, tmp_path, datasets=())
    with pytest.raises(MissingFileError):
        run_3d(files, tmp_path / "nothing", tmp_path)
    pose_data.write_labels(tmp_path / "stale.h5", "0" * 64)
    with pytest.raises(InputError, match="was not made from"):
        run_3d(files, flat, tmp_path, labels=tmp_path / "stale.h5")
    assert run_3d(files, flat, tmp_path, dry_run=True).outputs == []


def test_the_network_finds_the_same_whatever_the_batch(files: Any, flat: Path) -> None:
    network = PoseNetwork.open(flat, CPU)
    with Artifact(files.dataset) as dataset:
        rows = np.arange(dataset.rows("samples"))
        points, confidence, seen = network.coordinates(dataset, rows, 64)
        again, _, _ = network.coordinates(dataset, rows, 3)
        keypoints = network.keypoints(dataset, rows, 8)
        maps = network.heat_maps(dataset, rows[:4])
        crops = network.crops(dataset, rows)
    assert seen.sum() == len(rows) - 1 and not seen[2]
    np.testing.assert_allclose(points, again, atol=1e-6)
    assert np.isnan(points[2]).all() and (confidence[2] == 0.0).all() and np.isnan(keypoints[2, :, :2]).all()
    back = 0.5 * (np.einsum("nij,nkj->nki", crops[..., :2], keypoints[..., :2]) + crops[:, None, :, 2])
    np.testing.assert_allclose(back[seen], points[seen][..., :2], atol=1e-9)
    np.testing.assert_allclose(maps[[0, 1, 3]].sum((2, 3)), 1.0, atol=1e-5)
    assert np.isnan(maps[2]).all()


@pytest.mark.parametrize("kind", [TrainPoseResNet2D, TrainPoseResNet])
@pytest.mark.parametrize("name", ["paper", "demo"])
def test_shipped_recipes_are_valid(kind: Any, name: str) -> None:
    config = build_config(kind, load_recipe(find_recipe(kind, Path(name))))
    assert config.cbam and config.pool == "wasp"


def test_nobody_to_learn_from_is_an_error(files: Any, tmp_path: Path, pose_data: ModuleType) -> None:
    pose_data.CLIPS, kept = pose_data.CLIPS[2:] * 3, pose_data.CLIPS
    try:
        pose_data.write_dataset(tmp_path / "test.h5")
    finally:
        pose_data.CLIPS = kept
    with pytest.raises(DataError, match="nobody of the split train"):
        run_2d(files, tmp_path / "run", datasets=(tmp_path / "test.h5",))


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    files: Any, flat: Path, occluders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 3, "checkpoint_every": 2, "occlusion_p": 0.5, "occluders": occluders, "pool": "none"}
    run_3d(files, flat, tmp_path / "whole", **settings)
    whole, steps = PoseMethod.step, []

    def interrupted(self: PoseMethod, batch: Any, worker: Any) -> Any:
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return whole(self, batch, worker)

    with monkeypatch.context() as patched:
        patched.setattr(PoseMethod, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_3d(files, flat, tmp_path / "halves", **settings)
    report = run_3d(files, flat, tmp_path / "halves", **settings)
    assert "went on after step 2" in " ".join(report.notes)
    one, other = (load_run(tmp_path / name).weights for name in ("whole", "halves"))
    assert all(torch.equal(one[name], other[name]) for name in one)


TOGETHER = """
import sys
import torch
from posekit.config.pose_resnet import TrainPoseResNet, TrainPoseResNet2D
from posekit.stages.train_pose_resnet import train_pose_resnet
from posekit.stages.train_pose_resnet_2d import train_pose_resnet_2d

torch.set_num_threads(1)
flat, deep = (open(path).read() for path in sys.argv[1:])
train_pose_resnet_2d(TrainPoseResNet2D.model_validate_json(flat))
train_pose_resnet(TrainPoseResNet.model_validate_json(deep))
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(files: Any, occluders: Path, tmp_path: Path) -> None:
    """Both branches, one after the other; without WASP, whose dropout differs from process to process."""
    precise = SMALL | {"precision": "64-true", "epochs": 2, "flip": 0.5, "heat_map_weight": 0.5}
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        flat = TrainPoseResNet2D(**(precise | {"datasets": (files.dataset,), "output": folder / "2d"}))
        deep = TrainPoseResNet(
            **precise,
            dataset=files.dataset,
            labels=files.labels,
            init=folder / "2d",
            output=folder / "3d",
            occluders=occluders,
            occlusion_p=1.0,
        )
        if name == "one":
            train_pose_resnet_2d(flat)
            train_pose_resnet(deep)
            continue
        for config, file in ((flat, "flat.json"), (deep, "deep.json")):
            (folder / file).write_text(config.model_dump_json())
        (folder / "together.py").write_text(TOGETHER)
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        words = [*torchrun, "together.py", "flat.json", "deep.json"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
        assert done.returncode == 0, done.stderr[-3000:]
    for branch in ("2d", "3d"):
        one, two = (load_run(tmp_path / name / branch).weights for name in ("one", "two"))
        assert one.keys() == two.keys()
        for name in one:
            # Adam blows rounding up where a gradient is next to nothing; the losses show it first if anything else differs.
            torch.testing.assert_close(two[name], one[name], rtol=0.0, atol=1e-5, msg=f"{branch}: {name}")
        said, heard = ([line["losses"] for line in read_log(tmp_path / name / branch)] for name in ("one", "two"))
        assert len(said) > 3
        for ours, theirs in zip(said, heard, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-7)
