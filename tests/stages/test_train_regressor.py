"""The training of a regressor as a stage, on a data set of noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.smpl_file import load_body
from posekit.config.base import build_config, find_recipe, load_recipe
from posekit.config.regressor import TrainRegressor
from posekit.datasets.crops import encode_image
from posekit.errors import ConfigError, DataError, FormatError, InputError, MissingFileError
from posekit.models.backbone import Backbone
from posekit.records import Camera, Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import H36M17
from posekit.stages.report import StageReport
from posekit.stages.train_regressor import train_regressor
from posekit.training.logs import read_log
from posekit.training.regressor import load_regressor
from posekit.training.runs import load_run

CPU = torch.device("cpu")
FRAMES, STORED = 5, 32
TRAIN, TEST = (("S1/Walking", "S1", "train"), ("S5/Sitting", "S5", "train")), (("S9/Walking", "S9", "test"),)


@dataclass(frozen=True)
class Files:
    """A data set, and what was made from it."""

    dataset: Path
    fits: Path
    dense: Path


def key(sequences: int) -> dict[str, np.ndarray]:
    sequence, frame = (axis.ravel() for axis in np.indices((sequences, FRAMES)))
    zeros = np.zeros(sequences * FRAMES, np.int64)
    return {"sequence": sequence, "frame": 3 * frame, "person": zeros, "camera": zeros}


def write_dataset(path: Path, clips: tuple[tuple[str, str, str], ...] = TRAIN + TEST, without: int = -1) -> str:
    """One row for every frame of the clips; the picture of row `without` is missing. Returns the digest."""
    random = np.random.default_rng(0)
    count = len(clips) * FRAMES
    camera = Camera("a", 400, 300, np.array([[500.0, 0.0, 200.0], [0.0, 500.0, 150.0], [0.0, 0.0, 1.0]]), posed=False)
    keypoints = np.concatenate([random.uniform(100.0, 200.0, (count, 17, 2)), np.ones((count, 17, 1))], axis=-1)
    pictures = [
        np.zeros(0, np.uint8) if row == without else encode_image(picture, "jpeg", quality=90)
        for row, picture in enumerate(random.integers(0, 256, (count, STORED, STORED, 3), dtype=np.uint8))
    ]
    with ArtifactWriter(path, Header("dataset", "test", skeleton=H36M17)) as writer:
        writer.append("cameras", camera_columns([camera]))
        rows = [Clip(name, 50.0, subject=subject, split=split) for name, subject, split in clips]
        writer.append("sequences", clip_columns(rows))
        numbers = np.arange(len(clips))
        videos = {
            "sequence": numbers,
            "camera": 0 * numbers,
            "path": ["a.mp4"] * len(clips),
            "frames": 0 * numbers + 15,
        }
        writer.append("videos", videos)
        samples = {
            "bbox": np.tile([100.0, 100.0, 200.0, 200.0], (count, 1)),
            "keypoints2d": keypoints,
            "joints3d": random.normal(0.0, 0.5, (count, 17, 3)),
            "image": pictures,
            "crop_from_image": np.tile([[0.25, 0.0, -21.0], [0.0, 0.25, -21.0]], (count, 1, 1)),
        }
        writer.append("samples", key(len(clips)) | samples)
    with Artifact(path) as dataset:
        return dataset.digest


def write_fits(path: Path, digest: str, sequences: int, **changes: Any) -> None:
    """Bodies at rest; those of frame 0 are not ok, and those of frame 3 are not there."""
    columns = key(sequences)
    count = len(columns["frame"])
    columns |= {
        "pose": np.zeros((count, 24, 3)),
        "segment_scales": np.ones((count, 24)),
        "betas": np.zeros((count, 10)),
        "orientation": np.tile(np.diag([1.0, -1.0, -1.0]), (count, 1, 1)),
        "translation": np.zeros((count, 3)),
        "scale": np.full(count, 0.9),
        "losses": np.zeros((count, 11)),
        "residual_px": np.zeros(count),
        "ok": columns["frame"] > 0,
        "crop_from_image": np.tile([[1 / 60, 0.0, -2.5], [0.0, 1 / 60, -2.5]], (count, 1, 1)),
    } | changes
    kept = columns["frame"] != 3
    columns = {name: np.asarray(values)[kept] for name, values in columns.items()}
    columns["reason"] = np.where(columns["ok"], "ok", "residual")
    facts = {"body": load_body().digest}
    with ArtifactWriter(path, Header("fits", "test", inputs={"dataset": digest}, facts=facts)) as writer:
        writer.append("fits", columns)


def write_dense(path: Path, digest: str, sequences: int) -> None:
    random = np.random.default_rng(1)
    count = sequences * FRAMES
    points = {
        "pixels": [random.uniform(100.0, 200.0, (20, 2)) for _ in range(count)],
        "vertices": [random.integers(0, 6000, 20) for _ in range(count)],
        "weights": [np.ones(20) for _ in range(count)],
    }
    header = Header("correspondences", "test", inputs={"dataset": digest}, facts={"body_digest": load_body().digest})
    with ArtifactWriter(path, header) as writer:
        writer.append("samples", key(sequences) | points)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("workspace")
    made = Files(folder / "data" / "a.h5", folder / "fits" / "a.h5", folder / "labels" / "a.dense.h5")
    digest = write_dataset(made.dataset, without=4)
    write_fits(made.fits, digest, 3)
    write_dense(made.dense, digest, 3)
    return made


def run(files: Files, output: Path, **changes: Any) -> StageReport:
    settings = {"backbone": "resnet10", "weights": "none", "input_size": 32, "batch": 3, "epochs": 1, "device": "cpu"}
    settings |= {"datasets": (files.dataset,), "output": output, "log_every": 1, "lr": 1e-3}
    return train_regressor(TrainRegressor(**(settings | changes)))


def test_it_learns_from_training_subjects_with_pictures_and_usable_fits(files: Files, tmp_path: Path) -> None:
    report = run(files, tmp_path)
    # Of 15 images 5 show another subject; frame 0 has a bad fit, frame 3 none, and one picture is missing.
    assert report.counts["samples"] == 2 * 3 - 1
    assert report.counts["of other subjects"] == 5
    assert (report.counts["no fit"], report.counts["fit not ok"], report.counts["no picture"]) == (2, 2, 1)
    assert "4 images left out" in " ".join(report.notes)
    (line,) = read_log(tmp_path)
    assert set(line["losses"]) == {"total", "parameters", "dense", "keypoints"} | {"depth"}
    regressor, facts = load_regressor(tmp_path, CPU)
    assert regressor.head.out_features == 132
    assert (facts.input_size, facts.body) == (32, load_body().digest)
    assert set(load_run(tmp_path).inputs) == {"dataset0", "fits0", "dense0", "body"}


def test_up_to_date_runs_are_skipped_others_are_not(files: Files, tmp_path: Path) -> None:
    assert run(files, tmp_path, dry_run=True).outputs == []
    assert not (tmp_path / "config.json").exists()
    assert not run(files, tmp_path).skipped
    again = run(files, tmp_path, workers=1, log_every=7)
    assert again.skipped
    assert not run(files, tmp_path, force=True).skipped
    assert not run(files, tmp_path, w_dense=1.0).skipped


def test_images_without_fit_may_be_learned_from_by_their_labels(files: Files, tmp_path: Path) -> None:
    report = run(files, tmp_path, unfitted="labels")
    assert report.counts["samples"] == 2 * FRAMES - 1
    assert "4 images without fit" in " ".join(report.notes)


@pytest.mark.parametrize("supervision", ["labels", "labels-no-adversary"])
def test_labels_alone_need_no_fits(supervision: str, files: Files, tmp_path: Path) -> None:
    report = run(files, tmp_path, supervision=supervision, fits=(tmp_path / "none.h5",), adversary_width=8)
    assert report.counts["samples"] == 2 * FRAMES - 1
    assert ("loss_discriminator" in report.metrics) == (supervision == "labels")
    assert load_regressor(tmp_path, CPU)[1].rotations == "quaternion"


def test_errors_of_other_subjects_are_logged_and_change_nothing(files: Files, tmp_path: Path) -> None:
    seen = run(files, tmp_path / "seen", monitor_samples=3, epochs=2, monitor_every=2)
    run(files, tmp_path / "unseen", epochs=2)
    lines = [line["monitor"] for line in read_log(tmp_path / "seen") if line.get("monitor")]
    assert len(lines) == 1
    assert 0.0 < lines[0]["pa_mpjpe_mm"] <= lines[0]["mpjpe_mm"]
    assert seen.metrics["n_mpjpe_mm"] == lines[0]["n_mpjpe_mm"]
    one, other = (load_run(tmp_path / name).weights for name in ("seen", "unseen"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_training_goes_on_from_another_run(files: Files, tmp_path: Path) -> None:
    run(files, tmp_path / "first")
    further = run(files, tmp_path / "second", init=tmp_path / "first", lr=1e-9)
    assert not further.skipped
    one, other = (load_run(tmp_path / name) for name in ("first", "second"))
    torch.testing.assert_close(
        one.module("regressor")["head.weight"], other.module("regressor")["head.weight"], atol=1e-6, rtol=0.0
    )
    assert other.inputs["init"] == one.digest
    with pytest.raises(FormatError, match="not those of such a regressor"):
        run(files, tmp_path / "third", init=tmp_path / "first", rotations="axis-angle")
    with pytest.raises(ConfigError, match="--init or --weights-file"):
        run(files, tmp_path / "third", init=tmp_path / "first", weights_file=tmp_path / "a.pth")


def test_a_trunk_s_weights_can_come_from_a_file(files: Files, tmp_path: Path) -> None:
    torch.save(Backbone("resnet10", 7).state_dict(), tmp_path / "trunk.pth")
    run(files, tmp_path / "run", weights_file=tmp_path / "trunk.pth", lr=1e-12)
    stored = load_run(tmp_path / "run").module("regressor")
    torch.testing.assert_close(stored["backbone.layer1.0.conv1.weight"], Backbone("resnet10", 7).layer1[0].conv1.weight)
    assert "weights" in load_run(tmp_path / "run").inputs


def test_several_data_sets_are_learned_from_together(files: Files, tmp_path: Path) -> None:
    second = tmp_path / "data" / "b.h5"
    digest = write_dataset(second, (("clip", "", ""),))
    write_fits(tmp_path / "fits" / "b.h5", digest, 1, betas=np.ones((FRAMES, 10)))
    report = run(
        files, tmp_path / "run", datasets=(files.dataset, second), fits=(files.fits, tmp_path / "fits" / "b.h5")
    )
    # The second one has no split: everybody is learned from.
    assert report.counts["samples"] == 5 + 3
    assert "b.h5 holds shape coefficients" in " ".join(report.notes)
    with pytest.raises(ConfigError, match="one file for each data set"):
        run(files, tmp_path / "run", datasets=(files.dataset, second), fits=(files.fits,))


def test_what_cannot_be_learned_from_is_refused(files: Files, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no data set"):
        run(files, tmp_path, datasets=())
    with pytest.raises(ConfigError, match="nothing to learn"):
        run(files, tmp_path, w_parameters=0.0, w_dense=0.0, w_keypoints=0.0, w_depth=0.0)
    with pytest.raises(MissingFileError):
        run(files, tmp_path, fits=(tmp_path / "none.h5",))
    with pytest.raises(MissingFileError):
        run(files, tmp_path, lifter=tmp_path / "none")
    only_test = tmp_path / "data" / "test.h5"
    digest = write_dataset(only_test, TEST)
    write_fits(tmp_path / "fits" / "test.h5", digest, 1)
    with pytest.raises(DataError, match="no training subject"):
        run(files, tmp_path, datasets=(only_test,))
    with pytest.raises(InputError, match="was not made from"):
        run(files, tmp_path, datasets=(only_test,), fits=(files.fits,))


@pytest.mark.parametrize("name", ["paper", "demo"])
def test_shipped_recipes_are_valid(name: str) -> None:
    config = build_config(TrainRegressor, load_recipe(find_recipe(TrainRegressor, Path(name))))
    assert config.supervision == "fits"
