"""COCO people with key points and DensePose annotations: where the files are, who is taken, and where pictures lie.

Layouts of 2014 and 2017 are read alike: a picture has the same number in both, so annotations of one year find the pictures
of the other. Of everybody only key points, box and DensePose points are kept, about 3 kB for each person.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from posekit.datasets import photographs
from posekit.datasets.densepose_annotations import HALF_PIXEL, DensePoints, read_points
from posekit.datasets.json_stream import array_items, object_value
from posekit.datasets.stills import read_still
from posekit.errors import ConfigError, FormatError, MissingFileError
from posekit.records import Camera
from posekit.skeleton.catalog import COCO17

BODY_JOINTS = COCO17.indices(
    *(
        f"{side}_{joint}"
        for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    )
)
"""The twelve joints that must be labelled for a body to count as wholly in view (Kanazawa et al. 2018)."""

CHARTS_OF = "posekit_charts_of_body"
"""Key in `info` of annotations by the studio: the digest of the body whose charts u and v belong to."""

MOST_PEOPLE = 256
"""People that are told apart in one picture."""

_ANNOTATIONS = ("annotations", ".")
_DENSEPOSE = {
    "train2014": ("densepose_coco_2014_train.json", "densepose_train2014.json"),
    "valminusminival2014": ("densepose_coco_2014_valminusminival.json", "densepose_valminusminival2014.json"),
    "val2014": ("densepose_coco_2014_minival.json", "densepose_minival2014.json"),
}
"""Sequence -> its file of DensePose annotations, as first released and as detectron2 renamed it."""

_SPLIT = {"train2014": "train", "valminusminival2014": "train", "val2014": "test"}
_PART_OF_RELEASE = {"train2014": "train", "valminusminival2014": "val", "val2014": "val"}


@dataclass(frozen=True)
class PersonRules:
    """Who is taken."""

    people: Literal["densepose", "all"] = "densepose"
    whole_body: bool = True
    min_keypoints: int = 1
    min_box_px: float = 64.0
    min_points: int = 15
    min_parts: int = 5
    keep_crowds: bool = False
    hidden_confidence: float = 1.0
    box_side: float = 256.0


@dataclass(frozen=True)
class AnnotationSet:
    """What one row of `sequences` is made from: a file of people, and files with DensePose points for the same people."""

    name: str
    split: str
    people: Path
    dense: tuple[Path, ...] = ()

    def files(self) -> set[Path]:
        """The annotation files that are read."""
        return {self.people, *self.dense}


@dataclass(frozen=True, eq=False)
class Person:
    """One annotated person; `number` counts the annotations of the picture in the order of their ids.

    `bbox` (x0, y0, x1, y1) and `keypoints` (x, y, confidence) are in the package's pixels.
    """

    number: int
    bbox: Float[np.ndarray, "4"]
    keypoints: Float[np.ndarray, "17 3"]
    dense: DensePoints | None


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture with the people that are taken of it."""

    image_id: int
    file: Path | None
    width: int
    height: int
    people: tuple[Person, ...]


@dataclass(frozen=True)
class Release:
    """The annotation files that are there, and what is missing."""

    raw: Path
    sets: tuple[AnnotationSet, ...]
    problems: tuple[str, ...]

    def files(self) -> set[Path]:
        """The annotation files that are read."""
        return {file for part in self.sets for file in part.files()}

    def charts_of(self) -> str | None:
        """The digest of the body whose charts the annotations use; None for DensePose's own charts."""
        found = set()
        for file in self.files():
            info = object_value(file, "info")
            found.add(str(info.get(CHARTS_OF, "")) if isinstance(info, Mapping) else "")
        if len(found) > 1:
            raise FormatError("annotations of different origin in one folder", got=self.raw)
        return next(iter(found), "") or None


