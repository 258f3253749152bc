from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import CORRESPONDENCES, DATASET, FITS, TRUTH
from posekit.body.landmarks import landmarks
from posekit.body.smpl_file import load_body
from posekit.camera_stack import stack_cameras
from posekit.config.coco import PreprocessCoco, SynthesizeCoco
from posekit.config.labels import Register
from posekit.datasets.coco import CHARTS_OF
from posekit.datasets.crops import decode_image
from posekit.errors import DataError, FormatError, MissingFileError
from posekit.records import cameras_from_columns
from posekit.skeleton.catalog import COCO17
from posekit.stages.preprocess_coco import preprocess_coco
from posekit.stages.register import register
from posekit.stages.synthesize_coco import synthesize_coco
from posekit.synthetic.bodies import Take, posed

DENSE_FILE = "annotations/densepose_coco_2014_train.json"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco") / "raw"
    synthesize_coco(SynthesizeCoco(output=folder, train=7, val=2, size=240, crowds=0.5, seed=1, device="cpu"))
    return folder


def settings(raw: Path, root: Path, **changes: object) -> PreprocessCoco:
    given: dict[str, object] = {"raw": raw, "output": root / "data" / "coco.h5", "crop_size": 96, "min_box_px": 30.0}
    return PreprocessCoco(**{**given, **changes})


