"""3DPW from end to end: the studio's raw layout, the data set and its truth, the evaluation by both selections of frames."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import DATASET, KEYPOINTS, MASKS, TRUTH
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.landmarks import regressor
from posekit.body.model import BodyModel
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import FREE_BODY, load_body
from posekit.config.masks import PseudoLabelMasks
from posekit.config.threedpw import Evaluate3DPW, Preprocess3DPW, Synthesize3DPW
from posekit.datasets.crops import decode_image
from posekit.errors import InputError, MissingFileError, UnsafeFileError
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.registration.posing import posed_bodies
from posekit.skeleton.catalog import H36M17, J14
from posekit.stages.evaluate import evaluate
from posekit.stages.preprocess_3dpw import preprocess_3dpw
from posekit.stages.pseudo_label_masks import pseudo_label_masks
from posekit.stages.synthesize_3dpw import synthesize_3dpw

FRAMES = 4


def studio(folder: Path, **changes: Any) -> Synthesize3DPW:
    settings: dict[str, Any] = {
        "train": 1,
        "validation": 0,
        "test": 2,
        "frames": FRAMES,
        "size": 128,
        "seed": 2,
        "device": "cpu",
    }
    return Synthesize3DPW(output=folder, **settings | {"undetected": 0.3, "invalid": 0.3} | changes)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studio") / "3dpw"
    assert synthesize_3dpw(studio(folder)).counts == {"sequences": 3, "pictures": 12, "people": 4}
    return folder


@pytest.fixture(scope="module")
def made(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    preprocess_3dpw(settings(raw, folder))
    return folder


@pytest.fixture(scope="module")
def men(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A body of men that is taller than the shipped one."""
    path = tmp_path_factory.mktemp("bodies") / "men.npz"
    with np.load(FREE_BODY) as archive:
        arrays = dict(archive)
    arrays["v_template"] = arrays["v_template"] * np.array([1.0, 1.08, 1.0], np.float32)
    np.savez(path, **arrays)
    return path


def settings(raw: Path, folder: Path, **changes: Any) -> Preprocess3DPW:
    values: dict[str, Any] = {
        "raw": raw,
        "output": folder / "data" / "3dpw.h5",
        "splits": ("train", "test"),
        "crop_size": 64,
    }
    return Preprocess3DPW(**values | changes)


def released(raw: Path, part: str, number: int) -> dict[str, Any]:
    path = raw / "sequenceFiles" / part / f"studio_{part}_{number:02d}.pkl"
    read: dict[str, Any] = pickle.loads(path.read_bytes(), encoding="latin1")  # the studio's own file
    return read


def test_the_truth_s_masks_belong_to_the_people_filmed(raw: Path, tmp_path: Path) -> None:
    """A carried camera is one camera in the data set, and one for each frame in the truth."""
    output, made = tmp_path / "masks.h5", tmp_path / "data" / "3dpw.h5"
    preprocess_3dpw(settings(raw, tmp_path, boxes="bodies", crops=False))
    report = pseudo_label_masks(PseudoLabelMasks(dataset=made, output=output, source="truth", device="cpu"))
    with Artifact(output, MASKS) as masks, Artifact(made) as dataset:
        assert report.counts["masks"] == dataset.rows("samples") > 0
        key = ("sequence", "frame", "person", "camera")
        rows = zip(*(masks.read("samples", name).tolist() for name in key), strict=True)
        of_key = dict(zip(rows, masks.read("samples", "bbox"), strict=True))
        found = np.stack([of_key[row] for row in zip(*(dataset.read("samples", n).tolist() for n in key), strict=True)])
        boxes = dataset.read("samples", "bbox")
    middle = (found[:, :2] + found[:, 2:]) / 2
    assert ((middle > boxes[:, :2]) & (middle < boxes[:, 2:])).all()


