"""Predictions by a tiny regressor, on pictures made here."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from posekit import parallel
from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.schema import FITS
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.landmarks import regressor
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.config.prediction import Predict
from posekit.config.results import Export, Render
from posekit.datasets.crops import decode_image, encode_image, square_crop
from posekit.datasets.pictures import guessed_camera
from posekit.errors import ArtifactError, ConfigError, DataError, FormatError, InputError, MissingFileError, OutputError
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.labeling.depth_networks import DepthGenerator
from posekit.models.backbone import Backbone, normalised
from posekit.models.body_regressor import BodyRegressor, regressed_bodies
from posekit.records import Clip, camera_columns, clip_columns
from posekit.registration.posing import crop_pixels, posed_bodies
from posekit.registration.refinement import REFINED, TOO_FEW, WORSE
from posekit.skeleton.catalog import COCO17, COMMON14, H36M17
from posekit.skeleton.skeleton import Skeleton
from posekit.stages import predict as stage
from posekit.stages.export import export
from posekit.stages.predict import predict
from posekit.stages.render import render
from posekit.stages.report import StageReport
from posekit.training.regressor import REGRESSOR, STAGE, RegressorFacts
from posekit.training.runs import KIND, RunFolder

SIZE = 32
COUNT = 5
BOX = np.array([20.0, 20.0, 180.0, 180.0])


def tiny_regressor(*, lively: bool = False) -> BodyRegressor:
    network = BodyRegressor(Backbone("resnet10"), load_body().joint_count, "quaternion")
    if lively:  # numbers that depend on the picture
        with torch.no_grad():
            network.head.weight.mul_(20.0)
    return network


def write_run(folder: Path, network: BodyRegressor, **changes: Any) -> Path:
    facts = RegressorFacts(SIZE, "resnet10", "quaternion", network.joint_count, load_body().digest).plain() | changes
    run = RunFolder(folder, Header(KIND, STAGE, facts=facts))
    run.begin()
    run.finish({f"{REGRESSOR}.{name}": value for name, value in network.state_dict().items()})
    return folder


@dataclass(frozen=True)
class People:
    """A data set of people near a T-pose, seen by a weak-perspective camera; their vertices in the image."""

    root: Path
    pixels: np.ndarray
    joints: np.ndarray

    @property
    def dataset(self) -> Path:
        return self.root / "data" / "small.h5"

    @property
    def dense(self) -> Path:
        return self.root / "labels" / "small.dense.h5"

    def write(
        self,
        *,
        confidence: float = 1.0,
        images: list[np.ndarray] | None = None,
        stills: bool = False,
        skeleton: Skeleton = H36M17,
    ) -> Path:
        random = np.random.default_rng(0)
        crop_from_image = square_crop(BOX, SIZE, 1.2)
        if images is None:
            noise = random.integers(0, 255, (COUNT, 4, 4, 3)).astype(np.uint8)
            images = [encode_image(cv2.resize(picture, (SIZE, SIZE)), "png") for picture in noise]
        facts = {"stills": stills}
        with ArtifactWriter(self.dataset, Header("dataset", "test", skeleton=skeleton, facts=facts)) as writer:
            writer.append("cameras", camera_columns([guessed_camera("view", 200, 200)]))
            clips = [Clip("a.png", 1.0, split="train"), Clip("b.png", 1.0, split="test")]
            writer.append("sequences", clip_columns(clips))
            samples: dict[str, Any] = {
                "sequence": [0, 0, 0, 1, 1],
                "frame": [0, 5, 10, 0, 0],
                "person": [0, 0, 0, 0, 1],
                "camera": [0] * COUNT,
                "bbox": [BOX] * COUNT,
                "keypoints2d": np.pad(self.joints, ((0, 0), (0, 0), (0, 1)), constant_values=confidence),
                "crop_from_image": [crop_from_image] * COUNT,
                "image": images,
            }
            writer.append("samples", samples)
        return self.dataset

    def write_dense(self, *, shift: float = 0.0, weight: float = 1.0, **facts: Any) -> Path:
        chosen = np.random.default_rng(1).choice(self.pixels.shape[1], 80, replace=False)
        with Artifact(self.dataset) as dataset:
            header = Header("correspondences", "test", inputs={"dataset": dataset.digest}, facts=facts)
            keys = {name: dataset.read("samples", name) for name in ("sequence", "frame", "person", "camera")}
        with ArtifactWriter(self.dense, header) as writer:
            points = {
                "pixels": list(self.pixels[:, chosen] + [shift, 0.0]),
                "vertices": [chosen] * COUNT,
                "weights": [np.full(80, weight)] * COUNT,
            }
            writer.append("samples", keys | points)
        return self.dense

    def config(self, **settings: Any) -> Predict:
        return Predict(**({"dataset": self.dataset, "model": self.root / "runs" / "tiny"} | settings))


@pytest.fixture
def people(tmp_path: Path) -> People:
    data = load_body()
    body = SegmentScaledBody(data)
    pose = 0.25 * torch.from_numpy(np.random.default_rng(2).normal(size=(COUNT, data.joint_count, 3))).float()
    pose[:, 0] = 0.0
    with torch.no_grad():
        posed = body.posed_vertices(matrix_from_axis_angle(pose), torch.ones(COUNT, data.joint_count), None).points
    units = 0.85 * posed.double().numpy() * [1.0, -1.0, -1.0]
    pixels = 100.0 + 96.0 * units[..., :2]
    made = People(tmp_path / "work place", pixels, regressor(data, H36M17) @ pixels)
    made.write()
    write_run(made.root / "runs" / "tiny", tiny_regressor())
    return made


def fits_of(path: Path) -> dict[str, np.ndarray]:
    with Artifact(path, FITS) as fits:
        return fits.table("fits")


def test_one_body_for_every_sample_as_the_network_gives_it(people: People) -> None:
    network = tiny_regressor(lively=True)
    report = predict(people.config(model=write_run(people.root / "runs" / "lively", network), batch=2))
    (output,) = report.outputs
    assert output == people.root / "predictions" / "small.h5"
    rows = fits_of(output)
    with Artifact(people.dataset) as dataset:
        for name in ("sequence", "frame", "person", "camera"):
            assert rows[name].tolist() == dataset.read("samples", name).tolist()
        crops = np.stack([decode_image(encoded) for encoded in dataset.read_ragged("samples", "image")])
    # The stored crop has the network's size and margin, so it is the network's input as it is.
    with torch.no_grad():
        raw = network.eval()(normalised(torch.from_numpy(crops)))
    expected = regressed_bodies(raw, network.joint_count, "quaternion").parameters(10)
    assert expected.pose.abs().max() > 0.05
    for name in ("pose", "segment_scales", "orientation", "translation", "scale", "betas"):
        np.testing.assert_allclose(rows[name], getattr(expected, name).numpy(), atol=2e-5)
    assert rows["ok"].all()
    assert not rows["betas"].any()
    np.testing.assert_allclose(rows["crop_from_image"], [[[1 / 96, 0, -100 / 96], [0, 1 / 96, -100 / 96]]] * COUNT)
    assert np.isfinite(rows["residual_px"]).all()
    assert report.metrics["network_ms_per_image"] > 0
    with Artifact(output) as fits:
        fits.verify()
        assert fits.header.stage == "predict"
        assert fits.header.facts["camera"] == "weak"


def test_residuals_are_distances_to_the_labels(people: People) -> None:
    report = predict(people.config())
    rows = fits_of(report.outputs[0])
    body = SegmentScaledBody(load_body())
    seen = crop_pixels(posed_bodies(rows, body).points, rows["crop_from_image"]).numpy()
    distance = np.linalg.norm(regressor(body.body, H36M17) @ seen - people.joints, axis=-1).mean(1)
    # The crop of 1.2 x 160 px has 224 px.
    np.testing.assert_allclose(rows["residual_px"], distance * 224 / 192, rtol=1e-3)
    assert report.metrics["residual_px_predicted"] == pytest.approx(float(rows["residual_px"].mean()), rel=1e-5)


def test_without_labels_residuals_are_nan(people: People) -> None:
    people.write(confidence=0.0)
    report = predict(people.config(refine=True))
    assert np.isnan(fits_of(report.outputs[0])["residual_px"]).all()
    assert report.counts[TOO_FEW] == COUNT
    assert "residual_px_predicted" not in report.metrics
    assert any("nothing was refined" in note for note in report.notes)


def test_refinement_comes_nearer_to_the_labels(people: People) -> None:
    people.write_dense()
    before = fits_of(predict(people.config(output=people.root / "plain.h5")).outputs[0])
    report = predict(people.config(refine=True))
    rows = fits_of(report.outputs[0])
    assert report.counts[REFINED] == COUNT
    assert (rows["residual_px"] < 0.5 * before["residual_px"]).all()
    metrics = report.metrics
    assert metrics["dense_px_after_refinement"] < 0.5 * metrics["dense_px_before_refinement"]
    assert metrics["residual_px_before_refinement"] == pytest.approx(float(before["residual_px"].mean()), rel=1e-5)
    assert metrics["residual_px_after_refinement"] == pytest.approx(float(rows["residual_px"].mean()), rel=1e-5)
    assert metrics["refinement_ms_per_image"] > 0
    assert not rows["pose"][:, 0].any()
    np.testing.assert_allclose(rows["orientation"] @ rows["orientation"].swapaxes(1, 2), [np.eye(3)] * COUNT, atol=1e-5)
    body = SegmentScaledBody(load_body())
    seen = crop_pixels(posed_bodies(rows, body).points, rows["crop_from_image"]).numpy()
    assert np.linalg.norm(seen - people.pixels, axis=-1).mean() < 8.0


def test_refinement_is_rejected_where_the_key_points_would_fit_worse(people: People) -> None:
    people.write_dense(shift=70.0)
    before = fits_of(predict(people.config(output=people.root / "plain.h5")).outputs[0])
    report = predict(people.config(refine=True, w_keypoints=0.0))
    rows = fits_of(report.outputs[0])
    assert report.counts[WORSE] == COUNT
    for name in ("pose", "translation", "scale", "residual_px"):
        np.testing.assert_array_equal(rows[name], before[name])


def test_weak_correspondences_are_not_used(people: People) -> None:
    people.write(confidence=0.0)
    people.write_dense(weight=0.4)
    assert predict(people.config(refine=True, min_score=0.5)).counts[TOO_FEW] == COUNT
    assert predict(people.config(refine=True, min_score=0.3)).counts[REFINED] == COUNT


def test_splits(people: People) -> None:
    assert predict(people.config(split="test")).counts["bodies"] == 2
    assert predict(people.config(split="train")).counts["bodies"] == 3


def test_unchanged_work_is_skipped(people: People) -> None:
    first = predict(people.config())
    again = predict(people.config(batch=1))
    assert again.skipped
    assert again.counts == first.counts
    assert not predict(people.config(force=True)).skipped
    assert not predict(people.config(refine=True)).skipped
    write_run(people.root / "runs" / "tiny", tiny_regressor(lively=True))
    assert not predict(people.config(refine=True)).skipped


def test_a_killed_run_goes_on_and_gives_the_same_file(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_SHARD_ROWS", 2)
    whole = people.root / "whole.h5"
    predict(people.config(output=whole))
    write, done = stage._Work.write, []

    def dies(self: Any, shards: Any, index: int) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        write(self, shards, index)
        done.append(index)

    monkeypatch.setattr(stage._Work, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        predict(people.config())
    assert not (people.root / "predictions" / "small.h5").exists()
    done[:] = [None]
    report = predict(people.config())
    assert done == [None, 2]
    with Artifact(whole) as first, Artifact(report.outputs[0]) as second:
        assert first.digest == second.digest


def test_pictures_that_cannot_be_used_are_marked(people: People) -> None:
    good = encode_image(np.zeros((SIZE, SIZE, 3), np.uint8), "png")
    broken, nothing = np.frombuffer(b"no picture", np.uint8), np.zeros(0, np.uint8)
    people.write(images=[good, broken, nothing, good, good])
    report = predict(people.config())
    rows = fits_of(report.outputs[0])
    assert rows["ok"].tolist() == [True, False, False, True, True]
    assert rows["reason"][1:3].tolist() == ["the stored picture cannot be decoded", "no picture stored"]
    assert np.isfinite(rows["pose"]).all()
    assert any("2 of 5" in note for note in report.notes)


@pytest.mark.parametrize("skeleton", [H36M17, COCO17], ids=lambda skeleton: skeleton.name)
def test_depths_of_a_lifter_guide_the_refinement(people: People, skeleton: Skeleton) -> None:
    """Also where the data set lacks joints of the lifter, which are then made from others."""
    people.write(skeleton=skeleton)
    people.write_dense()
    lifter = people.root / "runs" / "lifter"
    generator = DepthGenerator(len(COMMON14), 8, generator=torch.Generator().manual_seed(0))
    run = RunFolder(lifter, Header(KIND, "train lifter", settings={"joints": "common14", "width": 8}))
    run.begin()
    run.finish({f"generator.{name}": value for name, value in generator.state_dict().items()})
    refined = {"refine": True, "dense": people.dense, "w_keypoints": 0.0, "refine_iters": 5}
    without = fits_of(predict(people.config(**refined)).outputs[0])
    guided = predict(people.config(**refined, lifter=lifter, w_depth=10.0, output=people.root / "guided.h5"))
    rows = fits_of(guided.outputs[0])
    assert np.isfinite(rows["pose"]).all()
    assert not np.allclose(rows["pose"], without["pose"], atol=1e-4)


def test_a_network_that_gives_nan_is_marked(people: People) -> None:
    network = tiny_regressor()
    with torch.no_grad():
        network.head.bias.fill_(torch.nan)
    write_run(people.root / "runs" / "tiny", network)
    rows = fits_of(predict(people.config()).outputs[0])
    assert rows["reason"].tolist() == ["diverged"] * COUNT
    assert np.isfinite(rows["pose"]).all()
    assert np.isfinite(rows["scale"]).all()


def test_wrong_models_are_refused(people: People, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no run folder"):
        predict(people.config(model=tmp_path / "absent"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingFileError, match="not a run folder"):
        predict(people.config(model=tmp_path / "folder"))
    (tmp_path / "folder" / "checkpoint.safetensors").write_bytes(b"x")
    with pytest.raises(MissingFileError, match="not finished"):
        predict(people.config(model=tmp_path / "folder"))
    with pytest.raises(InputError, match="another body"):
        predict(people.config(model=write_run(tmp_path / "other", tiny_regressor(), body="0" * 64)))
    with pytest.raises(FormatError, match="no body regressor"):
        RunFolder(tmp_path / "lifter", Header(KIND, "train lifter")).begin()
        RunFolder(tmp_path / "lifter", Header(KIND, "train lifter")).finish({"generator.w": torch.zeros(1)})
        predict(people.config(model=tmp_path / "lifter"))
    weights = people.root / "runs" / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ArtifactError):
        predict(people.config())
    assert not (people.root / "predictions").exists()


def test_wrong_inputs_are_refused(people: People, tmp_path: Path) -> None:
    people.write_dense(body_digest="0" * 64)
    with pytest.raises(InputError, match="another body"):
        predict(people.config())
    people.write_dense()
    people.write(confidence=0.5)
    with pytest.raises(InputError, match="not made from"):
        predict(people.config())
    people.dense.unlink()
    with pytest.raises(MissingFileError):
        predict(people.config(dataset=tmp_path / "none.h5"))
    with pytest.raises(MissingFileError):
        predict(people.config(refine=True, lifter=tmp_path / "none"))
    with pytest.raises(ConfigError, match="without a data set"):
        predict(people.config(boxes=tmp_path / "boxes.json"))
    with pytest.raises(ConfigError, match="at once"):
        predict(people.config(media=tmp_path))
    with pytest.raises(ConfigError, match="refinement alone"):
        predict(people.config(lifter=tmp_path))
    with pytest.raises(ConfigError, match="16-mixed"):
        predict(people.config(precision="16-mixed", device="cpu"))
    with pytest.raises(OutputError):
        (tmp_path / "file").write_text("")
        predict(people.config(output=tmp_path / "file" / "out.h5"))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="CUDA"):
            predict(people.config(device="cuda"))


def test_a_split_without_samples_is_said(people: People) -> None:
    with Artifact(people.dataset) as dataset:
        assert set(dataset.read("sequences", "split")) == {"train", "test"}
    with ArtifactWriter(people.dataset, Header("dataset", "test", skeleton=H36M17)) as writer:
        writer.append("cameras", camera_columns([guessed_camera("view", 200, 200)]))
        writer.append("sequences", clip_columns([Clip("a", 1.0)]))
    with pytest.raises(DataError, match="none named"):
        predict(people.config(split="test"))


def test_a_data_set_without_pictures_is_refused(people: People) -> None:
    with Artifact(people.dataset) as dataset:
        samples = {n: v for n, v in dataset.table("samples").items() if n != "crop_from_image"}
        tables = {name: dataset.table(name) for name in ("cameras", "sequences")}
        header = dataset.header
    with ArtifactWriter(people.dataset, header) as writer:
        for name, columns in tables.items():
            writer.append(name, columns)
        writer.append("samples", samples)
    with pytest.raises(InputError, match="no pictures"):
        predict(people.config())


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_arithmetic_gives_nearly_the_same(people: People, precision: str) -> None:
    first = fits_of(predict(people.config()).outputs[0])
    second = fits_of(predict(people.config(precision=precision, output=people.root / "other.h5")).outputs[0])
    np.testing.assert_allclose(second["pose"], first["pose"], atol=0.05)


def test_dry_run_writes_nothing(people: People) -> None:
    assert "would predict 5 bodies" in predict(people.config(dry_run=True)).notes[0]
    assert not (people.root / "predictions").exists()


def make_media(root: Path) -> Path:
    folder = root / "my pictures"
    folder.mkdir(parents=True)
    for number, size in enumerate([(90, 60), (60, 120)]):
        picture = np.random.default_rng(number).integers(0, 255, (4, 4, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"p {number}.png"), cv2.resize(picture, size))
    (folder / "broken.jpg").write_bytes(b"x")
    return folder


def test_media_become_a_data_set_first(people: People, tmp_path: Path) -> None:
    data = tmp_path / "fresh" / "data"
    (tmp_path / "boxes.json").write_text(json.dumps({"p 0.png": [[10, 5, 40, 55], [40, 5, 80, 55]]}))
    config = people.config(dataset=None, media=make_media(tmp_path), data=data, boxes=tmp_path / "boxes.json")
    report = predict(config)
    assert report.outputs == [tmp_path / "fresh" / "predictions" / "my pictures.h5"]
    assert report.counts["bodies"] == 2
    assert any("broken.jpg" in note for note in report.notes)
    assert predict(config).skipped
    pictures = render(Render(dataset=data / "my pictures.h5"))
    assert [path.name for path in pictures.outputs] == ["000001_p_0.png", "pictures_overlay_sheet.png"]
    drawn = cv2.imread(str(pictures.outputs[0]))
    original = cv2.imread(str(config.media / "p 0.png"))
    assert drawn.shape == original.shape
    changed = np.abs(drawn.astype(int) - original).max(-1) > 8
    # Two T-poses, one in each box; nothing above and below.
    assert changed[20:40, 22:28].mean() > 0.5
    assert changed[20:40, 57:63].mean() > 0.5
    assert not changed[:, :3].any()
    meshes = export(Export(dataset=data / "my pictures.h5", formats=("obj", "trc")))
    assert {path.suffix for path in meshes.outputs} == {".obj", ".trc"}


def test_pictures_are_drawn_the_right_way_up(people: People, tmp_path: Path) -> None:
    folder = tmp_path / "turned"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.jpg"), np.full((60, 90, 3), 128, np.uint8))
    tag = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # orientation: turn by a quarter
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + tag + struct.pack("<I", 0)
    plain = (folder / "a.jpg").read_bytes()
    (folder / "a.jpg").write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
    data = tmp_path / "fresh" / "data"
    predict(people.config(dataset=None, media=folder, data=data))
    with Artifact(data / "turned.h5") as dataset:
        assert dataset.read("samples", "bbox").tolist() == [[-0.5, -0.5, 59.5, 89.5]]
    picture = render(Render(dataset=data / "turned.h5")).outputs[0]
    assert cv2.imread(str(picture)).shape == (90, 60, 3)


def test_the_default_data_set(people: People) -> None:
    report = predict(people.config(dataset=None, data=people.root / "data"))
    assert report.counts["bodies"] == COUNT
    with pytest.raises(MissingFileError):
        predict(people.config(dataset=None, data=people.root / "nothing"))


def test_an_empty_folder_is_said(people: People, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="no pictures"):
        predict(people.config(dataset=None, media=tmp_path / "empty", data=tmp_path / "data"))


def test_processes_share_the_work(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_SHARD_ROWS", 1)
    monkeypatch.setattr(parallel, "my_share", lambda items: list(items)[1::2])
    monkeypatch.setattr(parallel, "is_main", lambda: False)
    monkeypatch.setattr(stage, "_report", lambda *_, **__: StageReport("predict", []))
    predict(people.config())
    shards = people.root / "predictions" / "small.h5.parts"
    assert sorted(path.name for path in shards.glob("*.h5")) == ["000001.h5", "000003.h5"]


@pytest.mark.slow
def test_two_processes_give_what_one_gives(people: People) -> None:
    code = (
        "import sys; from pathlib import Path; from posekit.config.prediction import Predict\n"
        "from posekit.stages import predict as stage; stage._SHARD_ROWS = 2\n"
        "stage.predict(Predict(dataset=Path(sys.argv[1]), model=Path(sys.argv[2]), output=Path(sys.argv[3])))"
    )
    arguments = [str(people.dataset), str(people.root / "runs" / "tiny")]
    alone, shared = people.root / "alone.h5", people.root / "shared.h5"
    # The last bits of a network's sums depend on the number of threads.
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, *arguments, str(alone)], check=True, timeout=120, env=threads)
    port = str(20000 + os.getpid() % 20000)
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments, str(shared)],
            env=threads | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    with Artifact(alone) as first, Artifact(shared) as second:
        assert first.digest == second.digest
