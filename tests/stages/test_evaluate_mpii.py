"""MPII from rendered pictures to PCKh: `synthesize mpii`, `preprocess mpii`, `eval mpii`, `eval compare`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import DATASET, KEYPOINTS, TRUTH
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.landmarks import landmarks
from posekit.body.smpl_file import load_body
from posekit.body.surface import atlas_of
from posekit.camera_stack import stack_cameras
from posekit.config.mpii import EvaluateMpii, PreprocessMpii, SynthesizeMpii
from posekit.datasets.crops import decode_image
from posekit.datasets.mpii import RELEASE_FILE
from posekit.errors import DataError, FormatError, InputError, MissingFileError
from posekit.records import cameras_from_columns
from posekit.skeleton.catalog import MPII16
from posekit.stages.evaluate_mpii import evaluate_mpii
from posekit.stages.preprocess_mpii import preprocess_mpii
from posekit.stages.synthesize_mpii import synthesize_mpii
from posekit.synthetic.bodies import Take, posed

MEAN = [joint for joint in range(16) if joint not in (6, 7)]


def studio(output: Path, **changes: Any) -> SynthesizeMpii:
    given = {
        "output": output,
        "train": 5,
        "val": 4,
        "test": 1,
        "size": 150,
        "unlabelled": 0.3,
        "seed": 2,
        "device": "cpu",
    }
    return SynthesizeMpii(**{**given, **changes})


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mpii") / "raw" / "mpii"
    counts = synthesize_mpii(studio(folder)).counts
    assert counts["pictures"] == 10 and counts["people"] > 8 and counts["without_keypoints"] > 0
    return folder


def settings(raw: Path, root: Path, **changes: Any) -> PreprocessMpii:
    return PreprocessMpii(**{"raw": raw, "output": root / "data" / "mpii.h5", "crop_size": 64, **changes})


@pytest.fixture(scope="module")
def made(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the data set of the release, and that of the lists."""
    root = tmp_path_factory.mktemp("workspace")
    report = preprocess_mpii(settings(raw, root, splits=("train", "val", "test")))
    left_out = sum(count for name, count in report.counts.items() if name.startswith("left_out"))
    assert report.counts["samples"] + left_out == report.counts["people_annotated"]
    preprocess_mpii(settings(raw, root, layout="json", output=root / "data" / "listed.h5"))
    return root


@pytest.fixture
def raw_copy(raw: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(raw, tmp_path / "raw"))


def test_labels_and_head_sizes_are_those_of_the_bodies(raw: Path, made: Path) -> None:
    body = load_body()
    # Annotators take the middle of the hips for the pelvis.
    points = landmarks(body, ["mid_hip" if name == "pelvis" else name for name in MPII16.joints])
    head = np.isin(atlas_of(body).vertex_part, (23, 24))
    with Artifact(made / "data/mpii.h5", DATASET) as dataset, Artifact(raw / "truth.h5", TRUTH) as truth:
        assert dataset.skeleton == MPII16
        assert dataset.read("sequences", "split").tolist() == ["train", "test", "test"]
        samples, bodies, views = dataset.table("samples"), truth.table("bodies"), truth.table("views")
        cameras = cameras_from_columns(truth.table("cameras"))
        images = dataset.read_ragged("samples", "image")
        assert not cameras_from_columns(dataset.table("cameras"))[0].posed
    of_key = {
        key: row for row, key in enumerate(zip(bodies["sequence"], bodies["frame"], bodies["person"], strict=True))
    }
    labelled_at_all = 0
    for row, key in enumerate(zip(samples["sequence"], samples["frame"], samples["person"], strict=True)):
        at = of_key[key]
        betas, pose, place = (bodies[name][at : at + 1].astype(float) for name in ("betas", "pose", "translation"))
        result = posed(body, Take(1.0, betas[0], pose, place))
        model = stack_cameras([cameras[views["camera"][at]]])[0]
        joints = points.points(
            torch.from_numpy(result.vertices[:, points.vertex_ids]), torch.from_numpy(result.joints)
        )[0]
        exact = model.project(joints).numpy()
        labelled = samples["keypoints2d"][row][:, 2] > 0
        labelled_at_all += int(labelled.sum())
        assert np.isnan(samples["keypoints2d"][row][~labelled, :2]).all()
        crop = decode_image(images[row])
        assert crop.shape == (64, 64, 3)
        if key[0] == 2:
            assert not labelled.any() and np.isnan(samples["head_px"][row])
            continue
        assert np.abs(samples["keypoints2d"][row][labelled, :2] - exact[labelled]).max() <= 0.5 + 1e-3
        box = model.project(torch.from_numpy(result.vertices[0, head])).numpy()
        assert samples["head_px"][row] == pytest.approx(0.6 * np.linalg.norm(np.ptp(box, axis=0)), rel=1e-5)
    assert labelled_at_all > 100


