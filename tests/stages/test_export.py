from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from posekit.config.results import Export
from posekit.errors import DataError, InputError
from posekit.export.trc import read_trc
from posekit.geometry.conventions import Y_UP_FROM_Z_UP
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.skeleton.catalog import H36M17
from posekit.stages.export import export


def _run(recording: Any, *formats: str, **settings: Any) -> dict[str, Path]:
    report = export(Export(dataset=recording.dataset, formats=formats, **settings))
    assert all(path.is_file() for path in report.outputs)
    output = recording.root / "exports" / "toy"
    return {path.relative_to(output).as_posix(): path for path in report.outputs}


def _of(recording: Any, sequence: int, person: int) -> np.ndarray:
    keys = recording.keys
    return (keys["sequence"] == sequence) & (keys["person"] == person)


def test_labels_as_trc_csv_and_npz_with_y_up(recording: Any) -> None:
    recording.write_labels()
    files = _run(recording, "trc", "csv", "npz")
    stems = ["S1_Directions_P0", "S1_Directions_P1", "S9_Walking_1_P0", "S9_Walking_1_P1"]
    assert sorted(files) == sorted(f"{stem}.{ending}" for stem in stems for ending in ("trc", "csv", "npz"))
    expected = recording.joints[_of(recording, 1, 1)] @ Y_UP_FROM_Z_UP.T
    trajectories = read_trc(files["S9_Walking_1_P1.trc"])
    np.testing.assert_allclose(trajectories.points, expected, atol=1e-5)
    assert trajectories.names == H36M17.joints and trajectories.rate == 10.0
    assert expected[:, H36M17.index("head"), 1].min() > 1.2  # y is up
    with np.load(files["S9_Walking_1_P1.npz"], allow_pickle=False) as content:
        np.testing.assert_allclose(content["joints3d"], expected, atol=1e-6)
        assert content["frames"].tolist() == [0, 5, 10, 15, 20, 25]
    with files["S9_Walking_1_P1.csv"].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["time"]) for row in rows] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert float(rows[2]["head_y"]) == pytest.approx(expected[2, H36M17.index("head"), 1], abs=1e-5)


def test_z_up_leaves_the_world_of_human36m_as_it_is(recording: Any) -> None:
    recording.write_labels()
    files = _run(recording, "trc", up="z", sequence="S1 Directions", person=0)
    assert list(files) == ["S1_Directions_P0.trc"]
    np.testing.assert_allclose(
        read_trc(files["S1_Directions_P0.trc"]).points, recording.joints[_of(recording, 0, 0)], atol=1e-5
    )


def test_refused_frames_and_dropped_joints_are_gaps(recording: Any) -> None:
    usable = np.ones(len(recording.joints), dtype=bool)
    mine = np.flatnonzero(_of(recording, 0, 0))
    usable[mine[2]] = False
    confidence = np.ones((len(usable), 17))
    confidence[mine[3], 5] = 0.0
    recording.write_labels(ok=usable, confidence=confidence)
    points = read_trc(_run(recording, "trc")["S1_Directions_P0.trc"]).points
    assert len(points) == 6 and np.isnan(points[2]).all()
    assert np.isnan(points[3, 5]).all() and np.isfinite(points[3, :5]).all()


def test_labels_in_a_camera_frame_are_put_upright_on_the_ground(recording: Any) -> None:
    first = recording.cameras[0]
    cameras = [
        replace(
            camera,
            rotation=camera.rotation @ first.rotation.T,
            translation=camera.translation - camera.rotation @ first.rotation.T @ first.translation,
        )
        for camera in recording.cameras
    ]
    cameras[0] = replace(cameras[0], rotation=np.eye(3), translation=np.zeros(3))
    recording.write_labels(recording.joints @ first.rotation.T + first.translation, cameras)
    points = read_trc(_run(recording, "trc")["S1_Directions_P0.trc"]).points
    above = points[:, H36M17.index("head")] - points[:, H36M17.index("left_ankle")]
    assert above.mean(0)[1] > 0.98 * np.linalg.norm(above.mean(0))
    assert 0.0 <= points[..., 1].min() < 0.3


def test_fits_as_glb_obj_ply_and_npz(recording: Any) -> None:
    recording.write_fits()
    files = _run(recording, "glb", "obj", "ply", "npz")
    vertices = recording.vertices[_of(recording, 1, 0)] @ Y_UP_FROM_Z_UP.T
    for frame, expected in zip((0, 25), vertices[[0, -1]], strict=True):
        for ending in ("obj", "ply"):
            mesh = trimesh.load(files[f"S9_Walking_1_P0_{ending}/{frame:06d}.{ending}"], process=False)
            # The segment-scaled body has no pose correctives, the true one has.
            assert np.linalg.norm(mesh.vertices - expected, axis=1).mean() < 2e-3
    scene = trimesh.load(files["S9_Walking_1.glb"], process=False)
    assert len(scene.geometry) == 2
    with np.load(files["S9_Walking_1_P0.fits.npz"], allow_pickle=False) as content:
        roots = recording.roots[_of(recording, 1, 0)] @ Y_UP_FROM_Z_UP.T
        np.testing.assert_allclose(content["translation"], roots, atol=1e-5)
        assert content["joint_names"][0] == "pelvis"
    with np.load(files["S9_Walking_1_P0.npz"], allow_pickle=False) as content:
        expected_joints = recording.joints[_of(recording, 1, 0)] @ Y_UP_FROM_Z_UP.T
        assert np.abs(content["joints3d"] - expected_joints).max() < 5e-3


