"""Drawn things in PASCAL VOC's layout, and the objects that are cut out of them."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posekit.artifacts.files import Artifact
from posekit.config.voc import PreprocessVoc, SynthesizeVoc
from posekit.datasets.cutouts import decode_cutout
from posekit.datasets.voc import read_segments
from posekit.errors import DataError, InputError, MissingFileError
from posekit.stages.preprocess_voc import preprocess_voc
from posekit.stages.synthesize_voc import synthesize_voc
from posekit.training.occlusion import Occluders


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("voc") / "raw voc"
    synthesize_voc(SynthesizeVoc(output=raw, pictures=12, size=200))
    return raw


@pytest.fixture
def raw(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "raw"))


def cut(raw: Path, output: Path, **changes: Any) -> tuple[Any, dict[str, Any]]:
    report = preprocess_voc(PreprocessVoc(raw=raw, output=output, **changes))
    with Artifact(output) as artifact:
        artifact.verify()
        columns: dict[str, Any] = {name: artifact.read("objects", name) for name in ("category", "source", "area_px")}
        return report, columns | {"image": artifact.read_ragged("objects", "image")}


def expected(raw: Path) -> list[tuple[str, str, int]]:
    """Category, picture and pixels of every object that should remain, read by other means."""
    root, rows = raw / "VOCdevkit" / "VOC2012", []
    for file in sorted((root / "Annotations").glob("*.xml")):
        tree = ElementTree.parse(file).getroot()
        if tree.findtext("segmented") != "1":
            continue
        numbers = read_segments(root / "SegmentationObject" / f"{file.stem}.png")
        for number, node in enumerate(tree.iter("object"), start=1):
            values = [node.findtext(name) for name in ("name", "difficult", "truncated")]
            area = int((numbers == number).sum())
            if values[0] != "person" and values[1:] == ["0", "0"] and area >= 500:
                rows.append((str(values[0]), file.stem, area))
    return rows


def test_whole_things_that_are_no_people_are_cut_out(raw: Path, tmp_path: Path) -> None:
    report, objects = cut(raw, tmp_path / "o.h5")
    found = list(zip(objects["category"], objects["source"], objects["area_px"].tolist(), strict=True))
    assert found == expected(raw) and found
    assert report.counts["left out: category person"] > 0
    for coded, area in zip(objects["image"], objects["area_px"], strict=True):
        image = decode_cutout(coded)
        # Stored at half size, the border softened.
        assert 0.5 * area < 4 * (image[..., 3] / 255.0).sum() < 1.1 * area
    assert Occluders.read(tmp_path / "o.h5").count == len(found)
    assert cut(raw, tmp_path / "o.h5")[0].skipped
    assert len(cut(raw, tmp_path / "o.h5", left_out=(), difficult=True, truncated=True)[1]["source"]) > len(found)


def test_pictures_are_the_same_again_and_hold_what_the_release_does(made: Path, tmp_path: Path) -> None:
    assert synthesize_voc(SynthesizeVoc(output=made, pictures=12, size=200)).skipped
    again = tmp_path / "again"
    synthesize_voc(SynthesizeVoc(output=again, pictures=12, size=200))
    files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert all((made / file).read_bytes() == (again / file).read_bytes() for file in files)
    root = made / "VOCdevkit" / "VOC2012"
    assert len(list((root / "JPEGImages").glob("*.jpg"))) == 12
    # The tenth has boxes alone.
    assert len(list((root / "SegmentationObject").glob("*.png"))) == 11
    numbers = np.concatenate([np.unique(read_segments(f)) for f in sorted((root / "SegmentationObject").glob("*.png"))])
    assert {0, 1, 255} <= set(numbers.tolist())
    for file in sorted((root / "Annotations").glob("*.xml")):
        tree = ElementTree.parse(file).getroot()
        width, height = (int(tree.findtext(f"size/{name}") or 0) for name in ("width", "height"))
        for box in tree.iter("bndbox"):
            x0, y0, x1, y1 = (int(box.findtext(name) or 0) for name in ("xmin", "ymin", "xmax", "ymax"))
            assert 1 <= x0 <= x1 <= width and 1 <= y0 <= y1 <= height


def test_broken_pictures_are_counted_and_the_rest_goes_on(raw: Path, tmp_path: Path) -> None:
    root = raw / "VOCdevkit" / "VOC2012"
    whole = len(cut(raw, tmp_path / "whole.h5")[1]["source"])
    names = sorted(path.stem for path in (root / "SegmentationObject").glob("*.png"))
    (root / "SegmentationObject" / f"{names[0]}.png").write_bytes(b"\x89PNG\r\n")
    (root / "Annotations" / f"{names[1]}.xml").write_text("<annotation><object>")
    (root / "JPEGImages" / f"{names[2]}.jpg").write_bytes(b"")
    small = np.zeros((10, 10, 3), np.uint8)
    cv2.imwrite(str(root / "JPEGImages" / f"{names[3]}.jpg"), small)
    (root / "Annotations" / f"{names[4]}.xml").unlink()
    report, objects = cut(raw, tmp_path / "o.h5")
    assert report.counts["pictures not read"] == 5
    assert 0 < len(objects["source"]) <= whole
    assert not set(objects["source"]) & set(names[:5])
    with pytest.raises(MissingFileError, match="1 files are missing"):
        cut(raw, tmp_path / "o.h5", check=True)


def test_other_folders_are_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no release of PASCAL VOC"):
        cut(tmp_path, tmp_path / "o.h5")
    with pytest.raises(DataError, match="no object"):
        cut(made, tmp_path / "o.h5", min_area_px=10**6)
    assert not (tmp_path / "o.h5").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("precious")
    with pytest.raises(InputError, match="did not make"):
        synthesize_voc(SynthesizeVoc(output=tmp_path / "mine", pictures=1))