def open_release(raw: Path, people: str, splits: Iterable[str]) -> Release:
    """Looks for annotation files by name.

    Raises MissingFileError where there is no folder, ConfigError for parts of the release that there are not.
    """
    wanted = tuple(splits)
    if not wanted or set(wanted) - {"train", "val"}:
        raise ConfigError("parts of COCO to take", got=list(wanted), accepted=["train", "val"])
    if not raw.is_dir():
        raise MissingFileError(
            "raw folder of COCO not found",
            got=raw,
            hint="Name it with --raw or in posekit.toml, or make a synthetic one with `posekit synthesize coco`",
        )
    return _densepose_sets(raw, wanted) if people == "densepose" else _keypoint_sets(raw, wanted)


def _densepose_sets(raw: Path, splits: tuple[str, ...]) -> Release:
    sets, problems = [], []
    for name, files in _DENSEPOSE.items():
        if _PART_OF_RELEASE[name] not in splits:
            continue
        file = _first_file(raw, files)
        if file is not None:
            sets.append(AnnotationSet(name, _SPLIT[name], file))
        elif name != "valminusminival2014":
            problems.append(f"missing: annotations/{files[0]} (or {files[1]})")
    return Release(raw, tuple(sets), tuple(problems))


def _keypoint_sets(raw: Path, splits: tuple[str, ...]) -> Release:
    dense = tuple(file for files in _DENSEPOSE.values() if (file := _first_file(raw, files)) is not None)
    sets, problems = [], []
    for split in splits:
        files = {f"{split}{year}": _first_file(raw, (f"person_keypoints_{split}{year}.json",)) for year in (2014, 2017)}
        found = next(((name, file) for name, file in files.items() if file is not None), None)
        if found is None:
            problems.append(f"missing: annotations/person_keypoints_{split}2014.json (or of 2017)")
        else:
            sets.append(AnnotationSet(found[0], "train" if split == "train" else "test", found[1], dense))
    return Release(raw, tuple(sets), tuple(problems))


def _first_file(raw: Path, names: Iterable[str]) -> Path | None:
    places = (raw / folder / name for name in names for folder in _ANNOTATIONS)
    return next((place for place in places if place.is_file()), None)


@dataclass
class Reading:
    """The pictures of an annotation set in the order of their numbers, and how many people were left out, by reason."""

    pictures: list[Picture] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)


def read_annotations(raw: Path, part: AnnotationSet, rules: PersonRules) -> Reading:
    """Everybody of an annotation set whom the rules take. Raises FormatError for files that cannot be read."""
    reading = Reading()
    dense = _points_by_annotation(part, rules)
    sizes = {
        int(image["id"]): (str(image["file_name"]), int(image["width"]), int(image["height"]))
        for image in _records(part.people, "images", ("id", "file_name", "width", "height"))
    }
    ids: dict[int, list[int]] = defaultdict(list)
    taken: dict[int, list[tuple[int, Person]]] = defaultdict(list)
    for annotation in _records(part.people, "annotations", ("id", "image_id")):
        image, identity = int(annotation["image_id"]), int(annotation["id"])
        ids[image].append(identity)
        person = _person(annotation, dense.get(identity), rules, reading.counts)
        if person is not None:
            taken[image].append((identity, person))
    find = ImageFinder(raw)
    for image in sorted(taken):
        if image not in sizes:
            reading.counts["left_out_without_picture_record"] += len(taken[image])
            continue
        name, width, height = sizes[image]
        place = {identity: number for number, identity in enumerate(sorted(ids[image]))}
        people = [replace(person, number=place[identity]) for identity, person in sorted(taken[image], key=_first)]
        file = find(image, name)
        if file is None:
            reading.missing.append(name)
        kept = tuple(person for person in people if person.number < MOST_PEOPLE)
        reading.pictures.append(Picture(image, file, width, height, kept))
    return reading


def _first(pair: tuple[int, Person]) -> int:
    return pair[0]


