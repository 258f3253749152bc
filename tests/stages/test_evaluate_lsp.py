"""LSP from end to end: the studio's raw layouts, the data set and its segments, the evaluation of fitted bodies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import DATASET, SEGMENTS, TRUTH
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.body.surface import COARSE_6
from posekit.config.lsp import EvaluateLSP, PreprocessLSP, SynthesizeLSP
from posekit.errors import InputError, MissingFileError
from posekit.evaluation.keys import Keys
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.records import cameras_from_columns
from posekit.skeleton.catalog import LSP14
from posekit.stages.evaluate_lsp import PartPainter, evaluate_lsp
from posekit.stages.preprocess_lsp import preprocess_lsp
from posekit.stages.synthesize_lsp import synthesize_lsp

IMAGES, EXTENDED = 8, 4


def studio(folder: Path, **changes: Any) -> SynthesizeLSP:
    settings: dict[str, Any] = {
        "output": folder,
        "images": IMAGES,
        "extended": EXTENDED,
        "size": 150,
        "seed": 5,
        "device": "cpu",
    }
    return SynthesizeLSP(**settings | changes)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studio") / "lsp"
    assert synthesize_lsp(studio(folder)).counts == {"pictures": IMAGES, "pictures_extended": EXTENDED}
    return folder


def settings(raw: Path, folder: Path, **changes: Any) -> PreprocessLSP:
    values: dict[str, Any] = {"raw": raw, "output": folder / "data" / "lsp.h5", "crop_size": 64}
    return PreprocessLSP(**values | changes)


@pytest.fixture(scope="module")
def made(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    preprocess_lsp(settings(raw, folder))
    return folder


def grey(encoded: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))


def true_parts(raw: Path, sequence: int, number: int, size: tuple[int, int]) -> np.ndarray:
    """The six parts of a picture from the studio's own truth."""
    with Artifact(raw / "truth.h5", TRUTH) as truth:
        keys = Keys.read(truth, "views")
        (row,) = np.flatnonzero((keys.sequence == sequence) & (keys.frame == number))
        iuv = np.asarray(cv2.imdecode(truth.read_ragged("views", "iuv", slice(row, row + 1))[0], cv2.IMREAD_COLOR))
        x, y = truth.read("views", "origin", slice(row, row + 1))[0]
    parts = np.zeros(size, np.uint8)
    parts[y : y + iuv.shape[0], x : x + iuv.shape[1]] = COARSE_6[iuv[..., 2]]
    return parts


def test_the_layouts_are_those_of_the_releases(raw: Path) -> None:
    assert scipy.io.loadmat(raw / "lsp_dataset/joints.mat")["joints"].shape == (3, 14, IMAGES)
    extended = scipy.io.loadmat(raw / "lspet_dataset/joints.mat")["joints"]
    assert extended.shape == (14, 3, EXTENDED)
    assert (extended[:, :2][extended[:, 2:].repeat(2, 1) == 0] <= 0).all()
    assert (raw / "lsp_dataset/images/im0001.jpg").is_file()
    assert (raw / "lspet_dataset/images/im00004.jpg").is_file()
    sizes = []
    for number in range(1, IMAGES + 1):
        picture = np.asarray(cv2.imread(str(raw / f"lsp_dataset/images/im{number:04d}.jpg")))
        parts = np.asarray(
            cv2.imread(str(raw / f"upi-s1h/data/lsp/im{number:04d}_part_segmentation.png"), cv2.IMREAD_UNCHANGED)
        )
        assert parts.ndim == 2
        assert set(np.unique(parts)) <= {*range(7), 255}
        sizes.append(parts.shape[0] / picture.shape[0])
    assert min(sizes) < 1 < max(sizes)