def test_the_layout_is_that_of_3dpw(raw: Path) -> None:
    one, two = released(raw, "test", 0), released(raw, "test", 1)
    assert {len(one["poses"]), len(two["poses"])} == {1, 2}
    assert {len(betas) for betas in [*one["betas"], *two["betas"]]} == {10, 300}
    poses = [pose for read in (one, two) for pose in read["poses2d"]]
    assert {pose.shape for pose in poses} == {(FRAMES, 3, 18)}
    assert any(not pose[frame].any() for pose in poses for frame in range(FRAMES))
    assert max(np.abs(pose).max() for pose in poses) > 1e8
    assert any((np.array(valid) == 0).any() for read in (one, two) for valid in read["campose_valid"])
    for read in (one, two):
        assert read["cam_poses"].shape == (FRAMES, 4, 4)
        assert [pose.shape for pose in read["poses_60Hz"]] == [(2 * FRAMES - 1, 72)] * len(read["poses"])
        assert len(list((raw / "imageFiles" / read["sequence"]).glob("image_?????.jpg"))) == FRAMES
    keys = pickle.loads((raw / "sequenceFiles/test/studio_test_00.pkl").read_bytes(), encoding="bytes")
    assert all(isinstance(key, bytes) for key in keys)


def test_the_studio_gives_the_same_again_and_does_no_work_twice(raw: Path, tmp_path: Path) -> None:
    assert synthesize_3dpw(studio(raw)).skipped
    synthesize_3dpw(studio(tmp_path / "again", train=0, test=1, frames=2))
    synthesize_3dpw(studio(tmp_path / "twice", train=0, test=1, frames=2))
    for path in sorted((tmp_path / "again").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "twice" / path.relative_to(tmp_path / "again")).read_bytes()


def test_samples_are_the_people_whose_camera_is_trusted(raw: Path, made: Path) -> None:
    expected = set()
    for sequence, (part, number) in enumerate((("train", 0), ("test", 0), ("test", 1))):
        valid = released(raw, part, number)["campose_valid"]
        expected |= {(sequence, int(f), person) for person, row in enumerate(valid) for f in np.flatnonzero(row)}
    with Artifact(made / "data/3dpw.h5", DATASET) as dataset:
        keys = zip(*(dataset.read("samples", name).tolist() for name in ("sequence", "frame", "person")), strict=True)
        assert set(keys) == expected
        assert dataset.skeleton == H36M17
        assert dataset.read("sequences", "split").tolist() == ["train", "test", "test"]
        assert dataset.header.facts["counts"]["left_out_camera_not_trusted"] == 16 - len(expected)
        assert decode_image(dataset.read_ragged("samples", "image", slice(0, 1))[0]).shape == (64, 64, 3)


def test_joints_are_the_regressors_on_the_released_bodies_seen_by_the_camera(raw: Path, made: Path) -> None:
    body = load_body()
    model, rows = BodyModel(body, dtype=torch.float64), regressor(body, H36M17)
    with Artifact(made / "data/3dpw.h5", DATASET) as dataset:
        samples = {
            name: dataset.read("samples", name) for name in ("sequence", "frame", "person", "joints3d", "keypoints2d")
        }
        detections, boxes = dataset.read("samples", "detections"), dataset.read("samples", "bbox")
    releases = [released(raw, *which) for which in (("train", 0), ("test", 0), ("test", 1))]
    for row, (sequence, frame, person) in enumerate(
        zip(samples["sequence"], samples["frame"], samples["person"], strict=True)
    ):
        read = releases[sequence]
        arrays = read["betas"][person][:10], read["poses"][person][frame], read["trans"][person][frame]
        betas, pose, place = (torch.from_numpy(values)[None] for values in arrays)
        joints = rows @ model(betas, pose.reshape(1, 24, 3), place).vertices[0].numpy()
        camera = read["cam_poses"][frame]
        expected = joints @ camera[:3, :3].T + camera[:3, 3]
        np.testing.assert_allclose(samples["joints3d"][row], expected, atol=2e-5)
        pixels = expected @ read["cam_intrinsics"].T
        np.testing.assert_allclose(samples["keypoints2d"][row, :, :2], pixels[:, :2] / pixels[:, 2:], atol=2e-2)
        found = read["poses2d"][person][frame]
        assert detections[row] == (found[2] > 0.3).sum()
        if found.any():
            places = found[:2, (found[2] > 0) & (np.abs(found[0]) < 1e6)]
            np.testing.assert_allclose(boxes[row], [*places.min(1), *places.max(1)], rtol=1e-6)