def test_the_lists_give_the_same_data_set(made: Path) -> None:
    """But for what they do not say: head sizes of training, and the numbers of people who are not listed."""
    with Artifact(made / "data/mpii.h5") as release, Artifact(made / "data/listed.h5") as listed:
        one, other = release.table("samples"), listed.table("samples")
        count = len(other["frame"])
        assert count == (one["sequence"] < 2).sum()
        for name in ("sequence", "frame", "camera", "bbox", "keypoints2d", "crop_from_image"):
            assert np.array_equal(one[name][:count], other[name], equal_nan=name != "camera" and name != "frame"), name
        val = other["sequence"] == 1
        assert (
            np.allclose(one["head_px"][:count][val], other["head_px"][val]) and np.isnan(other["head_px"][~val]).all()
        )
        assert (one["person"][:count] >= other["person"]).all()
        assert listed.header.facts["layout"] == "json" and release.header.facts["layout"] == "mat"
        assert "valid.json" in release.header.facts["split_rule"]
        pictures = [artifact.read_ragged("samples", "image") for artifact in (release, listed)]
        assert all(np.array_equal(a, b) for a, b in zip(pictures[0], pictures[1], strict=False))


def write_keypoints(dataset: Path, output: Path, noise: float, seed: int = 0, keep: float = 1.0) -> None:
    rng = np.random.default_rng(seed)
    with Artifact(dataset, DATASET) as source:
        samples = source.table("samples")
        keypoints = samples["keypoints2d"].copy()
        keypoints[..., :2] = np.nan_to_num(keypoints[..., :2]) + noise * rng.normal(size=keypoints[..., :2].shape)
        rows = np.flatnonzero(rng.uniform(size=len(keypoints)) < keep)
        header = Header(KEYPOINTS.name, "test", inputs={"dataset": source.digest}, skeleton=MPII16)
    with ArtifactWriter(output, header) as writer:
        columns = {name: samples[name][rows] for name in ("sequence", "frame", "person", "camera")}
        writer.append("samples", {**columns, "keypoints2d": keypoints[rows]})


def pckh_of_lists(raw: Path, keypoints: Path, threshold: float) -> float:
    """From the raw lists and the key points alone, as HRNet computes it (annotations from one, one subtracted)."""
    people = json.loads((raw / "annot/valid.json").read_text())
    heads = scipy.io.loadmat(raw / "annot/gt_valid.mat")
    sizes = 0.6 * np.linalg.norm(heads["headboxes_src"][1] - heads["headboxes_src"][0], axis=0)
    with h5py.File(keypoints) as file:
        table = {name: file[f"samples/{name}"][:] for name in ("sequence", "frame", "person", "keypoints2d")}
    seen: dict[str, int] = {}
    right, count = np.zeros(16), np.zeros(16)
    for person, size in zip(people, sizes, strict=True):
        number = seen[person["image"]] = seen.get(person["image"], -1) + 1
        key = (table["sequence"] == 1) & (table["frame"] == int(person["image"][:-4])) & (table["person"] == number)
        visible = np.array(person["joints_vis"]) == 1
        count += visible
        if key.any():
            error = (
                np.linalg.norm(table["keypoints2d"][key][0, :, :2] - (np.array(person["joints"]) - 1.0), axis=1) / size
            )
            right += visible & (error <= threshold)
    share = 100.0 * right / count
    return float((share[MEAN] * count[MEAN]).sum() / count[MEAN].sum())