def test_the_data_set_has_the_joints_where_they_are(raw: Path, made: Path) -> None:
    lsp = scipy.io.loadmat(raw / "lsp_dataset/joints.mat")["joints"]
    extended = scipy.io.loadmat(raw / "lspet_dataset/joints.mat")["joints"]
    with Artifact(made / "data/lsp.h5", DATASET) as dataset:
        assert dataset.skeleton == LSP14
        assert dataset.read("sequences", "split").tolist() == ["train", "test", "train"]
        keys, found = Keys.read(dataset, "samples"), dataset.read("samples", "keypoints2d")
    assert (keys.sequence == np.repeat([0, 1, 2], [IMAGES // 2, IMAGES // 2, EXTENDED])).all()
    np.testing.assert_allclose(found[:IMAGES, :, :2], lsp[:2].transpose(2, 1, 0) - 1.0, rtol=1e-5)
    assert (found[:IMAGES, :, 2] == 1).all()
    np.testing.assert_array_equal(found[IMAGES:, :, 2], extended[:, 2].T)
    assert np.isnan(found[IMAGES:, :, 0][found[IMAGES:, :, 2] == 0]).all()


def test_hidden_joints_may_count_less_and_pixels_may_begin_at_zero(raw: Path, tmp_path: Path) -> None:
    preprocess_lsp(settings(raw, tmp_path, sets=("lsp",), hidden_confidence=0.25, pixel_origin="0", crops=False))
    lsp = scipy.io.loadmat(raw / "lsp_dataset/joints.mat")["joints"]
    with Artifact(tmp_path / "data/lsp.h5", DATASET) as dataset:
        found = dataset.read("samples", "keypoints2d")
    np.testing.assert_allclose(found[..., 2], np.where(lsp[2].T == 1, 0.25, 1.0))
    np.testing.assert_allclose(found[..., :2], lsp[:2].transpose(2, 1, 0), rtol=1e-5)


@pytest.mark.parametrize("order", ["upi-s1h", "rendered"])
def test_segments_are_the_truth_in_either_order_and_size(raw: Path, tmp_path: Path, order: str) -> None:
    folder = raw
    if order == "rendered":
        folder = tmp_path / "raw"
        synthesize_lsp(studio(folder, extended=0, part_order=order))
    report = preprocess_lsp(settings(folder, tmp_path, sets=("lsp",), crops=False))
    assert any("rendered" in note for note in report.notes) == (order == "rendered")
    with Artifact(tmp_path / "labels/lsp.segments.h5", SEGMENTS) as segments:
        assert segments.header.facts["part_order"] == order
        assert segments.rows("samples") == IMAGES
        keys, sizes = Keys.read(segments, "samples"), segments.read("samples", "size")
        masks, parts = (segments.read_ragged("samples", name) for name in ("mask", "parts"))
    for row in range(IMAGES):
        number, size = int(keys.frame[row]), (int(sizes[row, 0]), int(sizes[row, 1]))
        truth = true_parts(folder, int(keys.sequence[row]), number, size)
        found = grey(parts[row])
        decided = found != 255
        np.testing.assert_array_equal(found[decided], truth[decided])
        assert decided.mean() > 0.9
        np.testing.assert_array_equal(grey(masks[row])[:-1] > 0, truth[:-1] > 0)


def test_damage_is_counted_and_the_rest_goes_on(raw: Path, tmp_path: Path) -> None:
    copy = tmp_path / "raw"
    shutil.copytree(raw, copy)
    assert "nothing is missing" in preprocess_lsp(settings(copy, tmp_path, check=True)).notes[0]
    (copy / "lsp_dataset/images/im0001.jpg").unlink()
    broken = copy / "lsp_dataset/images/im0002.jpg"
    broken.write_bytes(broken.read_bytes()[:500])
    cv2.imwrite(str(copy / "upi-s1h/data/lsp/im0003_part_segmentation.png"), np.full((150, 20), 9, np.uint8))
    with pytest.raises(MissingFileError, match="im0001"):
        preprocess_lsp(settings(copy, tmp_path, check=True))
    config = settings(copy, tmp_path)
    report = preprocess_lsp(config)
    assert report.counts["pictures_broken"] == 2
    assert report.counts["segmentations_broken"] == 1
    assert report.counts["samples"] == IMAGES + EXTENDED - 2
    assert report.counts["parts"] == IMAGES - 3
    assert preprocess_lsp(config).skipped
    with pytest.raises(MissingFileError, match="--check"):
        preprocess_lsp(settings(copy / "upi-s1h", tmp_path))


def write_fits(raw: Path, folder: Path, *, without: int = 0) -> None:
    """Weak-perspective fits of the true bodies of LSP, at `predictions/lsp.h5`."""
    with Artifact(folder / "data/lsp.h5") as dataset, Artifact(raw / "truth.h5", TRUTH) as truth:
        digest, cameras = dataset.digest, dataset.table("cameras")
        table, lenses = truth.table("bodies"), cameras_from_columns(truth.table("cameras"))
    rows = np.flatnonzero(table["sequence"] < 2)[without:]
    body = SegmentScaledBody(load_body())
    fits: dict[str, list[Any]] = {}
    for row in rows:
        # Pictures are numbered as their cameras are.
        camera = lenses[int(row)]
        betas = torch.from_numpy(table["betas"][row : row + 1])
        root = table["translation"][row] + (load_body().rest_joints + load_body().joint_shapedirs @ betas[0].numpy())[0]
        centre = camera.rotation @ root + camera.translation
        turn = matrix_from_axis_angle(torch.from_numpy(table["pose"][row, 0].astype(np.float64))).numpy()
        pose = table["pose"][row].copy()
        pose[0] = 0.0
        pixel = camera.intrinsics @ centre
        per_metre = camera.intrinsics[0, 0] / centre[2]
        values = {
            "sequence": table["sequence"][row],
            "frame": table["frame"][row],
            "person": 0,
            "camera": 0,
            "pose": pose,
            "segment_scales": np.ones(body.joint_count),
            "betas": betas[0].numpy(),
            "orientation": camera.rotation @ turn,
            "translation": np.zeros(3),
            "scale": 0.01 * per_metre,
            # One crop unit is 100 px.
            "crop_from_image": np.array(
                [[0.01, 0.0, -0.01 * pixel[0] / pixel[2]], [0.0, 0.01, -0.01 * pixel[1] / pixel[2]]]
            ),
            "losses": np.zeros(1),
            "residual_px": 0.0,
            "ok": True,
            "reason": "",
        }
        for name, value in values.items():
            fits.setdefault(name, []).append(value)
    header = Header("fits", "test", inputs={"dataset": digest}, facts={"body": load_body().digest})
    with ArtifactWriter(folder / "predictions/lsp.h5", header) as writer:
        writer.append("cameras", cameras)
        writer.append("fits", {name: np.asarray(value) for name, value in fits.items()})


def test_true_bodies_cover_the_true_segments_and_the_figures_are_those_of_plain_sums(
    raw: Path, made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    write_fits(raw, tmp_path)
    config = EvaluateLSP(dataset=tmp_path / "data/lsp.h5", bootstrap=20, device="cpu")
    report = evaluate_lsp(config)
    assert evaluate_lsp(config).skipped
    content = json.loads(report.outputs[0].read_text())
    assert content["protocol"]["split"] == "test"
    found = content["results"]["predictions"]
    assert found["evaluated"] == IMAGES // 2
    # What is left is the perspective of the pictures, and the pose correctives, which fitted bodies lack.
    assert found["metrics"]["fg_bg_f1"]["mean"] > 0.9
    assert found["metrics"]["part_f1"]["mean"] > 0.75

    with (
        Artifact(tmp_path / "labels/lsp.segments.h5") as segments,
        Artifact(tmp_path / "data/lsp.h5") as dataset,
        Artifact(tmp_path / "predictions/lsp.h5") as fits,
    ):
        painter = PartPainter(dataset, fits, SegmentScaledBody(load_body()))
        keys = Keys.read(segments, "samples")
        test = np.flatnonzero(keys.sequence == 1)
        painted = painter.paint(keys.at(test), segments.read("samples", "size", test))
        encoded = segments.read_ragged("samples", "parts")
        masks = segments.read_ragged("samples", "mask")
    p = np.concatenate([image.ravel() for image in painted])
    t = np.concatenate([grey(encoded[row]).ravel() for row in test])
    m = np.concatenate([grey(masks[row]).ravel() for row in test]) > 0
    decided = t != 255
    f1 = [2 * ((p == c) & (t == c)).sum() / (((p == c) & decided).sum() + (t == c).sum()) for c in range(7)]
    expected = {
        "fg_bg_accuracy": 100 * ((p > 0) == m).mean(),
        "fg_bg_f1": np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in ((p == 0, ~m), (p > 0, m))]),
        "part_accuracy": 100 * (p == np.where(decided, t, 0)).mean(),
        "part_f1": np.mean(f1),
    }
    for name, value in expected.items():
        assert found["metrics"][name]["mean"] == pytest.approx(value, abs=1e-6)


def test_pictures_without_a_fit_are_counted(raw: Path, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    write_fits(raw, tmp_path, without=IMAGES // 2 + 1)
    report = evaluate_lsp(EvaluateLSP(dataset=tmp_path / "data/lsp.h5", bootstrap=0, device="cpu"))
    assert report.counts["predictions: no prediction"] == 1
    assert any("left out" in note for note in report.notes)


def test_what_is_missing_is_named(made: Path, raw: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate_lsp(EvaluateLSP(dataset=tmp_path / "data/lsp.h5"))
    (tmp_path / "labels/lsp.segments.h5").unlink()
    with pytest.raises(InputError, match="no true segmentations"):
        evaluate_lsp(EvaluateLSP(dataset=tmp_path / "data/lsp.h5"))


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
    """All in one process, which starts slowly."""
    lines = (
        "init .",
        "synthesize lsp --images 4 --extended 1 --size 110",
        "preprocess lsp --check",
        "preprocess lsp",
        "register --iters 60 --device cpu --max-residual-px 100",
        "eval lsp --bootstrap 10 --json",
    )
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-c", _LINES, *lines]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    parts = done.stdout.split("code ")
    assert [part[0] for part in parts[1:]] == ["0"] * len(lines), done.stderr
    metrics = json.loads(parts[-2].partition("\n")[2])["metrics"]
    assert metrics["fits_fg_bg_accuracy_percent"] > 80
    assert 0 < metrics["fits_part_f1"] < 1
