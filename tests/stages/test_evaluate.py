from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.camera_stack import stack_cameras
from posekit.config.results import Evaluate
from posekit.errors import DataError, InputError
from posekit.evaluation.comparison import Resampling, compare_joints
from posekit.evaluation.predictions import LabelSource
from posekit.evaluation.protocols import protocol_by_name
from posekit.evaluation.sample_errors import read_sample_errors
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.registration.posing import posed_bodies
from posekit.skeleton.catalog import H36M17
from posekit.stages.evaluate import evaluate


def _run(recording: Any, **settings: Any) -> dict[str, Any]:
    report = evaluate(Evaluate(dataset=recording.dataset, bootstrap=50, device="cpu", **settings))
    path = report.outputs[0]
    content = json.loads(Path(path).read_text())
    assert content["results"]
    return content


def _stored(recording: Any, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Truth and labels as the files hold them, sample by sample, in the frames of the samples' cameras."""
    with Artifact(recording.dataset) as dataset, Artifact(path) as labels:
        truth = dataset.read("samples", "joints3d").astype(float)
        camera = dataset.read("samples", "camera")
        world = np.repeat(labels.read("poses", "joints3d").astype(float), len(recording.cameras), axis=0)
    rotation = np.stack([c.rotation for c in recording.cameras])[camera]
    return truth, np.einsum("nij,nkj->nki", rotation, world)


def _aligned(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    p, q = p - p.mean(0), q - q.mean(0)
    u, s, vt = np.linalg.svd(p.T @ q)
    z = np.array([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])
    return np.asarray((z * s).sum() / (p**2).sum() * p @ ((vt.T * z) @ u.T).T - q)


def _mean(content: dict[str, Any], metric: str, source: str = "joints3d") -> float:
    return float(content["results"][source]["metrics"][metric]["mean"])


def test_perfect_labels_have_no_error(recording: Any) -> None:
    recording.write_labels()
    content = _run(recording)
    for metric in ("mpjpe", "pa_mpjpe", "n_mpjpe", "per_pixel"):
        assert _mean(content, metric) < 2e-3
    assert _mean(content, "pck3d") == 100.0
    result = content["results"]["joints3d"]
    assert result["evaluated"] == 2 * 6 * 2 * 3 and result["skipped"] == {}
    assert set(result["metrics"]["mpjpe"]["per_action"]) == {"Directions", "Walking"}
    assert next(iter(result["metrics"]["mpjpe"]["per_joint"])) == "pelvis"
    assert content["protocol"]["name"] == "all" and set(content["inputs"]) == {"dataset", "joints3d"}


def test_known_errors_are_measured_in_millimetres_and_crop_pixels(recording: Any) -> None:
    joints = recording.joints.copy()
    joints[:, 16] += [0.0, 0.0, 0.17]
    recording.write_labels(joints)
    content = _run(recording)
    per_joint = content["results"]["joints3d"]["metrics"]["mpjpe"]["per_joint"]
    assert per_joint["right_wrist"] == pytest.approx(170, abs=0.01) and per_joint["left_knee"] < 1e-2
    assert _mean(content, "mpjpe") == pytest.approx(10, abs=0.01)
    assert _mean(content, "pck3d") == pytest.approx(100 * 16 / 17)
    # A body about 1.7 m tall fills 224 / 1.2 px of the crop.
    pixels = content["results"]["joints3d"]["metrics"]["per_pixel"]["per_joint"]["right_wrist"]
    assert 0.6 < pixels / (0.17 * 224 / 1.2 / 1.7) < 1.4


def test_labels_in_another_world_unit_and_frame(recording: Any) -> None:
    # Camera-free labels: the world is turned and half the size, and the label file poses the cameras in it.
    turn = matrix_from_axis_angle(torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64)).numpy()
    cameras = [replace(c, rotation=c.rotation @ turn.T, translation=0.5 * c.translation) for c in recording.cameras]
    recording.write_labels(0.5 * recording.joints @ turn.T, cameras)
    content = _run(recording)
    assert _mean(content, "mpjpe") > 100
    assert max(_mean(content, name) for name in ("pa_mpjpe", "n_mpjpe", "per_pixel")) < 5e-3


def test_the_scale_of_n_mpjpe_by_least_squares_or_of_the_similarity(recording: Any) -> None:
    # Half the size, and turned by 0.4 about the root of each pose.
    turn = matrix_from_axis_angle(torch.tensor([0.0, 0.0, 0.4], dtype=torch.float64)).numpy()
    about_root = recording.joints - recording.joints[:, :1]
    recording.write_labels(recording.joints[:, :1] + 0.5 * about_root @ turn.T)
    turned, lengths = about_root @ turn.T, (about_root**2).sum((1, 2))
    for name, scale in (("procrustes", np.ones(len(turned))), ("lsq", (turned * about_root).sum((1, 2)) / lengths)):
        content = _run(recording, nmpjpe_scale=name)
        expected = np.linalg.norm(scale[:, None, None] * turned - about_root, axis=-1).mean()
        assert _mean(content, "n_mpjpe") == pytest.approx(1000 * expected, rel=1e-4)
        assert content["protocol"]["scale_by"] == name


def test_every_sample_is_evaluated_or_counted(recording: Any) -> None:
    count = len(recording.joints)
    joints = recording.joints.copy()
    joints[0, 0] = np.nan
    joints[1, 5] = np.nan
    usable = np.ones(count, dtype=bool)
    usable[2] = False
    confidence = np.ones((count, 17))
    confidence[3, 2:] = 0.0
    cameras = [replace(recording.cameras[0], posed=False), *recording.cameras[1:]]
    recording.write_labels(joints, cameras, ok=usable, confidence=confidence)
    result = _run(recording)["results"]["joints3d"]
    assert result["skipped"] == {
        "pose of the camera unknown": count - 1,
        "prediction marked as not usable": 3,
        "root joint not predicted or not known": 2,
        "fewer than 3 joints in common": 2,
    }
    assert result["evaluated"] + sum(result["skipped"].values()) == 3 * count
    assert result["joints_left_out"] == 2


def test_missing_rows_are_counted_and_noted(recording: Any) -> None:
    keep = slice(0, len(recording.joints) - 4)
    keys, joints = recording.keys, recording.joints
    recording.keys, recording.joints = {name: values[keep] for name, values in keys.items()}, joints[keep]
    recording.write_labels()
    report = evaluate(Evaluate(dataset=recording.dataset, bootstrap=0))
    assert report.counts["joints3d: no prediction"] == 12
    assert any("left out" in note for note in report.notes)


@pytest.mark.parametrize(("name", "expected"), [("p1", 36), ("p2", 12)])
def test_protocols_choose_their_frames_and_joints(recording: Any, name: str, expected: int) -> None:
    recording.write_labels()
    content = _run(recording, protocol=name)
    result = content["results"]["joints3d"]
    assert result["evaluated"] == expected and result["outside_protocol"] == 72 - expected
    assert len(result["joints"]) == 14 and content["protocol"]["subjects"] == ["S9", "S11"]
    assert _mean(content, "pa_mpjpe") < 1e-2


def test_fits_are_posed_projected_and_compared_with_true_vertices(recording: Any) -> None:
    recording.write_fits()
    recording.write_truth()
    content = _run(recording, truth=recording.truth)
    # The segment-scaled body has no pose correctives, the true one has: fractions of a millimetre.
    for metric, limit in (("mpjpe", 0.5), ("pa_mpjpe", 0.5), ("n_mpjpe", 0.5), ("per_pixel", 0.05)):
        assert _mean(content, metric, "fits") < limit
    assert _mean(content, "per_vertex_reconstruction", "fits_vertices") < 1.0
    assert content["results"]["fits_vertices"]["evaluated"] == 72


def test_wrong_fits_have_errors_and_refused_ones_are_counted(recording: Any) -> None:
    count = len(recording.pose)
    scales = np.ones((count, recording.pose.shape[1]))
    scales[:, 4] = 1.3
    usable = np.arange(count) > 1
    reason = ["", "too far from the labels", *[""] * (count - 2)]
    recording.write_fits(segment_scales=scales, ok=usable, reason=reason)
    recording.write_truth()
    content = _run(recording, truth=recording.truth)
    assert content["results"]["fits"]["skipped"] == {
        "prediction marked as not usable": 3,
        "prediction marked as not usable: too far from the labels": 3,
    }
    per_joint = content["results"]["fits"]["metrics"]["mpjpe"]["per_joint"]
    assert per_joint["left_ankle"] > 50 and per_joint["right_ankle"] < 0.5
    assert 1 < _mean(content, "per_vertex_reconstruction", "fits_vertices") < 60
    assert content["results"]["fits_vertices"]["skipped"] == content["results"]["fits"]["skipped"]


def test_weak_perspective_fits_of_single_views(recording: Any) -> None:
    camera = recording.cameras[1]
    count = len(recording.pose)
    turn = matrix_from_axis_angle(torch.from_numpy(recording.pose[:, 0])).numpy()
    crop = np.tile(np.array([[0.2, 0.0, 5.0], [0.0, 0.2, -3.0]]), (count, 1, 1))
    recording.write_fits(
        camera=np.full(count, 1),
        orientation=camera.rotation @ turn,
        translation=np.zeros((count, 3)),
        scale=np.full(count, 0.9),
        crop_from_image=crop,
    )
    content = _run(recording)
    result = content["results"]["fits"]
    assert result["evaluated"] == count and result["skipped"] == {"no prediction": 2 * count}
    assert _mean(content, "mpjpe", "fits") < 0.5


def test_a_second_run_is_skipped_until_something_changes(recording: Any) -> None:
    recording.write_labels()
    settings = Evaluate(dataset=recording.dataset, bootstrap=10)
    first = evaluate(settings)
    again = evaluate(settings)
    assert not first.skipped and again.skipped
    assert again.metrics == first.metrics and again.counts == first.counts and again.tables == first.tables
    assert not evaluate(settings.model_copy(update={"bootstrap": 11})).skipped
    recording.write_labels(recording.joints + 0.01)
    assert not evaluate(settings.model_copy(update={"bootstrap": 11})).skipped
    first.outputs[0].write_text("{ half a file")
    assert not evaluate(settings).skipped
    assert not evaluate(settings.model_copy(update={"force": True})).skipped


def test_same_seed_same_bytes(recording: Any) -> None:
    recording.write_labels(recording.joints + 0.01 * np.random.default_rng(0).normal(size=recording.joints.shape))
    settings = Evaluate(dataset=recording.dataset, bootstrap=50, force=True)
    path = evaluate(settings).outputs[0]
    first = path.read_bytes()
    evaluate(settings)
    assert path.read_bytes() == first


def test_dry_run_writes_nothing(recording: Any) -> None:
    recording.write_labels()
    report = evaluate(Evaluate(dataset=recording.dataset, dry_run=True))
    assert not report.outputs and "would compare" in report.notes[0]
    assert not (recording.root / "results").exists()


def test_what_cannot_be_evaluated_is_refused(recording: Any) -> None:
    settings = Evaluate(dataset=recording.dataset)
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate(settings)
    recording.write_labels()
    recording.write_dataset(seed=1)
    with pytest.raises(InputError, match="was not made from"):
        evaluate(settings)
    recording.write_dataset(with_truth=False)
    recording.write_labels()
    with pytest.raises(InputError, match="no 3D ground truth"):
        evaluate(settings)


def test_nothing_left_is_an_error_with_the_reasons(recording: Any) -> None:
    recording.write_labels(ok=np.zeros(len(recording.joints), dtype=bool))
    with pytest.raises(DataError, match="72 x prediction marked as not usable"):
        evaluate(Evaluate(dataset=recording.dataset))


def test_fits_of_another_body_are_refused(recording: Any) -> None:
    recording.write_fits(facts={"body": "0" * 64})
    with pytest.raises(InputError, match="another body model"):
        evaluate(Evaluate(dataset=recording.dataset))


@pytest.mark.parametrize(("name", "metric"), [("deform-and-learn", "bone_rescaled_mpjpe"), ("pose-resnet", "n_mpjpe")])
def test_protocols_of_the_papers(recording: Any, name: str, metric: str) -> None:
    # Labels of another size: what is rescaled to the canonical bone length does not notice.
    errors = []
    for size in (1.0, 0.8):
        recording.write_labels(size * recording.joints)
        path = recording.root / "labels" / "toy.joints3d.h5"
        with Artifact(recording.dataset) as dataset, Artifact(path) as labels:
            summary = compare_joints(
                dataset, LabelSource(labels, recording.cameras), protocol_by_name(name), Resampling(0)
            )
        assert summary.evaluated == 36
        errors.append({m.metric: m.mean for m in summary.metrics})
    assert errors[0][metric] == pytest.approx(errors[1][metric], abs=1e-2)
    assert errors[1]["mpjpe"] > 50 + errors[0]["mpjpe"]


def _noisy(recording: Any) -> np.ndarray:
    noise = np.random.default_rng(7).normal(size=recording.joints.shape)
    return np.asarray(1.1 * recording.joints + 0.05 * noise)


def test_every_metric_by_a_second_implementation(recording: Any) -> None:
    path = recording.write_labels(_noisy(recording))
    content = _run(recording, protocol="deform-and-learn")
    truth, predicted = _stored(recording, path)
    bones = np.array(H36M17.bones)
    lengths = np.linalg.norm(truth[:, bones[:, 1]] - truth[:, bones[:, 0]], axis=-1).sum(-1)
    with Artifact(recording.dataset) as dataset:
        test = dataset.read("samples", "sequence") == 1
    canonical = lengths[~test].mean()
    assert content["protocol"]["canonical_bone_length"] == pytest.approx(canonical, rel=1e-9)
    assert "S1" in content["protocol"]["canonical_from"]
    errors: dict[str, list[np.ndarray]] = {"mpjpe": [], "n_mpjpe": [], "pa_mpjpe": [], "bone_rescaled_mpjpe": []}
    for p, q in zip(predicted[test], truth[test], strict=True):
        p, q = p - p[0], q - q[0]
        size = np.linalg.norm(p[bones[:, 1]] - p[bones[:, 0]], axis=-1).sum()
        errors["mpjpe"].append(p - q)
        errors["n_mpjpe"].append((p * q).sum() / (p * p).sum() * p - q)
        errors["pa_mpjpe"].append(_aligned(p, q))
        errors["bone_rescaled_mpjpe"].append(p * canonical / size - q)
    for metric, differences in errors.items():
        distances = 1000 * np.linalg.norm(differences, axis=-1)
        found = content["results"]["joints3d"]["metrics"][metric]
        assert found["mean"] == pytest.approx(distances.mean(), rel=1e-6)
        assert found["median"] == pytest.approx(np.median(distances.mean(-1)), rel=1e-6)
        assert list(found["per_joint"].values()) == pytest.approx(distances.mean(0).tolist(), rel=1e-6, abs=1e-6)
    within = 1000 * np.linalg.norm(errors["mpjpe"], axis=-1)
    auc = np.mean([(within < limit).mean() for limit in np.linspace(0, 150, 31)])
    assert _mean(content, "pck3d") == pytest.approx(100 * (within < 150).mean(), rel=1e-6)
    assert _mean(content, "auc3d") == pytest.approx(100 * auc, rel=1e-6)


def test_vertices_by_a_second_implementation(recording: Any) -> None:
    scales = np.ones(recording.pose.shape[:2])
    scales[:, 4] = 1.3
    path = recording.write_fits(segment_scales=scales)
    recording.write_truth()
    content = _run(recording, truth=recording.truth)
    with Artifact(path) as artifact:
        predicted = posed_bodies(artifact.table("fits"), SegmentScaledBody(load_body())).points.double()
    true = torch.from_numpy(recording.vertices)
    shape = [
        np.linalg.norm(_aligned(p, q), axis=-1).mean() for p, q in zip(predicted.numpy(), true.numpy(), strict=True)
    ]
    assert _mean(content, "per_vertex_reconstruction", "fits_vertices") == pytest.approx(
        1000 * np.mean(shape), rel=1e-4
    )
    lenses = stack_cameras(recording.cameras)
    distances = (lenses.project(predicted[:, None]) - lenses.project(true[:, None])).norm(dim=-1).mean(-1).numpy()
    with Artifact(recording.dataset) as dataset:
        x0, y0, x1, y1 = dataset.read("samples", "bbox").T.astype(float)
    pixels = distances.reshape(-1) * 224 / (1.2 * np.maximum(x1 - x0, y1 - y0))
    found = content["results"]["fits_vertices"]["metrics"]["per_pixel_vertices"]
    assert found["mean"] == pytest.approx(pixels.mean(), rel=1e-4) and found["unit"] == "px"


def test_vertices_follow_the_protocol(recording: Any) -> None:
    recording.write_fits()
    recording.write_truth()
    vertices = _run(recording, truth=recording.truth, protocol="p2")["results"]["fits_vertices"]
    assert vertices["evaluated"] == 12 and vertices["protocol"]["name"] == "h36m-hmr-p2"


def test_predictions_stand_beside_labels_and_fits(recording: Any) -> None:
    recording.write_labels()
    fits = recording.write_fits()
    predictions = recording.root / "predictions" / "toy.h5"
    predictions.parent.mkdir()
    fits.rename(predictions)
    scales = np.ones(recording.pose.shape[:2])
    scales[:, 4] = 1.3
    recording.write_fits(segment_scales=scales)
    recording.write_truth()
    content = _run(recording, truth=recording.truth, baseline=True)
    names = ["joints3d", "fits", "fits_vertices", "predictions", "predictions_vertices", "mean-pose"]
    assert list(content["results"]) == names and list(content["tables"]) == names
    assert _mean(content, "mpjpe", "predictions") < 0.5 < _mean(content, "mpjpe", "fits")
    assert set(content["inputs"]) == {"dataset", "joints3d", "fits", "predictions", "truth"}
    assert "36 training samples" in content["results"]["mean-pose"]["baseline"]


def test_the_baseline_needs_nothing_else(recording: Any) -> None:
    content = _run(recording, baseline=True, protocol="deform-and-learn")
    assert list(content["results"]) == ["mean-pose"] and _mean(content, "mpjpe", "mean-pose") > 1


@pytest.mark.parametrize(
    ("settings", "subject"),
    [({"split": "train"}, "S1"), ({"split": "test"}, "S9"), ({"protocol": "deform-and-learn-train"}, "S1")],
)
def test_training_sequences_can_be_measured_alone(recording: Any, settings: dict[str, str], subject: str) -> None:
    joints = recording.joints.copy()
    joints[recording.keys["sequence"] == (0 if subject == "S1" else 1), 16] += [0.0, 0.0, 0.17]
    recording.write_labels(joints)
    content = _run(recording, **settings)
    assert content["results"]["joints3d"]["evaluated"] == 36
    assert _mean(content, "mpjpe") == pytest.approx(10, abs=0.01)


def test_the_canonical_length_may_be_the_constant(recording: Any) -> None:
    recording.write_labels()
    content = _run(recording, protocol="deform-and-learn", canonical="constant")
    assert content["protocol"]["canonical_bone_length"] == 4.150


def test_errors_of_samples_stand_beside_the_result(recording: Any) -> None:
    recording.write_labels(_noisy(recording))
    settings = Evaluate(dataset=recording.dataset, bootstrap=0, device="cpu", baseline=True)
    report = evaluate(settings)
    result, errors = report.outputs
    content = json.loads(result.read_text())
    with Artifact(errors) as artifact:
        assert content["errors"] == {"file": "toy.errors.h5", "digest": artifact.digest}
        parts = read_sample_errors(artifact)
    assert list(parts) == ["joints3d", "mean-pose"]
    for metric, values in parts["joints3d"].values.items():
        assert values.mean() == pytest.approx(_mean(content, metric), rel=1e-6)
    assert evaluate(settings).skipped
    errors.unlink()
    assert not evaluate(settings).skipped and errors.exists()
