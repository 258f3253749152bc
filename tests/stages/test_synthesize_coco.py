from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from posekit.artifacts.files import Artifact
from posekit.artifacts.schema import TRUTH
from posekit.body.surface import COARSE_14
from posekit.config.coco import SynthesizeCoco
from posekit.datasets.densepose_annotations import decode_mask, read_masks, read_points
from posekit.errors import InputError
from posekit.stages.studio_folder import NOTICE_FILE
from posekit.stages.synthesize_coco import synthesize_coco

TRAIN, VAL = 6, 2


def small(output: Path, **changes: object) -> SynthesizeCoco:
    settings: dict[str, object] = {
        "output": output,
        "train": TRAIN,
        "val": VAL,
        "size": 180,
        "crowds": 0.5,
        "without_densepose": 0.3,
        "seed": 3,
        "device": "cpu",
    }
    return SynthesizeCoco(**{**settings, **changes})


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studio") / "coco"
    report = synthesize_coco(small(folder))
    assert report.counts["pictures"] == TRAIN + VAL
    assert report.counts["people"] >= TRAIN + VAL
    return folder


def people(raw: Path, file: str) -> tuple[dict[int, dict[str, object]], list[dict[str, object]]]:
    content = json.loads((raw / "annotations" / file).read_text(encoding="utf-8"))
    return {image["id"]: image for image in content["images"]}, content["annotations"]


def test_the_layout_is_that_of_coco(raw: Path) -> None:
    images, annotations = people(raw, "person_keypoints_train2014.json")
    assert sorted(images) == list(range(1, TRAIN + 1))
    sizes = set()
    for image in images.values():
        picture = cv2.imread(str(raw / "train2014" / str(image["file_name"])))
        assert picture.shape[:2] == (image["height"], image["width"])
        sizes.add(picture.shape[:2])
    assert len(sizes) > 3
    assert len({item["id"] for item in annotations}) == len(annotations)
    for item in annotations:
        assert not any(key.startswith("dp_") for key in item)
        labels = np.reshape(item["keypoints"], (17, 3))
        assert item["num_keypoints"] == (labels[:, 2] > 0).sum()
        assert (labels[labels[:, 2] == 0] == 0).all()
        image = images[item["image_id"]]
        mask = decode_mask(item["segmentation"], image["height"], image["width"])
        assert abs(mask.sum() - item["area"]) < 0.15 * item["area"] + 40
        assert isinstance(item["segmentation"], dict) == bool(item["iscrowd"])
        if item["iscrowd"]:
            assert not labels.any()
    dense_images, dense = people(raw, "densepose_coco_2014_train.json")
    assert {item["image_id"] for item in dense} == set(dense_images)
    assert 0 < sum("dp_x" in item for item in dense) < len(annotations)
    whole = {item["id"]: item for item in annotations}
    for item in dense:
        assert whole[item["id"]] == {key: value for key, value in item.items() if not key.startswith("dp_")}


def test_annotations_are_the_rendered_truth(raw: Path) -> None:
    checked = 0
    with Artifact(raw / "truth.h5", TRUTH) as truth:
        views, iuv_of = truth.table("views"), truth.read_ragged("views", "iuv")
        assert list(truth.read("sequences", "name")) == ["train2014", "val2014"]
        assert truth.rows("cameras") == TRAIN + VAL
    for sequence, file in enumerate(("train", "minival")):
        images, annotations = people(raw, f"densepose_coco_2014_{file}.json")
        number: dict[int, int] = {}
        for item in annotations:
            person = number[item["image_id"]] = number.get(item["image_id"], -1) + 1
            row = np.flatnonzero(
                (views["sequence"] == sequence) & (views["frame"] == item["image_id"]) & (views["person"] == person)
            )
            assert len(row) == 1
            image = images[item["image_id"]]
            iuv = np.zeros((image["height"], image["width"], 3), np.uint8)
            cut = cv2.imdecode(iuv_of[row[0]], cv2.IMREAD_COLOR)[..., ::-1]
            x, y = views["origin"][row[0]]
            iuv[y : y + cut.shape[0], x : x + cut.shape[1]] = cut
            points = read_points(item, 256.0)
            if points is None:
                continue
            at = np.rint(points.pixels).astype(int)
            assert np.abs(points.pixels - at).max() < 1e-3
            seen = iuv[at[:, 1], at[:, 0]]
            assert np.array_equal(seen[:, 0], points.parts)
            assert np.abs(seen[:, 1:] / 255.0 - points.uv).max() <= 0.5 / 255 + 1e-6
            left, top, width, height = (int(value) for value in item["bbox"])
            masks = read_masks(item["dp_masks"])
            shown = cv2.resize(masks, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
            assert (shown == COARSE_14[iuv[top : top + height, left : left + width, 0]]).mean() > 0.99
            checked += 1
    assert checked >= 4


def test_the_same_seed_makes_the_same_files_and_nothing_is_made_twice(raw: Path, tmp_path: Path) -> None:
    before = digests(raw)
    assert synthesize_coco(small(raw)).skipped
    assert digests(raw) == before
    again = tmp_path / "coco"
    synthesize_coco(small(again))
    assert digests(again) == before
    assert synthesize_coco(small(again, seed=4, train=1, val=0)).counts["pictures"] == 1
    assert not (again / "train2014/COCO_train2014_000000000002.jpg").exists()
    (again / "train2014/COCO_train2014_000000000001.jpg").unlink()
    assert synthesize_coco(small(again, seed=4, train=1, val=0, dry_run=True)).notes


def test_other_peoples_data_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="the studio did not make"):
        synthesize_coco(small(tmp_path))
    assert not (tmp_path / NOTICE_FILE).exists()