def pckh_of_release(raw: Path, keypoints: Path, threshold: float) -> float:
    """From the MATLAB file and the key points alone; all people with key points in training pictures."""
    release = scipy.io.loadmat(raw / RELEASE_FILE, struct_as_record=False, squeeze_me=True)["RELEASE"]
    with h5py.File(keypoints) as file:
        table = {name: file[f"samples/{name}"][:] for name in ("frame", "person", "keypoints2d")}
    right = count = 0
    for picture, training in zip(release.annolist, release.img_train, strict=True):
        for number, person in enumerate(np.atleast_1d(picture.annorect)):
            found = getattr(getattr(person, "annopoints", None), "point", None)
            if not training or found is None:
                continue
            size = 0.6 * np.hypot(person.x2 - person.x1, person.y2 - person.y1)
            (row,) = np.flatnonzero((table["frame"] == int(picture.image.name[:-4])) & (table["person"] == number))
            for point in np.atleast_1d(found):
                if point.id in MEAN:
                    count += 1
                    x, y = table["keypoints2d"][row, point.id, :2].astype(float)
                    right += np.hypot(x - (point.x - 1), y - (point.y - 1)) <= threshold * size
    return 100.0 * right / count


@pytest.mark.parametrize("noise", [0.8, 3.0])
def test_pckh_is_that_of_the_raw_files(raw: Path, made: Path, tmp_path: Path, noise: float) -> None:
    for name, split, reference in (("listed", "test", pckh_of_lists), ("mpii", "all", pckh_of_release)):
        dataset, keypoints = made / f"data/{name}.h5", tmp_path / f"{name}.h5"
        write_keypoints(dataset, keypoints, noise, keep=0.8 if name == "listed" else 1.0)
        config = EvaluateMpii(
            dataset=dataset, keypoints=keypoints, output=tmp_path / f"{name}.json", split=split, bootstrap=20
        )
        metrics = evaluate_mpii(config).metrics
        for metric, threshold in (("pckh_50", 0.5), ("pckh_10", 0.1)):
            assert metrics[f"keypoints_{metric}_percent"] == pytest.approx(
                reference(raw, keypoints, threshold), abs=1e-6
            )
        assert evaluate_mpii(config).skipped
        content = json.loads((tmp_path / f"{name}.json").read_text())
        assert content["protocol"]["split"] == split and content["protocol"]["thresholds"]["pckh_50"] == [0.5]
        with Artifact(tmp_path / f"{name}.errors.h5") as errors:
            assert errors.digest == content["errors"]["digest"]
            assert errors.rows("errors") == content["results"]["keypoints"]["evaluated"]


TYPED = """
import sys
from posekit.cli.main import app
for line in sys.stdin:
    app([*line.split(), "--json"], standalone_mode=False)
"""