def test_the_release_states_the_same_joints(made: Path) -> None:
    with Artifact(made / "data/3dpw.h5", DATASET) as dataset:
        assert max(dataset.header.facts["joint_mm"]) < 0.01


def test_truth_and_detections(raw: Path, made: Path) -> None:
    with Artifact(made / "data/3dpw.h5", DATASET) as dataset, Artifact(made / "labels/3dpw.truth.h5", TRUTH) as truth:
        assert truth.header.inputs["dataset"] == dataset.digest
        table = truth.table("bodies")
        joints = dataset.read("samples", "joints3d")
    body = load_body()
    arrays = (torch.from_numpy(table[name]) for name in ("betas", "pose", "translation"))
    vertices = BodyModel(body)(*arrays).vertices.numpy()
    np.testing.assert_allclose(regressor(body, H36M17) @ vertices, joints, atol=2e-5)
    assert set(table["gender"].tolist()) == {"male", "female"}
    with Artifact(made / "labels/3dpw.keypoints.h5", KEYPOINTS) as found:
        places = found.read("samples", "keypoints2d")
        assert found.skeleton.name == "coco18"
    assert np.nanmax(np.abs(places[..., :2])) < 1e3
    assert ((places[..., 2] > 0) == np.isfinite(places[..., 0])).all()


def test_men_and_women_have_bodies_of_their_own(raw: Path, made: Path, men: Path, tmp_path: Path) -> None:
    report = preprocess_3dpw(settings(raw, tmp_path, body_male=men, crops=False))
    assert report.metrics["stated_joints_mm"] > 5.0
    assert any("published figures need" in note for note in report.notes)
    with Artifact(tmp_path / "data/3dpw.h5") as taller, Artifact(made / "data/3dpw.h5") as plain:
        moved = np.abs(taller.read("samples", "joints3d") - plain.read("samples", "joints3d")).max((1, 2))
    with Artifact(tmp_path / "labels/3dpw.truth.h5") as truth:
        gender = truth.read("bodies", "gender").astype(str)
    assert (moved[gender == "male"] > 0.01).all()
    assert (moved[gender == "female"] == 0).all()


def test_a_second_run_does_nothing_and_lost_labels_are_made_again(raw: Path, tmp_path: Path) -> None:
    config = settings(raw, tmp_path, crops=False)
    preprocess_3dpw(config)
    truth = tmp_path / "labels/3dpw.truth.h5"
    content = truth.read_bytes()
    assert preprocess_3dpw(config).skipped
    truth.unlink()
    assert not preprocess_3dpw(config).skipped
    assert truth.read_bytes() == content