def test_the_animated_body_stands_where_the_meshes_do(recording: Any) -> None:
    scales = 1.0 + 0.1 * np.random.default_rng(0).normal(size=recording.pose.shape[1])
    count = len(recording.pose)
    recording.write_fits(segment_scales=np.tile(scales, (count, 1)), scale=np.full(count, 1.1))
    files = _run(recording, "glb", "ply", sequence="S1 Directions", person=1)
    scene = trimesh.load(files["S1_Directions.glb"], process=False)
    nodes = {name: scene.graph.get(name)[0] for name in scene.graph.nodes}
    mesh = trimesh.load(files["S1_Directions_P1_ply/000000.ply"], process=False)
    # The file shows its first frame at rest: its joints lie inside the mesh of that frame.
    low, high = mesh.bounds
    for joint in ("pelvis", "left_knee", "smpl_head", "right_wrist"):
        place = nodes[joint][:3, 3]
        assert (place > low).all() and (place < high).all()
    assert nodes["left_knee"][1, 3] < nodes["pelvis"][1, 3] < nodes["smpl_head"][1, 3]


def test_weak_perspective_fits_stand_upright_at_the_origin(recording: Any) -> None:
    camera, count = recording.cameras[1], len(recording.pose)
    turn = matrix_from_axis_angle(torch.from_numpy(recording.pose[:, 0])).numpy()
    recording.write_fits(
        camera=np.full(count, 1),
        orientation=camera.rotation @ turn,
        translation=np.full((count, 3), 0.1),
        scale=np.full(count, 0.5),
        crop_from_image=np.tile(np.eye(2, 3), (count, 1, 1)),
    )
    files = _run(recording, "trc", "ply", "glb")
    points = read_trc(files["S1_Directions_C1_P0.trc"]).points
    assert points[..., 1].min() == pytest.approx(0.0, abs=1e-5)
    assert 1.3 < points[:, H36M17.index("head"), 1].max() < 2.0
    mesh = trimesh.load(files["S1_Directions_C1_P0_ply/000000.ply"], process=False)
    assert 1.3 < np.ptp(mesh.vertices[:, 1]) < 2.1


def test_ground_truth_is_exported_when_there_is_nothing_else(recording: Any) -> None:
    report = export(Export(dataset=recording.dataset, formats=("trc",)))
    assert any("ground truth" in note for note in report.notes)
    path = next(path for path in report.outputs if path.name == "S1_Directions_P1.trc")
    expected = recording.joints[_of(recording, 0, 1)] @ Y_UP_FROM_Z_UP.T
    np.testing.assert_allclose(read_trc(path).points, expected, atol=1e-5)


def test_a_second_run_is_skipped_until_something_changes(recording: Any) -> None:
    recording.write_labels()
    settings = Export(dataset=recording.dataset, formats=("trc",))
    first = export(settings)
    assert not first.skipped
    again = export(settings)
    assert again.skipped and list(again.outputs) == list(first.outputs)
    first.outputs[0].unlink()
    assert not export(settings).skipped
    assert not export(settings.model_copy(update={"formats": ("trc", "csv")})).skipped


def test_dry_run_writes_nothing(recording: Any) -> None:
    recording.write_labels()
    report = export(Export(dataset=recording.dataset, formats=("trc",), dry_run=True))
    assert not report.outputs and not (recording.root / "exports").exists()


def test_same_input_same_bytes(recording: Any) -> None:
    recording.write_labels()
    recording.write_fits()
    first = {name: path.read_bytes() for name, path in _run(recording, "trc", "csv", "glb").items()}
    again = {name: path.read_bytes() for name, path in _run(recording, "trc", "csv", "glb", force=True).items()}
    assert first == again


def test_impossible_exports_are_refused(recording: Any) -> None:
    with pytest.raises(InputError, match="no fits to make glb"):
        export(Export(dataset=recording.dataset, formats=("glb",)))
    recording.write_labels()
    with pytest.raises(InputError, match="S9 Walking 1"):
        export(Export(dataset=recording.dataset, formats=("trc",), sequence="S5 Eating"))
    with pytest.raises(DataError, match="person 7"):
        export(Export(dataset=recording.dataset, formats=("trc",), person=7))
    recording.write_labels(ok=np.zeros(len(recording.joints), dtype=bool))
    with pytest.raises(DataError, match="nothing usable"):
        export(Export(dataset=recording.dataset, formats=("trc",)))
    recording.write_dataset(with_truth=False)
    (recording.root / "labels" / "toy.joints3d.h5").unlink()
    with pytest.raises(InputError, match="nothing to export"):
        export(Export(dataset=recording.dataset, formats=("trc",)))