@pytest.fixture(scope="module")
def made(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workspace")
    report = preprocess_coco(settings(raw, root))
    assert list(report.outputs) == [root / "data/coco.h5", root / "labels/coco.dense.h5"]
    left_out = sum(count for name, count in report.counts.items() if name.startswith("left_out"))
    assert report.counts["samples"] + left_out == report.counts["people_annotated"]
    return root


@pytest.fixture
def dataset(made: Path) -> Iterator[Artifact]:
    with Artifact(made / "data/coco.h5", DATASET) as artifact:
        yield artifact


@pytest.fixture
def truth(raw: Path) -> Iterator[Artifact]:
    with Artifact(raw / "truth.h5", TRUTH) as artifact:
        yield artifact


@pytest.fixture
def raw_copy(raw: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(raw, tmp_path / "raw"))


def test_samples_are_the_people_of_the_truth(dataset: Artifact, truth: Artifact) -> None:
    assert dataset.skeleton == COCO17
    assert list(dataset.read("sequences", "name")) == ["train2014", "val2014"]
    assert list(dataset.read("sequences", "split")) == ["train", "test"]
    samples, bodies, views = dataset.table("samples"), truth.table("bodies"), truth.table("views")
    images = dataset.read_ragged("samples", "image")
    cameras = cameras_from_columns(truth.table("cameras"))
    body, count = load_body(), dataset.rows("samples")
    points = landmarks(body, COCO17.joints)
    assert count > 4
    for row in range(count):
        key = tuple(samples[name][row] for name in ("sequence", "frame", "person"))
        at = [
            i
            for i in range(truth.rows("bodies"))
            if tuple(bodies[n][i] for n in ("sequence", "frame", "person")) == key
        ]
        assert len(at) == 1
        betas, pose, place = (bodies[name][at].astype(np.float64) for name in ("betas", "pose", "translation"))
        result = posed(body, Take(1.0, betas[0], pose, place))
        vertices = torch.from_numpy(result.vertices[:, points.vertex_ids])
        joints = points.points(vertices, torch.from_numpy(result.joints))[0]
        model = stack_cameras([cameras[views["camera"][at[0]]]])[0]
        exact = model.project(joints).numpy()
        labelled = samples["keypoints2d"][row][:, 2] > 0
        assert labelled[5:].all()
        assert np.abs(samples["keypoints2d"][row][labelled, :2] - exact[labelled]).max() <= 0.5 + 1e-3
        assert np.isnan(samples["keypoints2d"][row][~labelled, :2]).all()
        crop = decode_image(images[row])
        assert crop.shape == (96, 96, 3)
        low, high = (
            samples["bbox"][row].reshape(2, 2) @ samples["crop_from_image"][row][:, :2].T
            + (samples["crop_from_image"][row][:, 2])
        )
        assert max(high - low) == pytest.approx(96 / 1.2, abs=1e-3)
        assert np.allclose((high + low) / 2, 47.5, atol=1e-3)


def test_correspondences_are_where_the_vertices_are_seen(made: Path, dataset: Artifact, truth: Artifact) -> None:
    body = load_body()
    bodies, views = truth.table("bodies"), truth.table("views")
    cameras = cameras_from_columns(truth.table("cameras"))
    with Artifact(made / "labels/coco.dense.h5", CORRESPONDENCES) as dense:
        assert dense.header.inputs["dataset"] == dataset.digest
        assert dense.header.facts["body_digest"] == body.digest
        assert dense.rows("samples") == dataset.rows("samples")
        rows = dense.table("samples")
        pixels_of, vertices_of = (dense.read_ragged("samples", name) for name in ("pixels", "vertices"))
    edges = np.concatenate([body.faces[:, [0, 1]], body.faces[:, [1, 2]]])
    for row in range(len(rows["frame"])):
        at = np.flatnonzero(
            (bodies["sequence"] == rows["sequence"][row])
            & (bodies["frame"] == rows["frame"][row])
            & (bodies["person"] == rows["person"][row])
        )
        betas, pose, place = (bodies[name][at].astype(np.float64) for name in ("betas", "pose", "translation"))
        vertices = posed(body, Take(1.0, betas[0], pose, place)).vertices[0]
        pixels = stack_cameras([cameras[views["camera"][at[0]]]])[0].project(torch.from_numpy(vertices)).numpy()
        spacing = np.linalg.norm(pixels[edges[:, 0]] - pixels[edges[:, 1]], axis=1)
        away = np.linalg.norm(pixels[vertices_of[row]] - pixels_of[row], axis=1)
        # The nearest vertex of a seen point is nearer than the longer of the distances between neighbours.
        assert np.median(away) < np.percentile(spacing, 90)
        assert (away <= spacing.max()).mean() > 0.97


def test_a_second_run_does_nothing_and_lost_correspondences_are_made_again(raw: Path, made: Path) -> None:
    config = settings(raw, made)
    dense = made / "labels/coco.dense.h5"
    before = (made / "data/coco.h5").stat().st_mtime_ns
    content = dense.read_bytes()
    assert preprocess_coco(config).skipped
    dense.unlink()
    assert not preprocess_coco(config).skipped
    assert dense.read_bytes() == content
    assert (made / "data/coco.h5").stat().st_mtime_ns == before


def test_registration_runs_on_it(made: Path) -> None:
    report = register(Register(dataset=made / "data/coco.h5", iters=120, device="cpu", output=made / "fits/coco.h5"))
    with Artifact(made / "fits/coco.h5", FITS) as fits:
        assert fits.header.facts["camera"] == "weak"
        residual = fits.read("fits", "residual_px")
    assert np.median(residual) < 8.0
    assert report.metrics["ok_share"] > 0.5


def test_damaged_and_missing_pictures_are_counted_and_the_rest_goes_on(raw_copy: Path, tmp_path: Path) -> None:
    pictures = sorted((raw_copy / "train2014").iterdir())
    whole = preprocess_coco(settings(raw_copy, tmp_path / "whole", whole_body=False, people="all")).counts
    pictures[0].write_bytes(pictures[0].read_bytes()[:900])
    pictures[1].unlink()
    config = settings(raw_copy, tmp_path / "rest", whole_body=False, people="all")
    report = preprocess_coco(config)
    assert report.counts["pictures_broken"] == 1
    assert report.counts["pictures_missing"] == 1
    assert 0 < report.counts["samples"] < whole["samples"]
    assert "cut short" in str(report.tables[0].rows)
    assert preprocess_coco(config).counts == report.counts
    with pytest.raises(MissingFileError, match=pictures[1].name):
        preprocess_coco(settings(raw_copy, tmp_path / "rest", check=True, whole_body=False, people="all"))


def test_checks(raw: Path, tmp_path: Path) -> None:
    assert "nothing is missing" in preprocess_coco(settings(raw, tmp_path, check=True)).notes[0]
    assert "would read" in preprocess_coco(settings(raw, tmp_path, dry_run=True)).notes[0]
    assert not (tmp_path / "data").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(MissingFileError, match="2 files are missing"):
        preprocess_coco(settings(empty, tmp_path, check=True))
    with pytest.raises(MissingFileError, match="no annotations of COCO"):
        preprocess_coco(settings(empty, tmp_path))
    with pytest.raises(DataError, match="nobody of COCO remains"):
        preprocess_coco(settings(raw, tmp_path, min_box_px=5000.0))


def test_broken_annotations(raw_copy: Path, tmp_path: Path) -> None:
    path = raw_copy / DENSE_FILE
    path.write_text(path.read_text()[:2000])
    with pytest.raises(FormatError, match=r"densepose_coco_2014_train\.json is damaged"):
        preprocess_coco(settings(raw_copy, tmp_path))


def uv_processed(path: Path) -> None:
    """The charts of the shipped body in the form of DensePose's file: numbers from 1, a vertex for every chart."""
    body = load_body()
    assert body.face_part is not None
    assert body.face_part_uv is not None
    keys = np.concatenate(
        [
            np.repeat(body.face_part, 3)[:, None].astype(np.float64),
            body.faces.reshape(-1, 1),
            body.face_part_uv.reshape(-1, 2),
        ],
        axis=1,
    )
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    assert len(unique) > body.vertex_count
    scipy.io.savemat(
        path,
        {
            "All_FaceIndices": body.face_part[:, None].astype(np.uint8),
            "All_Faces": inverse.reshape(-1, 3) + 1,
            "All_vertices": unique[None, :, 1].astype(np.uint32) + 1,
            "All_U_norm": unique[:, 2:3],
            "All_V_norm": unique[:, 3:4],
        },
    )


def test_charts_of_densepose(raw_copy: Path, made: Path, tmp_path: Path) -> None:
    for path in (raw_copy / "annotations").iterdir():
        content = json.loads(path.read_text())
        del content["info"][CHARTS_OF]
        path.write_text(json.dumps(content))
    report = preprocess_coco(settings(raw_copy, tmp_path))
    assert list(report.outputs) == [tmp_path / "data/coco.h5"]
    assert "--uv-data" in report.notes[-1]
    uv_processed(tmp_path / "UV_Processed.mat")
    assert len(preprocess_coco(settings(raw_copy, tmp_path, uv_data=tmp_path / "UV_Processed.mat")).outputs) == 2
    with (
        Artifact(tmp_path / "labels/coco.dense.h5", CORRESPONDENCES) as first,
        Artifact(made / "labels/coco.dense.h5", CORRESPONDENCES) as second,
    ):
        both = (artifact.read_ragged("samples", "vertices") for artifact in (first, second))
        for one, other in zip(*both, strict=True):
            # Vertices at a seam may stand at one and the same place of a chart.
            assert (one == other).mean() > 0.98
            assert one.max() < load_body().vertex_count


def test_charts_of_another_body(raw_copy: Path, tmp_path: Path) -> None:
    for path in (raw_copy / "annotations").iterdir():
        content = json.loads(path.read_text())
        content["info"][CHARTS_OF] = "0" * 64
        path.write_text(json.dumps(content))
    with pytest.raises(FormatError, match="charts of another body"):
        preprocess_coco(settings(raw_copy, tmp_path))


def test_people_of_different_pictures_keep_their_own_shapes(raw: Path, made: Path) -> None:
    with Artifact(made / "data/coco.h5", DATASET) as dataset:
        count = dataset.rows("samples")
    repeated = made / "fits/shapes.h5"
    register(Register(dataset=made / "data/coco.h5", iters=20, device="cpu", output=repeated, shape="auto"))
    with Artifact(repeated, FITS) as fits:
        betas = fits.read("fits", "betas")
    assert len(np.unique(betas.round(6), axis=0)) == count