def test_what_is_missing_or_damaged_is_counted_and_the_rest_goes_on(raw: Path, made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "raw"
    shutil.copytree(raw, copy)
    assert "nothing is missing" in preprocess_3dpw(settings(copy, tmp_path, check=True)).notes[0]
    (copy / "imageFiles/studio_test_00/image_00000.jpg").unlink()
    broken = copy / "sequenceFiles/train/studio_train_00.pkl"
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(MissingFileError, match=r"(?s)2 files.*studio_train_00.*image_00000"):
        preprocess_3dpw(settings(copy, tmp_path, check=True))
    report = preprocess_3dpw(settings(copy, tmp_path))
    assert report.counts["pictures_broken"] == 1
    assert "not a readable pickle" in str(report.tables[0].rows)
    with Artifact(tmp_path / "data/3dpw.h5") as rest, Artifact(made / "data/3dpw.h5") as whole:
        sequences = whole.read("samples", "sequence")
        assert rest.rows("samples") == (sequences > 0).sum() - 1
        np.testing.assert_array_equal(np.unique(rest.read("samples", "sequence")), [1, 2])
    with pytest.raises(MissingFileError, match="--check"):
        preprocess_3dpw(settings(copy, tmp_path, splits=("validation",)))


class _Call:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.system, ("true",)


def test_a_pickle_that_would_run_code_ends_the_work(raw: Path, tmp_path: Path) -> None:
    copy = tmp_path / "raw"
    shutil.copytree(raw / "sequenceFiles", copy / "sequenceFiles")
    (copy / "sequenceFiles/test/studio_test_01.pkl").write_bytes(pickle.dumps({"poses": _Call()}, protocol=2))
    with pytest.raises(UnsafeFileError, match="could run code"):
        preprocess_3dpw(settings(copy, tmp_path, crops=False))
    assert not (tmp_path / "data/3dpw.h5").exists()


def write_fits(folder: Path, *, shift: float = 0.05) -> dict[str, np.ndarray]:
    """Fits near the truth of a data set, at `predictions/3dpw.h5`."""
    random = np.random.default_rng(0)
    with Artifact(folder / "data/3dpw.h5") as dataset, Artifact(folder / "labels/3dpw.truth.h5") as truth:
        table, digest, cameras = truth.table("bodies"), dataset.digest, dataset.table("cameras")
    count = len(table["frame"])
    pose = table["pose"].astype(np.float64) + shift * random.normal(size=table["pose"].shape)
    turn = matrix_from_axis_angle(torch.from_numpy(pose[:, 0])).numpy()
    pose[:, 0] = 0.0
    fits: dict[str, Any] = {
        **{name: table[name] for name in ("sequence", "frame", "person")},
        "camera": table["sequence"],
        "pose": pose,
        "segment_scales": np.ones((count, 24)),
        "betas": table["betas"],
        "orientation": turn,
        "translation": table["translation"] + random.normal(size=(count, 3)),
        "scale": np.ones(count),
        "losses": np.zeros((count, 1)),
        "residual_px": np.zeros(count),
        "ok": np.ones(count, dtype=bool),
        "reason": [""] * count,
    }
    header = Header("fits", "test", inputs={"dataset": digest}, facts={"body": load_body().digest})
    with ArtifactWriter(folder / "predictions/3dpw.h5", header) as writer:
        writer.append("cameras", cameras)
        writer.append("fits", fits)
    return fits


def procrustes(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    p, q = p - p.mean(0), q - q.mean(0)
    u, s, vt = np.linalg.svd(p.T @ q)
    z = np.array([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])
    return np.linalg.norm((z * s).sum() / (p**2).sum() * p @ ((vt.T * z) @ u.T).T - q, axis=1)


def own_figures(folder: Path, fits: dict[str, np.ndarray], men: Path, protocol: str) -> tuple[int, list[float]]:
    """MPJPE, PA-MPJPE and PVE (mm) computed anew."""
    body = load_body()
    rows = regressor(body, H36M17)
    # The order of the SPIN family over standard 17 joints (right leg first), in its own words.
    j14 = [3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10]
    assert len(j14) == len(J14)
    models = {"male": load_body(men), "female": body}
    with Artifact(folder / "data/3dpw.h5") as dataset, Artifact(folder / "labels/3dpw.truth.h5") as truth:
        table, split = truth.table("bodies"), dataset.read("sequences", "split").astype(str)
        detections = dataset.read("samples", "detections")
    taken = split[table["sequence"]] == "test"
    if protocol == "3dpw-vibe":
        taken &= detections > 6
    stored = {name: np.asarray(values, np.float32) for name, values in fits.items() if name not in ("reason", "ok")}
    predicted = posed_bodies(stored, SegmentScaledBody(body)).points.double().numpy()
    figures = []
    for row in np.flatnonzero(taken):
        own = models[str(table["gender"][row])]
        arrays = (torch.from_numpy(table[name][row : row + 1]) for name in ("betas", "pose", "translation"))
        true = BodyModel(own)(*arrays).vertices[0].double().numpy()
        p17, q17 = rows @ predicted[row], regressor(own, H36M17) @ true
        root = [0] if protocol == "3dpw-spin" else [1, 4]
        p, q = (points[j14] - points[root].mean(0) for points in (p17, q17))
        vertices = np.linalg.norm((predicted[row] - p17[0]) - (true - q17[0]), axis=1).mean()
        figures.append([np.linalg.norm(p - q, axis=1).mean(), procrustes(p, q).mean(), vertices])
    return len(figures), (1000 * np.mean(figures, axis=0)).tolist()


def test_both_selections_of_frames_against_figures_computed_anew(raw: Path, men: Path, tmp_path: Path) -> None:
    preprocess_3dpw(settings(raw, tmp_path, body_male=men, crops=False))
    fits = write_fits(tmp_path)
    counts = []
    for protocol in ("3dpw-spin", "3dpw-vibe"):
        count, figures = own_figures(tmp_path, fits, men, protocol)
        config = Evaluate3DPW(
            dataset=tmp_path / "data/3dpw.h5", protocol=protocol, body_male=men, bootstrap=20, device="cpu"
        )
        report = evaluate(config)
        assert evaluate(config).skipped
        content = json.loads(report.outputs[0].read_text())
        assert content["protocol"]["name"] == protocol
        assert content["protocol"]["split"] == "test"
        assert content["results"]["predictions"]["evaluated"] == count
        found = [
            content["results"][heading]["metrics"][metric]["mean"]
            for heading, metric in (
                ("predictions", "mpjpe"),
                ("predictions", "pa_mpjpe"),
                ("predictions_vertices", "per_vertex"),
            )
        ]
        np.testing.assert_allclose(found, figures, rtol=1e-4)
        counts.append(count)
    assert counts[0] > counts[1] > 0


def test_other_bodies_than_those_of_the_truth_are_refused(raw: Path, made: Path, men: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "made")
    write_fits(tmp_path / "made")
    dataset = tmp_path / "made/data/3dpw.h5"
    with pytest.raises(InputError, match="another male body"):
        evaluate(Evaluate3DPW(dataset=dataset, body_male=men, device="cpu", bootstrap=0))


def test_a_body_without_regressor_needs_one_from_a_file(raw: Path, made: Path, tmp_path: Path) -> None:
    with np.load(FREE_BODY) as archive:
        arrays = dict(archive)
    np.save(tmp_path / "J_regressor_h36m.npy", arrays.pop("J_regressor_h36m").astype(np.float64))
    np.savez(tmp_path / "bare.npz", **arrays)
    bare = tmp_path / "bare.npz"
    with pytest.raises(InputError, match="without a regressor"):
        preprocess_3dpw(settings(raw, tmp_path, body=bare, crops=False))
    file = tmp_path / "J_regressor_h36m.npy"
    preprocess_3dpw(settings(raw, tmp_path, body=bare, regressor=file, crops=False))
    with Artifact(tmp_path / "data/3dpw.h5") as dataset, Artifact(made / "data/3dpw.h5") as plain:
        np.testing.assert_allclose(dataset.read("samples", "joints3d"), plain.read("samples", "joints3d"), atol=1e-6)


_LINES = """
import sys
from posekit.cli.main import main
for line in sys.argv[1:]:
    sys.argv = ["posekit", *line.split()]
    try:
        main()
    except SystemExit as ended:
        sys.stdout.write(f"code {ended.code or 0}\\n")
"""


def test_the_commands_work_as_typed(tmp_path: Path) -> None:
    def typed(*lines: str) -> str:
        """Several commands in one process, which starts slowly; what came on stdout, exit codes between."""
        environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        command = [sys.executable, "-c", _LINES, *lines]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    options = "--train 1 --validation 0 --test 1 --frames 2 --size 96"
    prepare = ("init .", f"synthesize 3dpw {options}", "preprocess 3dpw --splits train,test")
    parts = typed(*prepare, "eval 3dpw", "eval 3dpw --baseline --json").split("code ")
    assert [part[0] for part in parts[1:]] == ["0", "0", "0", "2", "0"]
    assert json.loads(parts[4].partition("\n")[2])["metrics"]["mean-pose_pa_mpjpe_mm"] > 0
    write_fits(tmp_path, shift=0.0)
    metrics = json.loads(typed("eval 3dpw --json").partition("code")[0])["metrics"]
    # What is left are the pose correctives, which fitted bodies lack.
    assert metrics["predictions_pa_mpjpe_mm"] < 10.0
    assert metrics["predictions_vertices_per_vertex_mm"] < 10.0
