"""`triangulate --views pairs`: labels of single images from neighbouring views."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.config.data import PreprocessMultiview
from posekit.config.labels import Triangulate
from posekit.config.results import Evaluate
from posekit.errors import ConfigError, DataError, InputError
from posekit.evaluation.metrics import mean_over_joints, n_mpjpe, pa_mpjpe
from posekit.skeleton.catalog import COCO17
from posekit.stages.preprocess_multiview import preprocess_multiview
from posekit.stages.triangulate import triangulate


@pytest.fixture(scope="module")
def rig() -> ModuleType:
    """The people and cameras of the tests of the other views."""
    spec = importlib.util.spec_from_file_location("rig_of_four", Path(__file__).with_name("test_triangulate.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dataset(rig: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rig") / "data"
    return rig.write_dataset(folder / "take.h5", {(0, 0): rig.make_joints()}, rig.make_cameras())


def label(dataset: Path, output: Path, **changes: Any) -> tuple[Any, dict[str, np.ndarray]]:
    report = triangulate(Triangulate(dataset=dataset, output=output, views="pairs", **changes))
    with Artifact(output) as artifact:
        artifact.verify()
        return report, artifact.table("samples")


def in_camera(rig: ModuleType, samples: dict[str, np.ndarray]) -> np.ndarray:
    """The truth of each row, in the frame of its camera."""
    joints, cameras = rig.make_joints(), rig.make_cameras()
    return np.stack(
        [
            joints[frame] @ cameras[camera].rotation.T + cameras[camera].translation
            for frame, camera in zip(samples["frame"], samples["camera"], strict=True)
        ]
    )


def errors(rig: ModuleType, samples: dict[str, np.ndarray]) -> tuple[float, float]:
    """Of the labels, in mm: after the best scale about the hips, and after the best similarity."""
    truth = 1000.0 * torch.from_numpy(in_camera(rig, samples))
    found = 1000.0 * torch.from_numpy(samples["joints3d"]).double()
    hips = COCO17.indices("left_hip", "right_hip")
    return (
        float(mean_over_joints(n_mpjpe(found, truth, hips)).mean()),
        float(mean_over_joints(pa_mpjpe(found, truth)).mean()),
    )


@pytest.mark.parametrize("merge", ["average", "best", "random"])
def test_intrinsics_alone_give_every_view_the_person_in_its_own_frame(
    rig: ModuleType, dataset: Path, tmp_path: Path, merge: str
) -> None:
    report, samples = label(dataset, tmp_path / "out.h5", cameras="intrinsics", merge=merge)
    # The rig's own pixels are rounded to single precision in the data set.
    assert np.abs(samples["joints3d"] - in_camera(rig, samples)).max() < 5e-3
    assert samples["ok"].all() and (samples["weights"] == 1.0).all()
    assert len(samples["frame"]) == 4 * rig.FRAMES
    assert (samples["error_px"] < 0.1).all()
    assert report.metrics["views_ok_percent"] == 100.0
    assert report.metrics["rotation_error_median_deg"] < 0.01
    partners = set(samples["partner"].tolist())
    assert partners == {-1} if merge == "average" else partners <= {0, 1, 2, 3}


def test_noise_of_two_pixels_leaves_labels_within_the_bounds(rig: ModuleType, dataset: Path, tmp_path: Path) -> None:
    report, samples = label(dataset, tmp_path / "out.h5", cameras="intrinsics", noise_px=2.0)
    _, aligned = errors(rig, samples)
    assert report.metrics["views_ok_percent"] >= 90.0
    assert aligned <= 25.0


@pytest.mark.parametrize("method", ["poly", "dlt", "iter_ls"])
def test_known_cameras_need_no_geometry_from_people(
    rig: ModuleType, dataset: Path, tmp_path: Path, method: str
) -> None:
    report, samples = label(dataset, tmp_path / "out.h5", cameras="known", method=method)
    assert np.abs(samples["joints3d"] - in_camera(rig, samples)).max() < 1e-3
    assert "rotation_error_median_deg" not in report.metrics


def test_poses_are_not_looked_at_where_intrinsics_are_asked_for(rig: ModuleType, dataset: Path, tmp_path: Path) -> None:
    blind = [replace(c, rotation=np.eye(3), translation=np.zeros(3), posed=False) for c in rig.make_cameras()]
    # Key points come from the true rig.
    sighted = rig.make_cameras()
    unposed = rig.write_dataset(tmp_path / "data" / "blind.h5", {(0, 0): rig.make_joints()}, sighted)
    rows = label(unposed, tmp_path / "one.h5", cameras="intrinsics")[1]
    with Artifact(unposed) as artifact:
        seen = artifact.read("samples", "keypoints2d")

    def edit(keypoints: np.ndarray, sequence: int, person: int) -> np.ndarray:
        del sequence, person
        for camera in range(4):
            keypoints[:, 3 - camera] = seen[camera * rig.FRAMES : (camera + 1) * rig.FRAMES]
        return keypoints

    other = rig.write_dataset(tmp_path / "data" / "other.h5", {(0, 0): rig.make_joints()}, blind, edit=edit)
    again = label(other, tmp_path / "two.h5", cameras="intrinsics")[1]
    assert np.array_equal(rows["joints3d"], again["joints3d"])
    with pytest.raises(InputError, match="poses of these cameras are not known"):
        label(other, tmp_path / "three.h5", cameras="known")
    with pytest.raises(InputError, match="poses of these cameras are not known"):
        label(other, tmp_path / "three.h5", cameras="intrinsics", scale="cameras")


def test_sizes_come_from_limbs_statures_or_the_distance_of_the_cameras(
    rig: ModuleType, dataset: Path, tmp_path: Path
) -> None:
    truth = label(dataset, tmp_path / "limbs.h5", cameras="intrinsics")[1]
    tall = label(dataset, tmp_path / "tall.h5", cameras="intrinsics", stature=2.0)[1]
    ratio = np.linalg.norm(tall["joints3d"], axis=-1) / np.linalg.norm(truth["joints3d"], axis=-1)
    assert ratio.std() < 1e-3 and 1.05 < ratio.mean() < 1.3
    far = label(dataset, tmp_path / "cameras.h5", cameras="intrinsics", scale="cameras")[1]
    assert np.abs(far["joints3d"] - in_camera(rig, far)).max() < 5e-3


def test_one_scale_holds_for_a_person_and_a_pair(rig: ModuleType, dataset: Path, tmp_path: Path) -> None:
    label(dataset, tmp_path / "out.h5", cameras="intrinsics")
    with Artifact(tmp_path / "out.h5") as artifact:
        pairs = artifact.table("pairs")
    centres = np.stack([-camera.rotation.T @ camera.translation for camera in rig.make_cameras()])
    distances = np.linalg.norm(centres[pairs["first"]] - centres[pairs["second"]], axis=1)
    np.testing.assert_allclose(pairs["scale"], distances, rtol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(pairs["translation"], axis=1), distances, rtol=2e-3)
    assert pairs["ok"].all()


def test_what_cannot_be_seen_twice_or_goes_wrong_has_no_weight(rig: ModuleType, tmp_path: Path) -> None:
    wrist, off = COCO17.index("left_wrist"), rig.FRAMES // 2

    def edit(keypoints: np.ndarray, sequence: int, person: int) -> np.ndarray:
        del sequence, person
        keypoints[:, :, wrist, 2] = 0.1
        keypoints[off, 0, 0, :2] += 90.0
        return keypoints

    dataset = rig.write_dataset(tmp_path / "data" / "a.h5", {(0, 0): rig.make_joints()}, rig.make_cameras(), edit=edit)
    report, samples = label(dataset, tmp_path / "out.h5", cameras="intrinsics", merge="best")
    assert (samples["weights"][:, wrist] == 0.0).all() and np.isnan(samples["joints3d"][:, wrist]).all()
    here = (samples["frame"] == off) & (samples["camera"] == 0)
    assert (samples["weights"][here, 0] == 0.0).all()
    assert report.counts["joints dropped"] >= 4 * rig.FRAMES


def test_labels_are_compared_with_all_views_by_the_known_cameras(dataset: Path, tmp_path: Path) -> None:
    report, _ = label(dataset, tmp_path / "out.h5", cameras="intrinsics")
    assert report.metrics["rig_pa_mpjpe_mm"] < 1.0 and report.metrics["rig_mpjpe_mm"] < 5.0
    (table,) = [table for table in report.tables if table.title.startswith("Labels that passed")]
    assert [row[0] for row in table.rows] == ["joints from all views by the known cameras"]
    known, _ = label(dataset, tmp_path / "known.h5", cameras="known")
    assert not any(name.startswith("rig_") for name in known.metrics)


def test_steadied_labels_are_better_where_key_points_are_noisy(rig: ModuleType, dataset: Path, tmp_path: Path) -> None:
    _, plain = label(dataset, tmp_path / "plain.h5", cameras="known", noise_px=2.0)
    report, steady = label(dataset, tmp_path / "steady.h5", cameras="known", noise_px=2.0, steady_views=True)
    assert errors(rig, steady)[1] < 0.85 * errors(rig, plain)[1]
    assert np.array_equal(steady["weights"], plain["weights"])
    assert 0.5 < report.metrics["reprojection_median_px"] < 4.0


def test_dropped_joints_are_counted_by_camera(rig: ModuleType, tmp_path: Path) -> None:
    def edit(keypoints: np.ndarray, sequence: int, person: int) -> np.ndarray:
        del sequence, person
        keypoints[:, 2, 0, 2] = 0.1
        return keypoints

    dataset = rig.write_dataset(tmp_path / "data" / "a.h5", {(0, 0): rig.make_joints()}, rig.make_cameras(), edit=edit)
    label(dataset, tmp_path / "out.h5", cameras="known")
    with Artifact(tmp_path / "out.h5") as artifact:
        quality = artifact.table("quality")
    # The other cameras have each other for this joint.
    assert quality["rejected"].tolist() == [0, 0, rig.FRAMES, 0]
    assert quality["points"].tolist() == [17 * rig.FRAMES, 17 * rig.FRAMES, 16 * rig.FRAMES, 17 * rig.FRAMES]


def test_a_real_recording_gives_labels_that_agree_with_its_known_cameras(shared_dir: Path, tmp_path: Path) -> None:
    recording = shared_dir / "real" / "balancing"
    if not recording.is_dir():
        pytest.skip("the real recording is not beside this checkout")
    dataset = tmp_path / "data" / "balancing.h5"
    preprocess_multiview(PreprocessMultiview(raw=recording, output=dataset, crops=False))
    report, samples = label(dataset, tmp_path / "out.h5", cameras="intrinsics", pool_frames=60)
    assert report.metrics["views_ok_percent"] > 95.0 and report.metrics["joints_ok_percent"] > 90.0
    assert report.metrics["rotation_error_median_deg"] < 6.0
    assert report.metrics["rig_pa_mpjpe_median_mm"] < 30.0
    assert len(samples["ok"]) == 400


def test_runs_are_skipped_when_nothing_changed(dataset: Path, tmp_path: Path) -> None:
    first, _ = label(dataset, tmp_path / "out.h5", cameras="intrinsics")
    again, _ = label(dataset, tmp_path / "out.h5", cameras="intrinsics")
    assert again.skipped and again.metrics == first.metrics
    assert not label(dataset, tmp_path / "out.h5", cameras="intrinsics", method="dlt")[0].skipped


def test_settings_that_do_not_go_together_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one pair of cameras only"):
        label(dataset, tmp_path / "out.h5", baseline=1.0)
    with pytest.raises(ConfigError, match="--no-steady is for --views rig"):
        label(dataset, tmp_path / "out.h5", steady=False)
    with pytest.raises(ConfigError, match="tell the scale themselves"):
        label(dataset, tmp_path / "out.h5", stature=1.8)
    for changes in ({"merge": "best"}, {"steady_views": True}):
        with pytest.raises(ConfigError, match="are for --views pairs"):
            triangulate(Triangulate(dataset=dataset, output=tmp_path / "a.h5", **changes))


def test_people_who_never_move_give_no_geometry(rig: ModuleType, tmp_path: Path) -> None:
    still = np.repeat(rig.make_joints()[:1], 3, axis=0)
    dataset = rig.write_dataset(tmp_path / "data" / "still.h5", {(0, 0): still}, rig.make_cameras())
    with pytest.raises(DataError, match="no pair of cameras can be trusted"):
        label(dataset, tmp_path / "out.h5", cameras="intrinsics")


def test_the_default_place_and_the_evaluation(pose_data: ModuleType, tmp_path: Path) -> None:
    from posekit.stages.evaluate import evaluate

    files = pose_data.write_files(tmp_path)
    report = evaluate(
        Evaluate(
            dataset=files.dataset,
            joints3d=files.labels,
            protocol="pose-resnet",
            split="all",
            output=tmp_path / "r.json",
        )
    )
    # Labels are the truth; the first frame of each sequence is not ok.
    assert report.metrics["joints3d_mpjpe_mm"] < 1e-3
    assert report.counts["joints3d: evaluated"] > 0
    assert report.counts["joints3d: prediction marked as not usable"] > 0
