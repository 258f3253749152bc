"""Registration as a stage, on small data sets made here."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import FITS
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.landmarks import regressor
from posekit.body.model import BodyModel
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.camera_stack import stack_cameras
from posekit.config.labels import Register
from posekit.errors import ArtifactError, ConfigError, DataError, FormatError, InputError, MissingFileError
from posekit.geometry.transforms import fit_similarity
from posekit.labeling.depth_networks import DepthGenerator
from posekit.records import Camera, Clip, camera_columns, clip_columns
from posekit.registration.losses import Weights
from posekit.registration.posing import crop_pixels, posed_bodies
from posekit.skeleton.catalog import COMMON14, H36M17
from posekit.stages import register as stage
from posekit.stages.register import register

FRAMES = 6


@dataclass(frozen=True)
class Recording:
    """A data set of one moving person in four views, its labels, and the true joints (T, 17, 3)."""

    dataset: Path
    joints3d: Path
    dense: Path
    joints: np.ndarray
    vertices: np.ndarray


def rig(*, posed: bool = True) -> list[Camera]:
    """Four cameras with lenses, at 4.5 m."""
    cameras = []
    for number, yaw in enumerate((0.6, 2.2, 3.7, 5.3)):
        centre = np.array([4.5 * np.sin(yaw), 1.2, 4.5 * np.cos(yaw)])
        forward = -centre / np.linalg.norm(centre)
        right = np.cross(forward, [0.0, 1.0, 0.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        intrinsics = np.array([[1145.0, 0.0, 500.0], [0.0, 1145.0, 500.0], [0.0, 0.0, 1.0]])
        cameras.append(
            Camera(
                name=f"cam{number}",
                width=1000,
                height=1000,
                intrinsics=intrinsics,
                lens="opencv",
                distortion=(-0.2, 0.1, 0.001, -0.001, 0.0, 0.0, 0.0, 0.0),
                rotation=rotation if posed else np.eye(3),
                translation=-rotation @ centre if posed else np.zeros(3),
                posed=posed,
            )
        )
    return cameras


def poses(frames: int) -> np.ndarray:
    """A person who turns and bends arms and legs."""
    swing = np.sin(np.linspace(0.0, 2.0, frames))
    pose = np.zeros((frames, 24, 3))
    pose[:, 0, 1] = 1.0 + swing
    pose[:, 16, 2], pose[:, 17, 2] = -0.9 + 0.3 * swing, 0.9
    pose[:, 18, 1], pose[:, 19, 1] = -0.8 * swing, 0.5
    pose[:, 1, 0], pose[:, 4, 0] = -0.6 * swing, 0.9 * swing
    return pose


def make_recording(folder: Path, *, frames: int = FRAMES, posed: bool = True, drop: Any = None) -> Recording:
    """Writes the three artifacts; `drop(keypoints, joints)` may damage labels, (frames, views, 17, 3) and (frames, 17, 3)."""
    body = load_body()
    random = np.random.default_rng(1)
    betas = torch.from_numpy(np.tile(random.normal(0.0, 1.0, 10), (frames, 1))).float()
    with torch.no_grad():
        vertices = BodyModel(body)(betas, torch.from_numpy(poses(frames)).float()).vertices.double()
    joints = torch.from_numpy(regressor(body, H36M17)) @ vertices
    cameras = stack_cameras(rig())
    ids = torch.from_numpy(random.choice(body.vertex_count, 60, replace=False))
    labels = torch.cat([cameras.project(joints[:, None]), torch.ones(frames, 4, 17, 1)], dim=-1).numpy()
    points = cameras.project(vertices[:, None, ids]).numpy() + random.normal(0.0, 1.0, (frames, 4, 60, 2))
    pixels = cameras.project(vertices[:, None]).numpy()
    boxes = np.concatenate([pixels.min(2), pixels.max(2)], axis=-1)
    made = joints.numpy() + random.normal(0.0, 0.005, (frames, 17, 3))
    if drop is not None:
        drop(labels, made)
    recording = Recording(
        folder / "data" / "small.h5",
        folder / "labels" / "small.joints3d.h5",
        folder / "labels" / "small.dense.h5",
        joints.numpy(),
        vertices.numpy(),
    )
    frame, view = (axis.ravel() for axis in np.indices((frames, 4)))
    key = {"sequence": np.zeros_like(frame), "frame": 5 * frame, "person": np.zeros_like(frame)}
    with ArtifactWriter(recording.dataset, Header("dataset", "test", skeleton=H36M17)) as writer:
        writer.append("cameras", camera_columns(rig(posed=posed)))
        writer.append("sequences", clip_columns([Clip("S1/Walking", 50.0, subject="S1")]))
        writer.append("videos", {"sequence": [0], "camera": [0], "path": ["a.mp4"], "frames": [5 * frames]})
        samples = {"camera": view, "bbox": boxes.reshape(-1, 4), "keypoints2d": labels.reshape(-1, 17, 3)}
        writer.append("samples", key | samples)
    with Artifact(recording.dataset) as dataset:
        digest = dataset.digest
    with ArtifactWriter(
        recording.joints3d, Header("joints3d", "test", inputs={"dataset": digest}, skeleton=H36M17)
    ) as writer:
        writer.append("cameras", camera_columns(rig()))
        writer.append(
            "poses",
            {
                "sequence": np.zeros(frames),
                "frame": 5 * np.arange(frames),
                "person": np.zeros(frames),
                "joints3d": made,
                "confidence": np.isfinite(made).all(-1),
                "error_px": np.zeros((frames, 17)),
                "views": np.full((frames, 17), 15),
                "ok": np.ones(frames, bool),
            },
        )
    with ArtifactWriter(recording.dense, Header("correspondences", "test", inputs={"dataset": digest})) as writer:
        columns = {
            "pixels": list(points.reshape(-1, 60, 2)),
            "vertices": [ids.numpy()] * len(frame),
            "weights": [np.ones(60)] * len(frame),
        }
        writer.append("samples", key | {"camera": view} | columns)
    return recording


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return make_recording(tmp_path_factory.mktemp("recording"))


def fitted(path: Path) -> dict[str, np.ndarray]:
    with Artifact(path, FITS) as fits:
        return fits.table("fits")


def mean_error(points: torch.Tensor, truth: np.ndarray) -> float:
    return float(np.linalg.norm(points.numpy() - truth, axis=-1).mean())


def test_joint_fits_come_to_the_truth(recording: Recording) -> None:
    report = register(Register(dataset=recording.dataset, iters=150))
    assert report.outputs == [recording.dataset.parent.parent / "fits" / "small.h5"]
    fits = fitted(report.outputs[0])
    assert fits["ok"].all() and report.counts["ok"] == FRAMES
    assert (fits["camera"] == -1).all() and fits["frame"].tolist() == (5 * np.arange(FRAMES)).tolist()
    vertices, _ = posed_bodies(fits, SegmentScaledBody(load_body()))
    joints = torch.from_numpy(regressor(load_body(), H36M17)).float() @ vertices
    assert mean_error(joints, recording.joints) < 0.012
    assert mean_error(vertices, recording.vertices) < 0.015
    assert report.metrics["residual_px_mean"] < 2.0
    np.testing.assert_allclose(fits["segment_scales"].mean(1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(fits["pose"][:, 0], 0.0)


def test_a_second_run_is_skipped_and_equals_another_batch_size(recording: Recording, tmp_path: Path) -> None:
    config = Register(dataset=recording.dataset, output=tmp_path / "fits.h5", iters=20, shape="per-frame")
    first = register(config)
    assert not first.skipped
    assert register(config).skipped
    other = register(config.model_copy(update={"output": tmp_path / "other.h5", "batch": 4}))
    for name in ("pose", "segment_scales", "translation"):
        np.testing.assert_allclose(fitted(first.outputs[0])[name], fitted(other.outputs[0])[name], atol=1e-4)
    assert not register(config.model_copy(update={"force": True})).skipped


def test_the_same_run_gives_the_same_bytes(recording: Recording, tmp_path: Path) -> None:
    digests = []
    for name in ("a.h5", "b.h5"):
        register(Register(dataset=recording.dataset, output=tmp_path / name, iters=5, noise_px=2.0))
        with Artifact(tmp_path / name) as fits:
            digests.append(fits.digest)
    assert digests[0] == digests[1]


def test_one_shape_per_person(recording: Recording, tmp_path: Path) -> None:
    config = Register(dataset=recording.dataset, output=tmp_path / "fits.h5", iters=100, shape="per-person")
    fits = fitted(register(config).outputs[0])
    for name in ("segment_scales", "betas", "scale"):
        np.testing.assert_allclose(fits[name], np.broadcast_to(fits[name][:1], fits[name].shape), atol=1e-6)
    vertices, _ = posed_bodies(fits, SegmentScaledBody(load_body()))
    assert mean_error(vertices, recording.vertices) < 0.015


def test_weak_perspective_fits_lie_on_the_image(recording: Recording, tmp_path: Path) -> None:
    config = Register(dataset=recording.dataset, output=tmp_path / "fits.h5", camera="weak", iters=200)
    fits = fitted(register(config).outputs[0])
    assert len(fits["ok"]) == 4 * FRAMES and fits["ok"].mean() > 0.9
    vertices, _ = posed_bodies(fits, SegmentScaledBody(load_body()))
    joints = torch.from_numpy(regressor(load_body(), H36M17)).float() @ vertices
    cameras = stack_cameras(rig())
    seen = cameras.project(torch.from_numpy(recording.joints)[:, None])
    frame = fits["frame"] // 5
    expected = seen[frame, fits["camera"]].float()
    pixels = crop_pixels(joints, fits["crop_from_image"])
    assert (pixels - expected).norm(dim=-1).mean() < 12.0
    truth = cameras.camera_from_world(torch.from_numpy(recording.joints)[:, None])[frame, fits["camera"]].float()
    aligned = fit_similarity(joints, truth).apply(joints)
    assert (aligned - truth).norm(dim=-1).mean() < 0.03


def test_without_3d_joints_views_are_triangulated(recording: Recording, tmp_path: Path) -> None:
    lonely = tmp_path / "data" / "small.h5"
    lonely.parent.mkdir()
    lonely.write_bytes(recording.dataset.read_bytes())
    fits = fitted(register(Register(dataset=lonely, iters=100)).outputs[0])
    joints = (
        torch.from_numpy(regressor(load_body(), H36M17)).float()
        @ posed_bodies(fits, SegmentScaledBody(load_body())).points
    )
    assert mean_error(joints, recording.joints) < 0.02


def test_poor_bodies_are_kept_and_flagged(tmp_path: Path) -> None:
    def drop(keypoints: np.ndarray, joints: np.ndarray) -> None:
        keypoints[2, :, :, 2] = 0.0
        joints[2] = np.nan
        keypoints[3, 1] = np.nan
        joints[3, 4:9] = np.nan

    damaged = make_recording(tmp_path, drop=drop)
    damaged.dense.unlink()
    report = register(Register(dataset=damaged.dataset, iters=60))
    fits = fitted(report.outputs[0])
    assert fits["ok"].tolist() == [True, True, False, True, True, True]
    assert fits["reason"][2] == "too few labels" and report.counts["not ok: too few labels"] == 1
    assert all(np.isfinite(fits[name]).all() for name in ("pose", "translation", "losses", "residual_px"))
    assert report.notes


def test_strides_and_dry_runs(recording: Recording, tmp_path: Path) -> None:
    config = Register(dataset=recording.dataset, output=tmp_path / "fits.h5", iters=2, stride=2, dry_run=True)
    assert "3 bodies" in register(config).notes[0]
    assert not (tmp_path / "fits.h5").exists()
    register(config.model_copy(update={"dry_run": False}))
    assert fitted(tmp_path / "fits.h5")["frame"].tolist() == [0, 10, 20]


def test_correspondences_may_name_sequences_and_cameras(recording: Recording, tmp_path: Path) -> None:
    with Artifact(recording.dense) as dense:
        plain = dense.table("samples")
        ragged = {name: dense.read_ragged("samples", name) for name in ("pixels", "vertices", "weights")}
    facts = {
        "sequence_names": ["S9/Other", "S1/Walking"],
        "camera_names": [f"cam{i}" for i in (3, 2, 1, 0)],
        "camera_sessions": [""] * 4,
    }
    renumbered = plain | {"sequence": plain["sequence"] + 1, "camera": 3 - plain["camera"]}
    with ArtifactWriter(tmp_path / "named.h5", Header("correspondences", "test", facts=facts)) as writer:
        writer.append("samples", renumbered | ragged)
    fits = []
    for name, path in (("rows", recording.dense), ("names", tmp_path / "named.h5")):
        config = Register(dataset=recording.dataset, dense=path, output=tmp_path / f"{name}.fits.h5", iters=3)
        fits.append(fitted(register(config).outputs[0]))
    np.testing.assert_array_equal(fits[0]["pose"], fits[1]["pose"])
    assert (fits[0]["losses"][:, 0] > 0).all()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"sequence_names": ["elsewhere"], "camera_names": ["none"]}, "no correspondence"),
        ({"body_digest": "0" * 64, "sequence_names": ["walk"], "camera_names": ["c0"]}, "another body"),
    ],
)
def test_correspondences_of_other_data_or_bodies_are_refused(
    recording: Recording, tmp_path: Path, facts: dict[str, Any], said: str
) -> None:
    with Artifact(recording.dense) as dense:
        rows = dense.table("samples") | {
            name: dense.read_ragged("samples", name) for name in ("pixels", "vertices", "weights")
        }
    with ArtifactWriter(tmp_path / "foreign.h5", Header("correspondences", "test", facts=facts)) as writer:
        writer.append("samples", rows)
    with pytest.raises(InputError, match=said):
        register(Register(dataset=recording.dataset, dense=tmp_path / "foreign.h5", output=tmp_path / "f.h5", iters=3))


def test_a_shard_that_is_there_is_not_made_again(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_SHARD_ROWS", 2)
    config = Register(dataset=recording.dataset, output=tmp_path / "fits.h5", iters=3, shape="per-frame")
    made: list[int] = []
    columns = stage.BodyFitter.columns

    def failing(self: Any, bodies: Any, *rest: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(len(bodies))
        return columns(self, bodies, *rest)

    monkeypatch.setattr(stage.BodyFitter, "columns", failing)
    with pytest.raises(KeyboardInterrupt):
        register(config)
    assert not (tmp_path / "fits.h5").exists()
    monkeypatch.setattr(stage.BodyFitter, "columns", columns)
    counted: list[int] = []

    def counting(self: Any, bodies: Any, *rest: Any) -> Any:
        counted.append(len(bodies))
        return columns(self, bodies, *rest)

    monkeypatch.setattr(stage.BodyFitter, "columns", counting)
    register(config)
    assert counted == [2]
    assert fitted(tmp_path / "fits.h5")["frame"].tolist() == (5 * np.arange(FRAMES)).tolist()


@pytest.mark.slow
def test_a_killed_run_is_taken_up(recording: Recording, tmp_path: Path) -> None:
    output = tmp_path / "fits.h5"
    code = (
        "import sys; from pathlib import Path; import torch; torch.set_num_threads(1);"
        "from posekit.config.labels import Register; from posekit.stages import register as s; s._SHARD_ROWS = 1;"
        f"s.register(Register(dataset=Path({str(recording.dataset)!r}), output=Path({str(output)!r}), iters=60,"
        "shape='per-frame'))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    parts = output.with_name("fits.h5.parts")
    while not list(parts.glob("0*.h5")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not output.exists() and list(parts.glob("0*.h5"))
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(fitted(output)["ok"]) == FRAMES and not parts.exists()


def test_wrong_input_is_refused(recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        register(Register(dataset=tmp_path / "none.h5"))
    with pytest.raises(ArtifactError, match="wrong kind"):
        register(Register(dataset=recording.joints3d))
    with pytest.raises(ConfigError, match="one view"):
        register(Register(dataset=recording.dataset, camera="weak", views="joint"))
    (tmp_path / "data").mkdir()
    other = make_recording(tmp_path / "other", frames=2)
    with pytest.raises(InputError, match="was not made from"):
        register(Register(dataset=other.dataset, joints3d=recording.joints3d))
    half = tmp_path / "data" / "half.h5"
    half.write_bytes(recording.dataset.read_bytes()[:20_000])
    with pytest.raises(ArtifactError):
        register(Register(dataset=half))


def test_unposed_cameras(tmp_path: Path) -> None:
    unposed = make_recording(tmp_path, frames=2, posed=False)
    with pytest.raises(DataError, match="posed"):
        unposed.joints3d.rename(tmp_path / "away.h5")
        register(Register(dataset=unposed.dataset, camera="perspective"))
    weak = register(Register(dataset=unposed.dataset, iters=2, output=tmp_path / "weak.h5"))
    with Artifact(weak.outputs[0]) as fits:
        assert fits.header.facts["camera"] == "weak"
    # Joints that were triangulated from intrinsics alone bring the cameras' poses with them.
    joint = register(
        Register(dataset=unposed.dataset, joints3d=tmp_path / "away.h5", iters=2, output=tmp_path / "joint.h5")
    )
    with Artifact(joint.outputs[0]) as fits:
        assert fits.header.facts["camera"] == "perspective" and fits.read("cameras", "posed").all()


def test_plain_h5py_reads_the_result(recording: Recording, tmp_path: Path) -> None:
    register(Register(dataset=recording.dataset, output=tmp_path / "fits.h5", iters=2))
    with h5py.File(tmp_path / "fits.h5") as file:
        assert file["fits/pose"].shape == (FRAMES, 24, 3)


def make_lifter(folder: Path, seed: int = 0) -> Path:
    """A run of a lifter that has learned nothing."""
    generator = DepthGenerator(len(COMMON14), 8, generator=torch.Generator().manual_seed(seed))
    folder.mkdir(parents=True)
    save_file({f"generator.{name}": v for name, v in generator.state_dict().items()}, folder / "model.safetensors")
    config = {
        "stage": "train lifter",
        "settings": {"joints": "common14", "width": 8},
        "weights_digest": f"lifter {seed}",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def losses_of(path: Path) -> dict[str, np.ndarray]:
    with Artifact(path, FITS) as fits:
        return dict(zip(fits.header.facts["loss_names"], fits.read("fits", "losses").T, strict=True))


def test_a_lifter_gives_depths_and_makes_fits_weak(recording: Recording, tmp_path: Path) -> None:
    lifter = make_lifter(tmp_path / "lifter")
    config = Register(dataset=recording.dataset, lifter=lifter, output=tmp_path / "fits.h5", iters=3)
    assert register(config).outputs == [tmp_path / "fits.h5"]
    with Artifact(tmp_path / "fits.h5", FITS) as fits:
        assert fits.header.facts["camera"] == "weak" and fits.rows("fits") == 4 * FRAMES
        assert fits.header.inputs["lifter"] == "lifter 0" and "joints3d" not in fits.header.inputs
    losses = losses_of(tmp_path / "fits.h5")
    assert (losses["depth"] > 0).all() and (losses["joints3d"] == 0).all()
    assert register(config).skipped
    other = config.model_copy(update={"lifter": make_lifter(tmp_path / "other", seed=1)})
    assert not register(other).skipped


@pytest.mark.parametrize(
    ("depths", "with_joints", "with_lifter", "role"),
    [
        ("auto", True, True, "joints3d"),
        ("auto", False, True, "lifter"),
        ("auto", False, False, None),
        ("lifter", True, True, "lifter"),
        ("joints3d", True, True, "joints3d"),
        ("none", True, True, None),
    ],
)
def test_where_depths_come_from(
    recording: Recording, tmp_path: Path, depths: str, with_joints: bool, with_lifter: bool, role: str | None
) -> None:
    for source in (recording.dataset, *([recording.joints3d] if with_joints else [])):
        place = tmp_path / source.parent.name / source.name
        place.parent.mkdir()
        place.write_bytes(source.read_bytes())
    if with_lifter:
        make_lifter(tmp_path / "runs" / "lifter")
    config = Register(
        dataset=tmp_path / "data" / "small.h5", camera="weak", depths=depths, iters=1, shape="per-frame", stride=6
    )
    path = register(config).outputs[0]
    with Artifact(path, FITS) as fits:
        assert set(fits.header.inputs) == {"dataset", "body", *([role] if role else [])}
    assert bool((losses_of(path)["depth"] > 0).any()) is bool(role)


def test_a_lifter_that_is_still_in_training_is_not_taken_unasked(recording: Recording, tmp_path: Path) -> None:
    data = tmp_path / "data" / "small.h5"
    data.parent.mkdir()
    data.write_bytes(recording.dataset.read_bytes())
    run = make_lifter(tmp_path / "runs" / "lifter")
    (run / "model.safetensors").unlink()
    config = Register(dataset=data, camera="weak", iters=1, stride=6)
    with Artifact(register(config).outputs[0]) as fits:
        assert "lifter" not in fits.header.inputs
    with pytest.raises(MissingFileError, match="lifter"):
        register(config.model_copy(update={"depths": "lifter"}))


def test_lifters_that_cannot_be_used_are_refused(recording: Recording, tmp_path: Path) -> None:
    lifter = make_lifter(tmp_path / "lifter")
    config = Register(dataset=recording.dataset, output=tmp_path / "fits.h5", iters=1)
    for changes, said in (
        ({"lifter": lifter, "camera": "perspective"}, "weak perspective only"),
        ({"lifter": lifter, "depths": "none"}, "exclude each other"),
        ({"lifter": lifter, "joints3d": recording.joints3d}, "from --lifter and from --joints3d"),
        ({"depths": "lifter"}, "no lifter"),
    ):
        with pytest.raises(ConfigError, match=said):
            register(config.model_copy(update=changes))
    with pytest.raises(MissingFileError):
        register(config.model_copy(update={"lifter": tmp_path / "nothing"}))
    (lifter / "config.json").write_text('{"stage": "train regressor"}', encoding="utf-8")
    with pytest.raises(FormatError, match="no run of a lifter"):
        register(config.model_copy(update={"lifter": lifter}))


WEAK = {"camera": "weak", "shape": "per-frame", "fit_betas": False, "robust_px": 0.0}


def test_a_start_takes_few_iterations(recording: Recording, tmp_path: Path) -> None:
    first = Register(dataset=recording.dataset, output=tmp_path / "first.h5", iters=150, **WEAK)
    register(first)
    warm = Register(
        dataset=recording.dataset,
        output=tmp_path / "warm.h5",
        start=tmp_path / "first.h5",
        iters=5,
        lr_warm=0.01,
        **WEAK,
    )
    cold = Register(dataset=recording.dataset, output=tmp_path / "cold.h5", iters=5, **WEAK)
    report = register(warm)
    assert report.counts["without start"] == 0
    register(cold)
    residuals = [fitted(tmp_path / f"{name}.h5")["residual_px"].mean() for name in ("first", "warm", "cold")]
    assert residuals[1] < 2 * residuals[0] and residuals[2] > 4 * residuals[1]
    with Artifact(tmp_path / "warm.h5") as fits, Artifact(tmp_path / "first.h5") as start:
        assert fits.header.inputs["start"] == start.digest
    # The camera is that of the start when nothing is said.
    unsaid = register(warm.model_copy(update={"camera": "auto", "output": tmp_path / "auto.h5"}))
    assert len(fitted(unsaid.outputs[0])["ok"]) == 4 * FRAMES


def test_bodies_without_start_begin_from_a_t_pose(recording: Recording, tmp_path: Path) -> None:
    settings = {**WEAK, "iters": 4, "dataset": recording.dataset}
    register(Register(output=tmp_path / "half.h5", stride=2, **settings))
    cold = register(Register(output=tmp_path / "cold.h5", lr_warm=0.02, **settings))
    report = register(Register(output=tmp_path / "warm.h5", start=tmp_path / "half.h5", lr_warm=0.02, **settings))
    warm, without = fitted(tmp_path / "warm.h5"), fitted(cold.outputs[0])
    started = np.isin(warm["frame"], [0, 10, 20])
    usable = fitted(tmp_path / "half.h5")["ok"]
    assert report.counts["without start"] == 2 * FRAMES + int((~usable).sum()) and "T-pose" in report.notes[-1]
    np.testing.assert_allclose(warm["pose"][~started], without["pose"][~started], atol=1e-4)
    assert (np.abs(warm["pose"] - without["pose"]).max((1, 2))[started] > 1e-3).sum() == usable.sum()


def test_t_poses_may_compete_with_a_start(recording: Recording, tmp_path: Path) -> None:
    register(Register(dataset=recording.dataset, output=tmp_path / "first.h5", iters=40, **WEAK))
    settings = {**WEAK, "dataset": recording.dataset, "start": tmp_path / "first.h5", "iters": 15, "lr_warm": 0.5}
    totals = []
    for name, changes in (("alone", {}), ("against", {"compete": True, "starts": 2})):
        register(Register(output=tmp_path / f"{name}.h5", **settings, **changes))
        losses = losses_of(tmp_path / f"{name}.h5")
        weights = Weights()
        totals.append(sum(getattr(weights, term) * losses[term] for term in losses))
    assert (totals[1] <= totals[0] * 1.01).all() and (totals[1] < 0.9 * totals[0]).any()


def test_starts_that_do_not_fit_are_refused(recording: Recording, tmp_path: Path) -> None:
    register(Register(dataset=recording.dataset, output=tmp_path / "weak.h5", iters=1, **WEAK))
    config = Register(dataset=recording.dataset, output=tmp_path / "fits.h5", start=tmp_path / "weak.h5", iters=1)
    with pytest.raises(ConfigError, match="another --camera"):
        register(config.model_copy(update={"camera": "perspective"}))
    other = make_recording(tmp_path / "other", frames=2)
    with pytest.raises(InputError, match="was not made from"):
        register(config.model_copy(update={"dataset": other.dataset}))
    with pytest.raises(ArtifactError, match="wrong kind"):
        register(config.model_copy(update={"start": recording.dense}))
    with pytest.raises(MissingFileError):
        register(config.model_copy(update={"start": tmp_path / "none.h5"}))
    with Artifact(tmp_path / "weak.h5") as weak:
        table, header = weak.table("fits"), weak.header
    with ArtifactWriter(tmp_path / "foreign.h5", replace(header, facts=header.facts | {"body": "0" * 64})) as writer:
        writer.append("fits", table)
    with pytest.raises(InputError, match="another body"):
        register(config.model_copy(update={"start": tmp_path / "foreign.h5"}))


def test_all_shared_key_points_may_be_required(tmp_path: Path) -> None:
    def drop(keypoints: np.ndarray, joints: np.ndarray) -> None:
        keypoints[1, 2, H36M17.index("left_wrist")] = np.nan
        keypoints[0, 1, H36M17.index("jaw")] = np.nan

    damaged = make_recording(tmp_path, frames=2, drop=drop)
    config = Register(dataset=damaged.dataset, iters=1, output=tmp_path / "fits.h5", **WEAK)
    for require, expected in (("either", 0), ("both", 1)):
        register(config.model_copy(update={"require": require}))
        fits = fitted(tmp_path / "fits.h5")
        few = fits["reason"] == "too few labels"
        assert few.sum() == expected
    assert (fits["frame"][few], fits["camera"][few]) == (5, 2)
    register(config.model_copy(update={"require": "both", "min_parts": 24}))
    assert (fitted(tmp_path / "fits.h5")["reason"] == "too few labels").all()


def test_at_most_so_many_correspondences_are_used(recording: Recording, tmp_path: Path) -> None:
    config = Register(dataset=recording.dataset, iters=1, min_points=20, min_joints=99, min_parts=0, **WEAK)
    for count, enough in ((19, False), (20, True)):
        register(config.model_copy(update={"max_points": count, "output": tmp_path / "fits.h5"}))
        assert (fitted(tmp_path / "fits.h5")["reason"] != "too few labels").all() == enough


def test_two_processes_write_what_one_does(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifter = make_lifter(tmp_path / "lifter")
    settings = {"iters": 3, "shape": "per-person", "noise_px": 1.0}

    def start(rank: int, port: int) -> subprocess.Popen[bytes]:
        code = (
            "from pathlib import Path; from posekit.config.labels import Register;"
            "from posekit.stages import register as s; s._SHARD_ROWS = 7;"
            f"s.register(Register(dataset=Path({str(recording.dataset)!r}), output=Path({str(tmp_path / 'two.h5')!r}),"
            f"lifter=Path({str(lifter)!r}), **{settings}))"
        )
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", code], env=os.environ | place | address)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(rank, port) for rank in range(2)]
    monkeypatch.setattr(stage, "_SHARD_ROWS", 7)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    register(Register(dataset=recording.dataset, output=tmp_path / "one.h5", lifter=lifter, **settings))
    torch.set_num_threads(threads)
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    with Artifact(tmp_path / "one.h5") as one, Artifact(tmp_path / "two.h5") as two:
        assert one.digest == two.digest and one.rows("fits") == 4 * FRAMES
    assert not (tmp_path / "two.h5.parts").exists()
