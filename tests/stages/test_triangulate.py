"""The stage `triangulate` on small data sets made here."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import JOINTS3D
from posekit.artifacts.writing import ArtifactWriter
from posekit.camera_stack import stack_cameras
from posekit.config.labels import Triangulate
from posekit.errors import DataError, InputError
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.records import Camera, Clip, camera_columns, cameras_from_columns, clip_columns
from posekit.skeleton.catalog import COCO17
from posekit.stages.triangulate import triangulate

FRAMES = 80
REST = {
    "shoulder": (0.17, 0.0, 0.45),
    "elbow": (0.4489, 0.0, 0.45),
    "wrist": (0.7006, 0.0, 0.45),
    "hip": (0.1329, 0.0, 0.0),
    "knee": (0.1329, 0.0, -0.4429),
    "ankle": (0.1329, 0.0, -0.8971),
    "eye": (0.03, 0.1, 0.7),
    "ear": (0.07, 0.0, 0.68),
}


def make_cameras(session=""):
    cameras = []
    for k in range(4):
        angle = 2 * math.pi * (k + 0.5) / 4
        centre = np.array([4.5 * math.cos(angle), 4.5 * math.sin(angle), 1.5])
        forward = np.array([0.0, 0.0, 0.9]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        K = np.array([[1100.0, 0.0, 500.0], [0.0, 1100.0, 500.0], [0.0, 0.0, 1.0]])
        lens = (-0.2, 0.1, 0.001, -0.001)
        cameras.append(Camera(f"c{k}", 1000, 1000, K, "opencv", lens, rotation, -rotation @ centre, session=session))
    return cameras


def make_joints(seed=0):
    """A person of canonical size with arms spread, who turns, bends and walks about; (T, J, 3), z up."""
    generator = torch.Generator().manual_seed(seed)
    rest = np.zeros((17, 3))
    rest[0] = 0.0, 0.13, 0.66
    for name, (x, y, z) in REST.items():
        rest[COCO17.index(f"left_{name}")] = x, y, z
        rest[COCO17.index(f"right_{name}")] = -x, y, z
    time = torch.linspace(0, 1, FRAMES, dtype=torch.float64)[:, None]
    phase = 6 * torch.rand(6, generator=generator, dtype=torch.float64)
    waves = torch.sin(2 * math.pi * torch.tensor([2.0, 3.0, 1.0, 1.5, 2.5, 2.0]) * time + phase)
    turn = matrix_from_axis_angle(waves[:, :3] * torch.tensor([0.6, 0.6, 3.0])).numpy()
    path = (waves[:, 3:] * torch.tensor([0.9, 0.9, 0.15])).numpy() + np.array([0.0, 0.0, 0.95])
    return np.einsum("tij,kj->tki", turn, rest) + path[:, None]


def write_dataset(path, people, cameras, *, edit=None):
    """People: (sequence, person) -> joints (T, J, 3); `edit(keypoints, sequence, person)` may spoil (T, C, J, 3)."""
    header = Header("dataset", "preprocess", skeleton=COCO17)
    sequences = sorted({sequence for sequence, _ in people})
    with ArtifactWriter(path, header) as writer:
        writer.append("cameras", camera_columns(cameras))
        writer.append("sequences", clip_columns([Clip(f"take {s}", 50.0, subject="S1") for s in sequences]))
        for (sequence, person), joints in people.items():
            own = range(len(cameras))
            seen = stack_cameras(cameras).project(torch.from_numpy(joints.reshape(-1, 3))).numpy()
            keypoints = np.ones((len(joints), len(own), 17, 3))
            keypoints[..., :2] = seen.reshape(len(own), len(joints), 17, 2).transpose(1, 0, 2, 3)
            if edit is not None:
                keypoints = edit(keypoints, sequence, person)
            for c in reversed(own):
                there = np.flatnonzero((keypoints[:, c, :, 2] > 0).any(axis=1))
                writer.append(
                    "samples",
                    {
                        "sequence": np.full(len(there), sequence),
                        "frame": there,
                        "person": np.full(len(there), person),
                        "camera": np.full(len(there), c),
                        "bbox": np.zeros((len(there), 4)),
                        "keypoints2d": keypoints[there, c],
                    },
                )
    return path


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "data" / "take.h5", {(0, 0): make_joints()}, make_cameras())


def read_joints(report):
    with Artifact(report.outputs[0], JOINTS3D) as artifact:
        artifact.verify()
        return artifact.table("poses"), cameras_from_columns(artifact.table("cameras")), artifact.table("quality")


def test_known_cameras_give_the_truth(dataset):
    report = triangulate(Triangulate(dataset=dataset))
    assert report.outputs[0] == dataset.parent.parent / "labels" / "take.joints3d.h5"
    poses, cameras, quality = read_joints(report)
    assert np.abs(poses["joints3d"] - make_joints()).max() < 1e-4
    assert poses["ok"].all() and (poses["views"] == 15).all() and np.allclose(poses["confidence"], 1)
    assert poses["frame"].tolist() == list(range(FRAMES))
    assert np.allclose(cameras[2].rotation, make_cameras()[2].rotation)
    assert quality["points"].tolist() == [FRAMES * 17] * 4 and (quality["median_px"] < 0.1).all()
    assert report.metrics["joints_ok_percent"] == 100.0
    assert report.metrics["bone_spread_percent"] < 0.01
    assert report.metrics["reprojection_mean_px_c0"] < 0.1


def test_intrinsics_alone_give_the_same_person_at_canonical_size(dataset, tmp_path):
    report = triangulate(Triangulate(dataset=dataset, cameras="intrinsics", output=tmp_path / "out.h5"))
    poses, cameras, _ = read_joints(report)
    first = make_cameras()[0]
    expected = make_joints() @ first.rotation.T + first.translation
    assert np.abs(poses["joints3d"] - expected).max() < 2e-3
    assert np.allclose(cameras[0].rotation, np.eye(3)) and cameras[3].posed
    assert report.metrics["agreement_mean_mm"] < 0.1
    with Artifact(report.outputs[0]) as artifact:
        pairs = artifact.table("pairs")
        baseline = np.linalg.norm(cameras[pairs["second"][0]].rotation.T @ cameras[pairs["second"][0]].translation)
        assert len(pairs["first"]) == 6 and pairs["ok"].all()
        assert np.isclose(pairs["scale"][0], baseline)


def test_poses_of_cameras_are_not_used_when_only_intrinsics_are_asked_for(tmp_path):
    blind = [replace(camera, rotation=np.eye(3), translation=np.zeros(3), posed=False) for camera in make_cameras()]
    people = {(0, 0): make_joints()}
    path = write_dataset(tmp_path / "posed.h5", people, make_cameras())
    with Artifact(path) as posed:
        header, samples = posed.header, posed.table("samples")
    with ArtifactWriter(tmp_path / "blind.h5", header) as writer:
        writer.append("cameras", camera_columns(blind))
        writer.append("sequences", clip_columns([Clip("take", 50.0)]))
        writer.append("samples", samples)
    results = [
        triangulate(Triangulate(dataset=p, cameras="intrinsics", output=tmp_path / f"{p.stem}.out.h5"))
        for p in (path, tmp_path / "blind.h5")
    ]
    tables = [read_joints(report)[0]["joints3d"] for report in results]
    assert np.array_equal(*tables)
    assert "agreement_mean_mm" not in results[1].metrics
    with pytest.raises(InputError, match=r"poses.*not known.*c0.*intrinsics"):
        triangulate(Triangulate(dataset=tmp_path / "blind.h5", output=tmp_path / "x.h5"))


def test_a_rerun_is_skipped_with_the_same_figures_and_a_changed_setting_is_not(dataset):
    first = triangulate(Triangulate(dataset=dataset))
    written = first.outputs[0].stat().st_mtime_ns
    again = triangulate(Triangulate(dataset=dataset))
    assert again.skipped and not first.skipped
    assert again.metrics == dict(first.metrics) and again.counts == dict(first.counts)
    assert again.outputs[0].stat().st_mtime_ns == written
    assert not triangulate(Triangulate(dataset=dataset, max_error_px=10)).skipped
    assert not triangulate(Triangulate(dataset=dataset, max_error_px=10, force=True)).skipped


def test_dry_run_writes_nothing(dataset):
    report = triangulate(Triangulate(dataset=dataset, dry_run=True))
    assert not report.outputs and "80 frames" in report.notes[0]
    assert not (dataset.parent.parent / "labels").exists()


def test_noise_is_the_same_for_the_same_seed(dataset, tmp_path):
    tables = [
        read_joints(triangulate(Triangulate(dataset=dataset, noise_px=2.0, seed=seed, output=tmp_path / f"{n}.h5")))[0]
        for n, seed in enumerate((1, 1, 2))
    ]
    assert np.array_equal(tables[0]["joints3d"], tables[1]["joints3d"])
    assert not np.array_equal(tables[0]["joints3d"], tables[2]["joints3d"])
    error = np.linalg.norm(tables[0]["joints3d"] - make_joints(), axis=-1)
    assert 0.002 < error.mean() < 0.012


def test_people_sequences_and_views_keep_apart(tmp_path):
    people = {(0, 0): make_joints(0), (0, 1): make_joints(1), (1, 0): make_joints(2)}

    def hide(keypoints, sequence, person):
        if (sequence, person) == (0, 1):
            keypoints[:, 2] = 0.0  # never seen by the third camera
            keypoints[:10, :3] = 0.0  # ten frames by the fourth alone
        return keypoints

    path = write_dataset(tmp_path / "data.h5", people, make_cameras(), edit=hide)
    report = triangulate(Triangulate(dataset=path, output=tmp_path / "out.h5"))
    poses, *_ = read_joints(report)
    for (sequence, person), joints in people.items():
        own = (poses["sequence"] == sequence) & (poses["person"] == person)
        assert own.sum() == FRAMES
        start = 10 if (sequence, person) == (0, 1) else 0
        assert np.abs(poses["joints3d"][own][start:] - joints[start:]).max() < 1e-4
        assert np.isnan(poses["joints3d"][own][:start]).all() and not poses["ok"][own][:start].any()
    assert report.counts["frames not ok: seen by one camera only"] == 10
    assert set(poses["views"][(poses["sequence"] == 0) & (poses["person"] == 1)].ravel()) == {0, 0b1011}


def test_outliers_are_rejected_and_counted(tmp_path):
    def spoil(keypoints, sequence, person):
        keypoints[5:25, 1, :, 0] += 120.0
        return keypoints

    path = write_dataset(tmp_path / "data.h5", {(0, 0): make_joints()}, make_cameras(), edit=spoil)
    poses, _, quality = read_joints(triangulate(Triangulate(dataset=path, output=tmp_path / "out.h5")))
    assert np.abs(poses["joints3d"] - make_joints()).max() < 1e-3
    assert quality["rejected"].tolist() == [0, 20 * 17, 0, 0]
    assert (poses["views"][5:25] == 0b1101).all()


def test_a_person_seen_by_one_camera_only_is_refused(tmp_path):
    def hide(keypoints, sequence, person):
        keypoints[:, 1:] = 0.0
        return keypoints

    path = write_dataset(tmp_path / "data.h5", {(0, 0): make_joints()}, make_cameras(), edit=hide)
    with pytest.raises(DataError, match="nobody is seen by two cameras"):
        triangulate(Triangulate(dataset=path, output=tmp_path / "out.h5"))
    assert not (tmp_path / "out.h5").exists()


def test_views_that_have_nothing_in_common_are_refused(tmp_path):
    def scatter(keypoints, sequence, person):
        keypoints[..., :2] = np.random.default_rng(0).uniform(0, 1000, keypoints[..., :2].shape)
        return keypoints

    path = write_dataset(tmp_path / "data.h5", {(0, 0): make_joints()}, make_cameras(), edit=scatter)
    with pytest.raises(DataError, match="no joint could be triangulated"):
        triangulate(Triangulate(dataset=path, output=tmp_path / "out.h5", max_error_px=1e-4))
    with pytest.raises(DataError, match="no reliable geometry joins"):
        triangulate(Triangulate(dataset=path, output=tmp_path / "out.h5", cameras="intrinsics"))


def test_sessions_are_solved_separately(tmp_path):
    cameras = [*make_cameras("A"), *make_cameras("B")]
    joints = {0: make_joints(0), 1: make_joints(1)}
    header = Header("dataset", "preprocess", skeleton=COCO17)
    with ArtifactWriter(tmp_path / "data.h5", header) as writer:
        writer.append("cameras", camera_columns(cameras))
        writer.append("sequences", clip_columns([Clip("a", 50.0, subject="A"), Clip("b", 50.0, subject="B")]))
        for s in (0, 1):
            seen = stack_cameras(cameras[:4]).project(torch.from_numpy(joints[s].reshape(-1, 3))).reshape(4, -1, 17, 2)
            for c in range(4):
                writer.append(
                    "samples",
                    {
                        "sequence": np.full(FRAMES, s),
                        "frame": np.arange(FRAMES),
                        "person": np.zeros(FRAMES),
                        "camera": np.full(FRAMES, 4 * s + c),
                        "bbox": np.zeros((FRAMES, 4)),
                        "keypoints2d": np.concatenate([seen[c].numpy(), np.ones((FRAMES, 17, 1))], axis=-1),
                    },
                )
    path = tmp_path / "data.h5"
    report = triangulate(Triangulate(dataset=path, cameras="intrinsics", output=tmp_path / "out.h5"))
    assert report.metrics["agreement_mean_mm"] < 0.1
    with Artifact(report.outputs[0]) as artifact:
        assert artifact.read("pairs", "session").tolist() == ["A"] * 6 + ["B"] * 6
        assert artifact.read("pairs", "first").tolist() == [0, 0, 0, 1, 1, 2, 4, 4, 4, 5, 5, 6]


def test_known_baseline_and_stature_set_the_scale(dataset, tmp_path):
    def size(**settings):
        path = tmp_path / "size.h5"
        report = triangulate(Triangulate(dataset=dataset, cameras="intrinsics", output=path, **settings))
        poses, cameras, _ = read_joints(report)
        return np.linalg.norm(cameras[1].rotation.T @ cameras[1].translation), poses["joints3d"]

    baseline, _ = size(baseline=2.5)
    assert np.isclose(baseline, 2.5)
    _, short = size(stature=1.5)
    _, tall = size(stature=1.8)
    assert np.isclose(np.ptp(tall[0, :, 1]) / np.ptp(short[0, :, 1]), 1.2, rtol=1e-3)


def test_mixed_sessions_in_one_sequence_are_refused(tmp_path):
    cameras = [replace(camera, session=f"S{i}") for i, camera in enumerate(make_cameras())]
    path = write_dataset(tmp_path / "data.h5", {(0, 0): make_joints()}, cameras)
    with pytest.raises(InputError, match="mixes cameras of two sessions"):
        triangulate(Triangulate(dataset=path, output=tmp_path / "out.h5"))


def jittered(keypoints, sequence, person):
    keypoints[..., :2] += np.random.default_rng(person).normal(0, 3, keypoints[..., :2].shape)
    keypoints[3, :, 11:13, 2] = 0.0  # no hips
    keypoints[5:7, 1:, :, 2] = 0.0  # one camera alone
    return keypoints


def table_of(report, title):
    (found,) = [table for table in report.tables if table.title.startswith(title)]
    assert all(len(row) == len(found.columns) for row in found.rows)
    return found.columns, {row[0]: row[1:] for row in found.rows}


def test_tables_show_joints_before_and_after_they_are_steadied(tmp_path):
    path = write_dataset(tmp_path / "data.h5", {(0, 0): make_joints()}, make_cameras(), edit=jittered)
    steadied = triangulate(Triangulate(dataset=path, output=tmp_path / "a.h5"))
    raw = triangulate(Triangulate(dataset=path, output=tmp_path / "b.h5", steady=False))
    columns, bones = table_of(steadied, "Spread of bone lengths")
    assert columns == ["bone", "raw (%)", "steadied (%)"]
    raw_columns, raw_bones = table_of(raw, "Spread of bone lengths")
    assert raw_columns == ["bone", "%"]
    assert {name: row[:1] for name, row in bones.items()} == raw_bones
    before, after = (float(value) for value in bones["median over bones"])
    assert before > 2 * after
    metrics = steadied.metrics
    assert before == round(metrics["bone_spread_before_steadying_percent"], 1)
    assert metrics["bone_spread_before_steadying_percent"] == raw.metrics["bone_spread_percent"]
    assert after == round(metrics["bone_spread_percent"], 1)
    columns, errors = table_of(steadied, "Reprojection error")
    assert columns[1:3] == ["median, raw", "median, steadied"]
    _, raw_errors = table_of(raw, "Reprojection error")
    assert {name: row[::2] for name, row in errors.items()} == raw_errors
    assert list(errors) == ["c0", "c1", "c2", "c3", "all cameras"]
    assert float(errors["all cameras"][2]) < float(errors["all cameras"][3])
    for name in ("mean_px", "median_px_c1"):
        stem, _, camera = name.partition("_px")
        key = f"reprojection_{stem}_px_before_steadying{camera}"
        assert metrics[key] == raw.metrics[f"reprojection_{name}"] < metrics[f"reprojection_{name}"]
    assert not any("before_steadying" in name for name in raw.metrics)


def test_counts_say_what_is_missing_and_why(tmp_path):
    path = write_dataset(tmp_path / "data.h5", {(0, 0): make_joints()}, make_cameras(), edit=jittered)
    counts = triangulate(Triangulate(dataset=path, output=tmp_path / "a.h5", max_error_px=8.0)).counts
    assert counts["frames"] == FRAMES
    assert counts["joints"] == (FRAMES - 2) * 17 - 2
    assert 0 <= counts["joints dropped"] < 20
    assert counts["frames not ok: seen by one camera only"] == 2
    assert counts["frames not ok: no pelvis or hips"] >= 1


def test_agreement_is_shown_where_poses_are_known(dataset, tmp_path):
    report = triangulate(Triangulate(dataset=dataset, cameras="intrinsics", output=tmp_path / "out.h5"))
    (table,) = [table for table in report.tables if table.title.startswith("Agreement with the known cameras")]
    assert list(table.columns) == ["mean (mm)", "median (mm)", "frames"]
    assert [list(row) for row in table.rows] == [["0.0", "0.0", str(FRAMES)]]
    again = triangulate(Triangulate(dataset=dataset, cameras="intrinsics", output=tmp_path / "out.h5"))
    assert again.skipped and again.tables == report.tables
    known = triangulate(Triangulate(dataset=dataset, output=tmp_path / "known.h5"))
    assert not any(table.title.startswith("Agreement") for table in known.tables)
