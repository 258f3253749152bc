"""Masks of people from every source, on small recordings and pictures by the studio whose masks are known."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import torch

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import DATASET, MASKS, TRUTH
from posekit.artifacts.shards import ShardedArtifact
from posekit.config.coco import PreprocessCoco, SynthesizeCoco
from posekit.config.data import PreprocessH36M, SynthesizeH36M
from posekit.config.masks import PseudoLabelMasks
from posekit.config.prediction import PreprocessImages
from posekit.datasets.h36m_masks import silhouette_path
from posekit.datasets.media import open_frames
from posekit.errors import DataError, DependencyError, FormatError, InputError, MissingFileError
from posekit.labeling.masks import box_of_mask, decode_counts
from posekit.models import mask_rcnn
from posekit.models.mask_rcnn import DetectedPeople
from posekit.stages import pseudo_label_masks as stage
from posekit.stages.mask_sources import FileSource
from posekit.stages.preprocess_coco import preprocess_coco
from posekit.stages.preprocess_h36m import preprocess_h36m
from posekit.stages.preprocess_pictures import preprocess_images
from posekit.stages.pseudo_label_masks import pseudo_label_masks
from posekit.stages.synthesize import synthesize_h36m
from posekit.stages.synthesize_coco import synthesize_coco

KEY = ("sequence", "frame", "person", "camera")
FRAMES, VIEWS = 2, 4
SAMPLES = FRAMES * VIEWS
Masks = dict[tuple[int, ...], np.ndarray]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a recording in the layout of Human3.6M and a few pictures in that of COCO."""
    root = tmp_path_factory.mktemp("masks")
    h36m, coco = root / "raw" / "h36m", root / "raw" / "coco"
    synthesize_h36m(
        SynthesizeH36M(output=h36m, subjects=("S1",), actions=("Directions",), frames=FRAMES, resolution=100)
    )
    preprocess_h36m(PreprocessH36M(raw=h36m, output=root / "data" / "h36m.h5", train_stride=1))
    synthesize_coco(SynthesizeCoco(output=coco, train=3, val=2, people=2, size=100, crowds=0, truncated=0, occluded=0))
    loose = {"whole_body": False, "min_box_px": 1.0, "min_keypoints": 0, "crop_size": 96}
    preprocess_coco(PreprocessCoco(raw=coco, output=root / "data" / "coco.h5", people="all", **loose))
    return root


def made(root: Path, name: str = "h36m", **settings: Any) -> tuple[Masks, dict[str, np.ndarray]]:
    """The masks by key, and all columns."""
    config = PseudoLabelMasks(
        **{"dataset": root / "data" / f"{name}.h5", "output": root / "labels" / "x.h5"} | settings
    )
    return rows_of(pseudo_label_masks(config).outputs[0])


def rows_of(path: Path) -> tuple[Masks, dict[str, np.ndarray]]:
    with Artifact(path, MASKS) as artifact:
        columns = artifact.table("samples")
        counts = artifact.read_ragged("samples", "counts")
    keys = zip(*(columns[part].tolist() for part in KEY), strict=True)
    sizes = columns["size"].tolist()
    rows = zip(keys, counts, sizes, columns["found"], strict=True)
    return {key: decode_counts(runs, *size) for key, runs, size, found in rows if found}, columns


def true_masks(root: Path, name: str) -> Masks:
    """Read from the truth by hand, under the numbers of the data set."""
    with Artifact(root / "raw" / name / "truth.h5", TRUTH) as truth, Artifact(root / "data" / f"{name}.h5") as dataset:
        views, cameras = truth.table("views"), truth.table("cameras")
        encoded = truth.read_ragged("views", "mask")
        sequences = {str(n): i for i, n in enumerate(dataset.read("sequences", "name"))}
        own = {str(n): i for i, n in enumerate(dataset.read("cameras", "name"))}
        names = truth.read("sequences", "name")
    found = {}
    for row, png in enumerate(encoded):
        camera = int(views["camera"][row])
        mask = np.zeros((cameras["height"][camera], cameras["width"][camera]), bool)
        cut = cv2.imdecode(png, cv2.IMREAD_GRAYSCALE) > 127
        x, y = views["origin"][row]
        mask[y : y + cut.shape[0], x : x + cut.shape[1]] = cut
        key = (sequences[str(names[views["sequence"][row]])], int(views["frame"][row]), int(views["person"][row]))
        found[(*key, own.get(str(cameras["name"][camera]), 0))] = mask
    return found


