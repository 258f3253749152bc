"""Surface labels from fitted bodies, on a small recording whose truth is known."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import CORRESPONDENCES, FITS
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.camera_stack import stack_cameras
from posekit.config.labels import Register
from posekit.config.pseudo_labels import PseudoLabelSurface
from posekit.errors import ConfigError, DataError, InputError, MissingFileError
from posekit.evaluation.keys import Keys, RowIndex
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.records import camera_columns
from posekit.registration.labels import CROP_MARGIN
from posekit.registration.posing import crop_pixels, posed_bodies
from posekit.render.rasterizer import RasterSettings, rasterize
from posekit.render.screen import screen_from_cameras
from posekit.render.topology import MeshTopology
from posekit.stages import pseudo_label_surface as stage
from posekit.stages.pseudo_label_surface import pseudo_label_surface
from posekit.stages.register import register

FRAMES, STEP, PEOPLE, VIEWS = 6, 5, 2, 3
"""Of the recording that `conftest` makes."""
KEY = ("sequence", "frame", "person", "camera")
SAMPLES = 2 * FRAMES * PEOPLE * VIEWS


def labelled(recording: Any, **settings: Any) -> dict[str, Any]:
    """The rows that the stage writes."""
    config = PseudoLabelSurface(dataset=recording.dataset, **{"output": recording.root / "labels" / "x.h5"} | settings)
    report = pseudo_label_surface(config)
    return rows_of(report.outputs[0])


def rows_of(path: Path) -> dict[str, Any]:
    with Artifact(path, CORRESPONDENCES) as labels:
        ragged = {name: labels.read_ragged("samples", name) for name in ("pixels", "vertices", "weights")}
        return labels.table("samples") | ragged


def instant(recording: Any, sequence: int, frame: int, person: int) -> int:
    keys = recording.keys
    same = (keys["sequence"] == sequence) & (keys["frame"] == frame) & (keys["person"] == person)
    return int(np.flatnonzero(same)[0])


def weak_fits(recording: Any) -> dict[str, np.ndarray]:
    """The true bodies as fits of single images: turned to the camera, in crop units."""
    with Artifact(recording.dataset) as dataset:
        samples = dataset.table("samples")
    bodies = [
        instant(recording, *key) for key in zip(*(samples[n] for n in ("sequence", "frame", "person")), strict=True)
    ]
    cameras = [recording.cameras[index] for index in samples["camera"]]
    rotation = np.stack([camera.rotation for camera in cameras])
    shift = np.stack([camera.translation for camera in cameras])
    root = (rotation @ recording.roots[bodies][:, :, None])[..., 0] + shift
    box = samples["bbox"].astype(float)
    side = CROP_MARGIN * (box[:, 2:] - box[:, :2]).max(1)
    crops = np.zeros((len(bodies), 2, 3))
    crops[:, 0, 0] = crops[:, 1, 1] = 2.0 / side
    crops[:, :, 2] = -(box[:, :2] + box[:, 2:]) / side[:, None]
    lenses = stack_cameras(recording.cameras)
    pixels = lenses.project(torch.from_numpy(recording.roots)[:, None, None])[bodies, samples["camera"], 0].numpy()
    focal = np.array([camera.intrinsics[0, 0] for camera in cameras])
    turn = rotation @ matrix_from_axis_angle(torch.from_numpy(recording.pose[bodies, 0])).numpy()
    pose = recording.pose[bodies].copy()
    pose[:, 0] = 0.0
    place = np.pad((crops[:, :, :2] @ pixels[:, :, None])[..., 0] + crops[:, :, 2], ((0, 0), (0, 1)))
    return {
        **{name: samples[name] for name in KEY},
        "pose": pose,
        "segment_scales": np.ones(pose.shape[:2]),
        "betas": recording.betas[bodies],
        "orientation": turn,
        "translation": place,
        "scale": focal / root[:, 2] * 2.0 / side,
        "crop_from_image": crops,
        "losses": np.zeros((len(bodies), 2)),
        "residual_px": np.zeros(len(bodies)),
        "ok": np.ones(len(bodies), bool),
        "reason": np.array([""] * len(bodies)),
    }


def test_labels_lie_on_the_true_bodies_and_are_not_hidden(recording: Any) -> None:
    recording.write_fits()
    rows = labelled(recording, points=40)
    assert len(rows["frame"]) == SAMPLES and all(len(row) == 40 for row in rows["vertices"])
    assert all((row == 1).all() for row in rows["weights"])
    lenses = stack_cameras(recording.cameras)
    topology = MeshTopology.from_faces(torch.from_numpy(load_body().faces))
    distances, behind, on_person = [], [], []
    for place in range(0, SAMPLES, 5):
        sequence, frame, camera = (int(rows[name][place]) for name in ("sequence", "frame", "camera"))
        people = [instant(recording, sequence, frame, person) for person in range(PEOPLE)]
        screen = screen_from_cameras(lenses[camera], torch.from_numpy(recording.vertices[people]))
        drawn = rasterize(screen.float(), topology, (1002, 1000), RasterSettings(cull_backfaces=True)).depth.amin(0)
        pixels, vertices = rows["pixels"][place], rows["vertices"][place]
        true = screen[int(rows["person"][place]), vertices].numpy()
        distances.append(np.linalg.norm(pixels - true[:, :2], axis=1))
        columns, lines = np.rint(pixels).astype(int).T
        nearest = drawn.numpy()[lines, columns]
        on_person.append(np.isfinite(nearest))
        behind.append((true[:, 2] - nearest)[np.isfinite(nearest)])
    assert np.concatenate(distances).max() < 4.0  # the body of the fits has no pose correctives
    assert np.concatenate(on_person).mean() > 0.96  # vertices of the outline round away
    assert (np.concatenate(behind) < 0.02).mean() > 0.98


def test_people_hide_each_other(recording: Any) -> None:
    recording.write_fits()
    lone = np.array([person == 0 for person in recording.keys["person"]])
    both = labelled(recording, points=10**6)
    recording.write_fits(ok=lone, reason=np.where(lone, "", "made up"))
    alone = labelled(recording, points=10**6)
    first = both["person"] == 0
    beside = [row for row, mine in zip(both["vertices"], first, strict=True) if mine]
    assert all(set(row) <= set(lonely) for row, lonely in zip(beside, alone["vertices"], strict=True))
    assert sum(map(len, beside)) < sum(map(len, alone["vertices"]))


def test_weak_perspective_fits_give_the_same_places(recording: Any) -> None:
    recording.write_fits()
    joint, fits = labelled(recording, points=10**6), weak_fits(recording)
    with ArtifactWriter(recording.root / "fits" / "weak.h5", header_of(recording)) as writer:
        writer.append("cameras", camera_columns(recording.cameras))
        writer.append("fits", fits)
    weak = labelled(recording, points=10**6, fits=recording.root / "fits" / "weak.h5", output=recording.root / "w.h5")
    assert (weak["camera"] == joint["camera"]).all()
    for place in range(0, SAMPLES, 7):
        shared, one, other = np.intersect1d(
            joint["vertices"][place], weak["vertices"][place], assume_unique=True, return_indices=True
        )
        assert len(shared) > 0.7 * len(joint["vertices"][place])
        apart = np.linalg.norm(joint["pixels"][place][one] - weak["pixels"][place][other], axis=1)
        assert apart.mean() < 20.0  # what perspective does to a body of 300 px that is 0.6 m deep
    exact = crop_pixels(posed_bodies(fits, SegmentScaledBody(load_body())).points, fits["crop_from_image"]).numpy()
    with Artifact(recording.dataset) as dataset:
        found = RowIndex(Keys.read(dataset, "samples")).find(Keys(*(weak[name] for name in KEY)))
    for place, row in enumerate(found):
        np.testing.assert_allclose(weak["pixels"][place], exact[row, weak["vertices"][place]], atol=1e-2)


def header_of(recording: Any, **facts: str) -> Header:
    with Artifact(recording.dataset) as dataset:
        return Header("fits", "test", inputs={"dataset": dataset.digest}, facts=facts)


def test_single_views_are_registered_to_the_labels(recording: Any) -> None:
    recording.write_fits()
    pseudo_label_surface(PseudoLabelSurface(dataset=recording.dataset))
    config = Register(
        dataset=recording.dataset,
        output=recording.root / "fits" / "single.h5",
        camera="weak",
        depths="none",
        start=None,
        stride=3,
        iters=60,
        shape="per-frame",
    )
    register(config)
    with Artifact(recording.root / "fits" / "single.h5", FITS) as fits:
        dense = fits.read("fits", "losses")[:, fits.header.facts["loss_names"].index("dense")]
        assert (dense > 0).all()
        assert np.median(fits.read("fits", "residual_px")) < 6.0
        with Artifact(recording.root / "labels" / "toy.dense.h5") as labels:
            assert fits.header.inputs["dense"] == labels.digest


def test_results_are_current_repeatable_and_depend_on_the_seed(recording: Any) -> None:
    recording.write_fits()
    config = PseudoLabelSurface(dataset=recording.dataset, points=20)
    first = pseudo_label_surface(config)
    assert first.outputs == [recording.root / "labels" / "toy.dense.h5"] and not first.skipped
    again = pseudo_label_surface(config)
    assert again.skipped and again.counts == first.counts
    with Artifact(first.outputs[0]) as labels:
        digest = labels.digest
        assert labels.header.facts["body_digest"] == load_body().digest
        assert set(labels.header.inputs) == {"dataset", "fits", "body"}
    assert not pseudo_label_surface(config.model_copy(update={"force": True})).skipped
    with Artifact(first.outputs[0]) as labels:
        assert labels.digest == digest
    # Another seed chooses other vertices: not the same work.
    assert not pseudo_label_surface(config.model_copy(update={"seed": 1})).skipped
    with Artifact(first.outputs[0]) as labels:
        assert labels.digest != digest


def test_a_sample_has_its_own_random_numbers(recording: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recording.write_fits()
    whole = labelled(recording, points=20)
    monkeypatch.setattr(stage, "_SHARD_ROWS", 7)
    cut = labelled(recording, points=20, output=recording.root / "cut.h5")
    same = [np.array_equal(a, b) for a, b in zip(whole["vertices"], cut["vertices"], strict=True)]
    assert np.mean(same) > 0.95  # bodies posed in another company round differently
    assert len({row.tobytes() for row in whole["vertices"]}) == SAMPLES


def test_a_shard_that_is_there_is_not_made_again(recording: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recording.write_fits()
    monkeypatch.setattr(stage, "_SHARD_ROWS", 30)
    config = PseudoLabelSurface(dataset=recording.dataset, points=5)
    labels, made = stage._labels, []

    def failing(settings: Any, block: Any, *rest: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(len(block))
        return labels(settings, block, *rest)

    monkeypatch.setattr(stage, "_labels", failing)
    with pytest.raises(KeyboardInterrupt):
        pseudo_label_surface(config)
    assert not (recording.root / "labels" / "toy.dense.h5").exists()
    made.clear()
    pseudo_label_surface(config)
    assert made == [SAMPLES - 60]


@pytest.mark.slow
def test_two_processes_share_the_work(recording: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recording.write_fits()
    outputs = [recording.root / name for name in ("one.h5", "two.h5")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "from pathlib import Path; from posekit.config.pseudo_labels import PseudoLabelSurface;"
        "from posekit.stages import pseudo_label_surface as s; s._SHARD_ROWS = 7;"
        f"s.pseudo_label_surface(PseudoLabelSurface(dataset=Path({str(recording.dataset)!r}),"
        f"output=Path({str(outputs[1])!r}), points=20))"
    )
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"} for rank in range(2)]
    processes = [subprocess.Popen([sys.executable, "-c", code], env=os.environ | address | place) for place in places]
    monkeypatch.setattr(stage, "_SHARD_ROWS", 7)
    labelled(recording, points=20, output=outputs[0])
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    with Artifact(outputs[0]) as one, Artifact(outputs[1]) as two:
        assert one.digest == two.digest


def test_what_is_left_out_is_counted(recording: Any) -> None:
    bodies = len(recording.joints)
    residual, ok = np.zeros(bodies), np.ones(bodies, bool)
    residual[:4], ok[4:6] = 9.0, False
    recording.write_fits(residual_px=residual, ok=ok, reason=np.where(ok, "", "too few labels"))
    config = PseudoLabelSurface(dataset=recording.dataset, points=5, max_residual_px=8.0)
    planned = pseudo_label_surface(config.model_copy(update={"dry_run": True}))
    assert not planned.outputs and not (recording.root / "labels").exists()
    report = pseudo_label_surface(config)
    assert report.counts["samples"] == VIEWS * (bodies - 6)
    assert report.counts["left out: residual above 8 px"] == 4 * VIEWS
    assert report.counts["left out: prediction marked as not usable: too few labels"] == 2 * VIEWS
    frames = rows_of(report.outputs[0])
    assert not ((frames["sequence"] == 0) & (frames["frame"] < 2 * STEP)).any()
    assert pseudo_label_surface(config).counts == report.counts
    everything = pseudo_label_surface(config.model_copy(update={"max_residual_px": None}))
    assert everything.counts["samples"] == VIEWS * (bodies - 2)


def test_people_out_of_the_picture_have_no_points(recording: Any) -> None:
    away = recording.roots.copy()
    away[0] += [0.0, 0.0, 30.0]
    recording.write_fits(translation=away)
    report = pseudo_label_surface(PseudoLabelSurface(dataset=recording.dataset, points=5))
    assert report.counts["samples"] == SAMPLES and report.counts["without a visible vertex"] == VIEWS
    assert any("no vertex" in note for note in report.notes)


def test_wrong_input_is_refused(recording: Any) -> None:
    config = PseudoLabelSurface(dataset=recording.dataset)
    with pytest.raises(MissingFileError):
        pseudo_label_surface(config)
    recording.write_fits(facts={"body": "0" * 64})
    with pytest.raises(InputError, match="another body"):
        pseudo_label_surface(config)
    recording.write_fits(ok=np.zeros(len(recording.joints), bool))
    with pytest.raises(DataError, match="usable fit"):
        pseudo_label_surface(config)
    recording.write_fits()
    recording.write_dataset(seed=1)
    with pytest.raises(InputError, match="was not made from"):
        pseudo_label_surface(config)


def test_labels_of_others_are_not_written_over(recording: Any) -> None:
    recording.write_fits()
    path = recording.root / "labels" / "toy.dense.h5"
    with ArtifactWriter(path, Header("correspondences", "annotated")):
        pass
    config = PseudoLabelSurface(dataset=recording.dataset, points=5)
    with pytest.raises(ConfigError, match="not made by this stage"):
        pseudo_label_surface(config)
    assert pseudo_label_surface(config.model_copy(update={"force": True})).counts["samples"] == SAMPLES