def _records(path: Path, key: str, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for item in array_items(path, key):
        if not isinstance(item, dict) or any(name not in item for name in needed):
            raise FormatError(f"{path}: an entry of {key} lacks something", got=str(item)[:80], accepted=needed)
        yield item


def _points_by_annotation(part: AnnotationSet, rules: PersonRules) -> dict[int, DensePoints]:
    found = {}
    for file in part.dense:
        for annotation in _records(file, "annotations", ("id",)):
            points = read_points(annotation, rules.box_side)
            if points is not None:
                found[int(annotation["id"])] = points
    return found


def _person(
    annotation: Mapping[str, Any], dense: DensePoints | None, rules: PersonRules, counts: Counter[str]
) -> Person | None:
    counts["people_annotated"] += 1
    try:
        left, top, width, height = (float(value) for value in annotation["bbox"])
        points = np.array(annotation.get("keypoints") or [0] * 51, dtype=np.float64).reshape(17, 3)
        dense = dense or read_points(annotation, rules.box_side)
    except (KeyError, TypeError, ValueError, FormatError):
        counts["left_out_malformed"] += 1
        return None
    reason = _reason_against(annotation, (width, height), points[:, 2] > 0, dense, rules)
    if reason is not None:
        counts[f"left_out_{reason}"] += 1
        return None
    box = np.array([left, top, left + width, top + height]) - HALF_PIXEL
    return Person(0, box, _keypoints(points, rules.hidden_confidence), dense)


def _reason_against(
    annotation: Mapping[str, Any],
    box_size: tuple[float, float],
    labelled: np.ndarray,
    dense: DensePoints | None,
    rules: PersonRules,
) -> str | None:
    if annotation.get("iscrowd") and not rules.keep_crowds:
        return "crowd"
    if rules.people == "densepose":
        if dense is None:
            return "without_densepose"
        if len(dense) < rules.min_points or len(np.unique(dense.parts)) < rules.min_parts:
            return "few_densepose_points"
    if labelled.sum() < rules.min_keypoints:
        return "few_keypoints"
    if rules.whole_body and not labelled[list(BODY_JOINTS)].all():
        return "not_wholly_in_view"
    if not min(box_size) > 0 or max(box_size) < rules.min_box_px:
        return "small_box"
    return None


def _keypoints(points: Float[np.ndarray, "17 3"], hidden: float) -> Float[np.ndarray, "17 3"]:
    """Labels 0, 1, 2 (none, hidden, seen) as confidences; joints without a label have no place."""
    labels = points[:, 2]
    confidence = np.where(labels >= 2, 1.0, np.where(labels >= 1, hidden, 0.0))
    place = np.where((labels > 0)[:, None], points[:, :2], np.nan)
    return np.concatenate([place, confidence[:, None]], axis=1)


class ImageFinder:
    """Finds pictures by number, whatever year's folders are there; None where there is none."""

    _FOLDERS = ("train2014", "val2014", "train2017", "val2017")

    def __init__(self, raw: Path) -> None:
        roots = [root for root in (raw, raw / "images") if root.is_dir()]
        self._folders = [root / name for name in self._FOLDERS for root in roots if (root / name).is_dir()]
        self._files: dict[str, Path] = {}
        for folder in self._folders:
            for file in folder.iterdir():
                self._files.setdefault(file.name, file)

    def __call__(self, image_id: int, name: str) -> Path | None:
        """The file of a picture that annotations call `name`."""
        number = f"{image_id:012d}.jpg"
        names = (Path(name).name, number, f"COCO_train2014_{number}", f"COCO_val2014_{number}")
        return next((self._files[found] for found in names if found in self._files), None)

    def listing(self) -> list[str]:
        """A line with name and size for every picture, in a fixed order."""
        return sorted(f"{file.parent.name}/{name}\0{file.stat().st_size}" for name, file in self._files.items())


def read_picture(picture: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """The image (RGB). Raises MissingFileError without a file, FormatError where it is damaged or of another size."""
    if picture.file is None:
        raise MissingFileError("picture not found", got=picture.image_id)
    image = read_still(picture.file)
    if image.shape[:2] != (picture.height, picture.width):
        raise FormatError(
            "a picture is not of the size that the annotations say",
            got=f"{image.shape[1]}x{image.shape[0]} of {picture.file}",
            accepted=f"{picture.width}x{picture.height}",
        )
    return image


def shared_camera() -> Camera:
    """The one camera of all pictures; see `photographs.shared_camera`."""
    return photographs.shared_camera("coco", 640)