def test_the_commands_as_typed(tmp_path: Path) -> None:
    lines = (
        "synthesize mpii --train 1 --val 1 --test 0 --people 1 --size 100 --truncated 0 --occluded 0 --device cpu",
        "preprocess mpii --check",
        "preprocess mpii --crop-size 64",
        "pseudo-label keypoints --dataset data/mpii.h5 --source truth --noise-px 2",
        "eval mpii --split all --bootstrap 10",
        "pseudo-label keypoints --dataset data/mpii.h5 --source truth --output labels/exact.h5",
        "eval mpii --split all --bootstrap 10 --keypoints labels/exact.h5 --output results/exact.json",
        "eval compare results/mpii.json results/exact.json --bootstrap 10",
    )
    command = [sys.executable, "-c", TYPED]
    done = subprocess.run(command, cwd=tmp_path, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    decoder, text, reports = json.JSONDecoder(), done.stdout.strip(), []
    while text:
        report, end = decoder.raw_decode(text)
        reports.append(report)
        text = text[end:].lstrip()
    assert len(reports) == len(lines)
    assert reports[0]["counts"]["people"] == 2 and reports[1]["counts"] == {"pictures": 2}
    rough, exact = (reports[number]["metrics"]["keypoints_pckh_10_percent"] for number in (4, 6))
    assert rough < 100.0 == exact
    compared = reports[7]["metrics"]
    assert compared["pckh_10_difference_percent"] > 0 and compared["pckh_10_improved"] > 0


def test_the_same_seed_gives_the_same_folder(raw: Path, tmp_path: Path) -> None:
    assert synthesize_mpii(studio(raw)).skipped
    again, first = tmp_path / "again", sorted(path for path in (raw / "images").iterdir())[:2]
    synthesize_mpii(studio(again, train=2, val=0, test=0))
    for path in first:
        assert (again / "images" / path.name).read_bytes() == path.read_bytes()
    assert json.loads((again / "annot/valid.json").read_text()) == []
    listed = json.loads((raw / "annot/train.json").read_text())
    names = {path.name for path in first}
    assert json.loads((again / "annot/train.json").read_text()) == [
        entry for entry in listed if entry["image"] in names
    ]
    assert "would render" in synthesize_mpii(studio(tmp_path / "dry", dry_run=True)).notes[0]
    own = tmp_path / "own"
    own.mkdir()
    (own / "a.txt").write_text("mine")
    with pytest.raises(InputError, match="did not make"):
        synthesize_mpii(studio(own))


def test_damaged_and_missing_files(raw_copy: Path, made: Path, tmp_path: Path) -> None:
    with Artifact(made / "data/mpii.h5") as artifact:
        frames = artifact.read("samples", "frame")
    broken, missing, turned = (raw_copy / "images" / f"{frame:09d}.jpg" for frame in np.unique(frames)[:3])
    broken.write_bytes(broken.read_bytes()[:900])
    missing.unlink()
    turned.write_bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    config = settings(raw_copy, tmp_path)
    report = preprocess_mpii(config)
    assert report.counts["pictures_broken"] == 2 and report.counts["pictures_missing"] == 1
    assert "cut short" in str(report.tables[0].rows) and missing.name in str(report.tables[0].rows)
    again = preprocess_mpii(config)
    assert again.skipped and again.counts == report.counts
    with pytest.raises(MissingFileError, match=missing.name):
        preprocess_mpii(settings(raw_copy, tmp_path, check=True))
    assert "would read" in preprocess_mpii(settings(raw_copy, tmp_path / "dry", dry_run=True)).notes[0]
    with pytest.raises(DataError, match="nobody of MPII remains"):
        preprocess_mpii(settings(raw_copy, tmp_path / "none", boxes="keypoints", splits=("test",)))
    path = raw_copy / RELEASE_FILE
    for length in (0, 100, 300, path.stat().st_size - 10):
        path.write_bytes(path.read_bytes()[:length] if length < path.stat().st_size else b"")
        with pytest.raises(FormatError, match=RELEASE_FILE):
            preprocess_mpii(settings(raw_copy, tmp_path))
    for file in [path, *(raw_copy / "annot").iterdir()]:
        file.unlink()
    with pytest.raises(MissingFileError, match="no annotations of MPII"):
        preprocess_mpii(settings(raw_copy, tmp_path))
    with pytest.raises(MissingFileError, match="1 files are missing"):
        preprocess_mpii(settings(raw_copy, tmp_path, check=True))


def test_what_cannot_be_evaluated(made: Path, tmp_path: Path) -> None:
    dataset = made / "data/mpii.h5"
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate_mpii(EvaluateMpii(dataset=dataset))
    write_keypoints(made / "data/listed.h5", tmp_path / "other.h5", 0.0)
    with pytest.raises(InputError, match="was not made from"):
        evaluate_mpii(EvaluateMpii(dataset=dataset, keypoints=tmp_path / "other.h5"))
    with pytest.raises(InputError, match="wrong kind"):
        evaluate_mpii(EvaluateMpii(dataset=dataset, keypoints=dataset))