def keys_of(root: Path, name: str) -> list[tuple[int, ...]]:
    with Artifact(root / "data" / f"{name}.h5", DATASET) as dataset:
        columns = dataset.table("samples")
    return list(zip(*(columns[part].tolist() for part in KEY), strict=True))


def check_same(masks: Masks, wanted: Masks, least: float = 1.0) -> None:
    for key, mask in masks.items():
        assert mask.shape == wanted[key].shape
        assert (mask & wanted[key]).sum() >= least * (mask | wanted[key]).sum(), key


@pytest.mark.parametrize("name", ["h36m", "coco"])
def test_the_truths_masks_come_pixel_for_pixel(root: Path, name: str) -> None:
    masks, columns = made(root, name, source="truth")
    assert sorted(masks) == sorted(keys_of(root, name))
    check_same(masks, true_masks(root, name))
    assert columns["found"].all() and (columns["score"] == 1).all()
    for key, box in zip(zip(*(columns[part].tolist() for part in KEY), strict=True), columns["bbox"], strict=True):
        assert box.tolist() == box_of_mask(masks[key]).tolist()  # type: ignore[union-attr]


def test_the_command_end_to_end(root: Path, tmp_path: Path) -> None:
    arguments = ["pseudo-label", "masks", "--dataset", root / "data" / "h36m.h5", "--source", "truth", "--json"]
    arguments += ["--output", tmp_path / "m.h5"]
    run = [sys.executable, "-m", "posekit", *map(str, arguments)]
    done = subprocess.run(run, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["counts"] == {"masks": SAMPLES, "samples": SAMPLES}
    assert report["metrics"]["share_found"] == 1.0
    assert 0.6 < report["metrics"]["overlap_of_masks_and_boxes"] <= 1.0
    check_same(rows_of(tmp_path / "m.h5")[0], true_masks(root, "h36m"))
    wrong = subprocess.run(
        [*run, "--source", "png", "--masks", "nowhere"], cwd=root, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2 and "nowhere" in wrong.stderr and "Traceback" not in wrong.stderr


def test_segmentations_of_coco(root: Path, tmp_path: Path) -> None:
    """Polygons fill holes and cut corners by less than a pixel."""
    wanted = true_masks(root, "coco")
    masks, _ = made(root, "coco", source="coco")
    assert sorted(masks) == sorted(keys_of(root, "coco"))
    check_same(masks, wanted, 0.85)
    exact = tmp_path / "exact.json"
    content: dict[str, list[Any]] = {"images": [], "annotations": []}
    for file in sorted((root / "raw" / "coco" / "annotations").glob("person_keypoints_*.json")):
        for name, items in json.loads(file.read_text()).items():
            if name in content:
                content[name] += items
    number = {sample[1]: 0 for sample in wanted}
    for annotation in sorted(content["annotations"], key=lambda one: one["id"]):
        image = annotation["image_id"]
        mask = next(m for key, m in wanted.items() if key[1:3] == (image, number[image]))
        number[image] += 1
        annotation["segmentation"] = plain_runs(mask)
    cat = {"id": 9 * 10**6, "image_id": content["images"][0]["id"], "category_id": 17, "bbox": [0, 0, 90, 90]}
    broken = {"id": 10**7, "image_id": content["images"][0]["id"], "bbox": [0, 0, 9, 9], "segmentation": {"size": [1]}}
    content["annotations"] += [cat, broken]
    exact.write_text(json.dumps(content))
    report = pseudo_label_masks(config := coco_config(root, tmp_path, exact))
    check_same(rows_of(report.outputs[0])[0], wanted)
    assert report.counts["annotations_malformed"] == 1
    exact.write_text(json.dumps(content)[:-40])
    with pytest.raises(FormatError):
        pseudo_label_masks(config)


def coco_config(root: Path, folder: Path, file: Path) -> PseudoLabelMasks:
    return PseudoLabelMasks(dataset=root / "data" / "coco.h5", source="coco", masks=file, output=folder / "coco.h5")


def plain_runs(mask: np.ndarray) -> dict[str, Any]:
    """Plain run lengths, by hand."""
    flat = [0, *mask.ravel(order="F").astype(int).tolist()]
    counts, last = [0], 0
    for value in flat[1:]:
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def test_annotations_find_own_pictures_by_name(root: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw" / "own"
    (raw / "a").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a/x.jpg", "y.png"):
        cv2.imwrite(str(raw / name), rng.integers(0, 255, (60, 80, 3), dtype=np.uint8))
    boxes = {"a/x.jpg": [10, 10, 40, 50], "y.png": [20, 5, 60, 55]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    data = tmp_path / "data" / "own.h5"
    preprocess_images(PreprocessImages(raw=raw, boxes=tmp_path / "boxes.json", output=data))
    square = [[12, 12, 38, 12, 38, 48, 12, 48]]
    content = {
        "images": [{"id": 5, "file_name": "a/x.jpg", "height": 60, "width": 80}],
        "annotations": [{"id": 1, "image_id": 5, "bbox": [12, 12, 26, 36], "segmentation": square}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    masks, columns = made(tmp_path, "own", source="coco", masks=tmp_path / "a.json")
    assert columns["found"].sum() == 1
    (mask,) = masks.values()
    assert mask[12:48, 12:38].all() and mask.sum() == 36 * 26
    # The same picture as files.
    (folder := tmp_path / "png" / "a").mkdir(parents=True)
    cv2.imwrite(str(folder / "x_0.png"), mask.astype(np.uint8))
    again, columns = made(tmp_path, "own", source="png", masks=tmp_path / "png")
    check_same(again, masks)
    assert columns["found"].sum() == 1


def names(root: Path) -> tuple[str, list[str]]:
    with Artifact(root / "data" / "h36m.h5") as dataset:
        return str(dataset.read("sequences", "name")[0]), [str(name) for name in dataset.read("cameras", "name")]


def test_silhouettes_of_the_release(root: Path, tmp_path: Path) -> None:
    wanted = true_masks(root, "h36m")
    sequence, cameras = names(root)
    for camera, name in enumerate(cameras):
        path = silhouette_path(tmp_path, "S1", sequence, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        count = FRAMES if camera else 1
        with h5py.File(path, "w", userblock_size=512) as file:
            table = file.create_dataset("Masks", (count, 1), dtype=h5py.ref_dtype)
            for frame in range(count):
                stored = file.create_dataset(f"#refs#/m{frame}", data=wanted[0, frame, 0, camera].T.astype(np.uint8))
                table[frame, 0] = stored.ref
    masks, columns = made(root, source="h36m", masks=tmp_path, output=tmp_path / "m.h5")
    assert columns["found"].sum() == SAMPLES - 1  # of the first camera one is missing
    check_same(masks, wanted)
    lost = columns["found"].argmin()
    assert (columns["frame"][lost], columns["camera"][lost]) == (1, 0)
    assert np.isnan(columns["bbox"][lost]).all() and columns["score"][lost] == 0
    silhouette_path(tmp_path, "S1", sequence, cameras[1]).write_bytes(b"no such file")
    silhouette_path(tmp_path, "S1", sequence, cameras[2]).unlink()
    report = pseudo_label_masks(
        PseudoLabelMasks(
            dataset=root / "data" / "h36m.h5", source="h36m", masks=tmp_path, output=tmp_path / "m.h5", force=True
        )
    )
    assert report.counts["pictures_missing_or_broken"] == 2 * FRAMES
    assert report.counts["masks"] == SAMPLES - 1 - 2 * FRAMES
    assert any("v7.3" in line for _, line in report.tables[0].rows)
    with pytest.raises(MissingFileError, match="ground_truth_bs"):
        made(root, source="h36m")


def test_pictures_of_masks(root: Path, tmp_path: Path) -> None:
    wanted = true_masks(root, "h36m")
    sequence, cameras = names(root)
    folder = tmp_path / "pngs"
    patterns = [
        lambda frame, camera: f"{sequence}/{camera}/{frame:06d}.png",
        lambda frame, camera: f"{sequence}/{camera}/{frame:06d}_0.png",
        lambda frame, camera: f"0_{sequence.replace(' ', '_')}.{camera}_{frame + 1:06d}.png",
    ]
    for (_, frame, _, camera), mask in wanted.items():
        file = folder / patterns[camera % 3](frame, cameras[camera])
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), mask.astype(np.uint8) * (255 if camera else 1))
    masks, _ = made(root, source="png", masks=folder, output=tmp_path / "m.h5")
    assert len(masks) == SAMPLES
    check_same(masks, wanted)
    settings = {"dataset": root / "data" / "h36m.h5", "source": "png", "masks": folder, "output": tmp_path / "m.h5"}
    assert pseudo_label_masks(PseudoLabelMasks(**settings)).skipped
    (folder / patterns[0](0, cameras[0])).write_bytes(b"no picture")
    cv2.imwrite(str(folder / patterns[1](0, cameras[1])), np.ones((5, 5), np.uint8))
    cv2.imwrite(str(folder / patterns[2](0, cameras[2])), np.zeros_like(wanted[0, 0, 0, 2], np.uint8))
    (folder / patterns[0](1, cameras[3])).unlink()
    report = pseudo_label_masks(PseudoLabelMasks(**settings))
    assert not report.skipped
    assert report.counts["pictures_missing_or_broken"] == 2
    assert report.counts["without: the mask is empty"] == 1
    assert report.counts["without: nothing about the person in the files"] == 1
    assert report.counts["masks"] == SAMPLES - 4


class Detector:
    """Answers with the true masks, found by the mean colour of the picture, and a person who is not there."""

    seen: list[tuple[int, ...]]

    def __init__(self, answers: dict[bytes, list[np.ndarray]] | None = None) -> None:
        self.answers = answers or {}
        self.seen = []

    def __call__(self, images: Sequence[np.ndarray]) -> list[DetectedPeople]:
        assert len({image.shape for image in images}) == 1
        self.seen += [image.shape for image in images]
        return [self._people(image) for image in images]

    def _people(self, image: np.ndarray) -> DetectedPeople:
        corner = np.zeros(image.shape[:2], bool)
        corner[:2, :2] = True
        masks = [corner, *self.answers.get(image.tobytes(), [])]
        boxes = [box_of_mask(mask) for mask in masks]
        return DetectedPeople(np.array(boxes), np.linspace(0.9, 0.6, len(masks)), np.stack(masks))


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> Detector:
    found = Detector()
    monkeypatch.setattr(mask_rcnn, "MaskDetector", lambda *_, **__: found)
    return found


def video_frames(root: Path) -> dict[tuple[int, int], np.ndarray]:
    sequence, cameras = names(root)
    base = sequence.removeprefix("S1 ")
    videos = [root / "raw" / "h36m" / "S1" / "Videos" / f"{base}.{camera}.mp4" for camera in cameras]
    found = {}
    for camera, path in enumerate(videos):
        with open_frames(path) as source:
            found |= {(frame, camera): image.copy() for frame, image in source.frames(range(FRAMES))}
    return found


def test_detections_in_the_original_frames(root: Path, tmp_path: Path, detector: Detector) -> None:
    wanted = true_masks(root, "h36m")
    detector.answers = {image.tobytes(): [wanted[0, f, 0, c]] for (f, c), image in video_frames(root).items()}
    masks, columns = made(root, output=tmp_path / "m.h5", batch=3, min_overlap=0.2)
    assert len(detector.seen) == len(masks) == SAMPLES
    check_same(masks, wanted, 0.97)  # a video may show the same picture twice
    np.testing.assert_allclose(columns["score"], 0.6)
    # Nobody's box lies in the corner.
    detector.answers = {}
    with pytest.raises(DataError, match="nobody has a mask"):
        made(root, output=tmp_path / "m.h5", force=True)
    assert not (tmp_path / "m.h5.parts").exists()


def test_detections_of_several_people_in_pictures_of_several_sizes(
    root: Path, tmp_path: Path, detector: Detector
) -> None:
    wanted = true_masks(root, "coco")
    by_picture: dict[int, list[np.ndarray]] = {}
    for key, mask in sorted(wanted.items(), reverse=True):
        by_picture.setdefault(key[1], []).append(mask)
    for file in (root / "raw" / "coco").glob("*2014/*.jpg"):
        image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        detector.answers[image.tobytes()] = by_picture[int(file.stem[-12:])]
    masks, _ = made(root, "coco", output=tmp_path / "m.h5")
    assert sorted(masks) == sorted(keys_of(root, "coco"))
    assert len({mask.shape for mask in masks.values()}) > 1
    check_same(masks, wanted)


def test_detections_in_crops_are_put_back(root: Path, tmp_path: Path, detector: Detector) -> None:
    wanted = true_masks(root, "h36m")
    with Artifact(root / "data" / "h36m.h5", DATASET) as dataset:
        crops = dataset.read_ragged("samples", "image")
        maps = dataset.read("samples", "crop_from_image")
    for key, crop, place in zip(keys_of(root, "h36m"), crops, maps, strict=True):
        image = cv2.cvtColor(cv2.imdecode(crop, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        mask = cv2.warpAffine(wanted[key].astype(np.uint8) * 255, place, image.shape[1::-1]) > 127
        detector.answers[image.tobytes()] = [mask]
    config = PseudoLabelMasks(
        dataset=root / "data" / "h36m.h5", output=tmp_path / "m.h5", pictures="crops", min_overlap=0.2
    )
    report = pseudo_label_masks(config)
    masks, columns = rows_of(tmp_path / "m.h5")
    assert len(masks) == SAMPLES and any("crops" in note for note in report.notes)
    check_same(masks, wanted, 0.9)
    for mask, box in zip(masks.values(), columns["bbox"], strict=True):
        np.testing.assert_allclose(box_of_mask(mask), box, atol=1.5)


def test_pictures_that_are_broken_or_missing(root: Path, tmp_path: Path, detector: Detector) -> None:
    raw = tmp_path / "raw" / "h36m"
    shutil.copytree(root / "raw" / "h36m", raw)
    wanted = true_masks(root, "h36m")
    detector.answers = {image.tobytes(): [wanted[0, f, 0, c]] for (f, c), image in video_frames(root).items()}
    first, second = sorted((raw / "S1" / "Videos").glob("*.mp4"))[:2]
    first.write_bytes(first.read_bytes()[:500])
    second.unlink()
    config = PseudoLabelMasks(
        dataset=root / "data" / "h36m.h5", output=tmp_path / "m.h5", raw=raw, min_overlap=0.2, batch=8
    )
    report = pseudo_label_masks(config)
    assert report.counts["pictures_missing_or_broken"] == 2 * FRAMES
    assert report.counts["masks"] == SAMPLES - 2 * FRAMES
    assert any(second.name in line for _, line in report.tables[0].rows)
    check_same(rows_of(tmp_path / "m.h5")[0], wanted, 0.97)


def test_the_real_network_with_random_weights(root: Path, tmp_path: Path) -> None:
    """Weights by which everything large is a person; what is found means nothing, but all of the path is walked."""
    torch.manual_seed(0)
    state = mask_rcnn.build_mask_rcnn("v2").state_dict()
    for name in ("cls_score.weight", "cls_score.bias", "bbox_pred.weight"):
        state[f"roi_heads.box_predictor.{name}"].zero_()
    state["roi_heads.box_predictor.cls_score.bias"][1] = 6.0
    state["rpn.head.bbox_pred.bias"].view(-1, 4)[:, 2:] = 1.5
    torch.save(state, tmp_path / "weights.pth")
    config = {"network": "v2", "weights_file": tmp_path / "weights.pth", "image_side": 32, "min_overlap": 0.0}
    masks, columns = made(root, output=tmp_path / "m.h5", **config)
    assert columns["found"].any()
    assert {mask.shape for mask in masks.values()} <= {(100, 100)}
    np.testing.assert_allclose(columns["score"][columns["found"]], np.exp(6) / (np.exp(6) + 90), rtol=1e-3)


def test_a_killed_run_goes_on_and_current_work_is_skipped(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_SHARD_SHOTS", 3)
    config = PseudoLabelMasks(dataset=root / "data" / "h36m.h5", output=tmp_path / "m.h5", source="truth")
    assert (
        "8 people in 8 pictures, 3 shards" in pseudo_label_masks(config.model_copy(update={"dry_run": True})).notes[0]
    )
    assert not tmp_path.joinpath("m.h5").exists()
    find, calls = FileSource.find, []

    def dies(self: FileSource, shots: Any) -> Any:
        calls.append(len(shots))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return find(self, shots)

    monkeypatch.setattr(FileSource, "find", dies)
    with pytest.raises(KeyboardInterrupt):
        pseudo_label_masks(config)
    report = pseudo_label_masks(config)
    assert calls == [3, 3, 3, 2]
    assert not report.skipped and report.counts["masks"] == SAMPLES
    monkeypatch.setattr(stage, "_SHARD_SHOTS", 256)
    again = pseudo_label_masks(config)
    assert again.skipped and again.counts == report.counts and again.metrics == report.metrics
    assert calls == [3, 3, 3, 2]
    whole, _ = made(root, output=tmp_path / "n.h5", source="truth")
    check_same(rows_of(tmp_path / "m.h5")[0], whole)
    with Artifact(tmp_path / "m.h5") as first, Artifact(tmp_path / "n.h5") as second:
        assert first.digest == second.digest
    assert not ShardedArtifact(tmp_path / "m.h5", first.header, 1).folder.exists()


def test_what_cannot_be_done_is_said(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingFileError, match="--masks"):
        made(root, source="png")
    with pytest.raises(InputError, match="wrong kind"):
        made(root, source="truth", masks=root / "data" / "h36m.h5")
    with pytest.raises(InputError, match="other sequences"):
        made(root, source="truth", masks=root / "raw" / "coco" / "truth.h5")
    with pytest.raises(MissingFileError, match="no masks there"):
        made(root, source="png", masks=tmp_path)
    with pytest.raises(MissingFileError, match="no COCO annotations"):
        made(root, source="coco", masks=tmp_path)
    with pytest.raises(InputError, match="folder of the original frames"):
        made(root, raw=tmp_path / "nowhere")
    monkeypatch.setattr(stage, "raw_root", lambda *_: None)
    with pytest.raises(MissingFileError, match="--pictures crops"):
        made(root, pictures="originals")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("offline")

    monkeypatch.setattr(mask_rcnn.MaskRCNN_ResNet50_FPN_V2_Weights, "get_state_dict", refuse)
    with pytest.raises(DependencyError, match="--source png"):
        made(root)
