"""MPII Human Pose: where the files are, who is taken for which part, and where pictures lie.

The release itself says which pictures are for training; which of their people published work validates on is said by the lists
that training code made of it. Where no list is there, whole videos are set aside by a digest of their number.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from posekit.datasets import photographs
from posekit.datasets.crops import box_of_points
from posekit.datasets.mpii_annotations import (
    HIDDEN,
    NONE,
    Annotation,
    read_head_sizes,
    read_list,
    read_release,
    read_whole_list,
)
from posekit.datasets.stills import read_still
from posekit.errors import ConfigError, MissingFileError
from posekit.records import Camera

PARTS = {"train": "train", "val": "test", "test": "test"}
"""Part of the release -> what the data set calls it: published work tests on the validation set."""

RELEASE_FILE = "mpii_human_pose_v1_u12_1.mat"

PERSON_HEIGHT_PX = 200.0
"""A scale of one means that a person is this high."""

LOWERED = 15.0
"""Published code moves positions down by this times the scale, so that boxes reach the feet."""

_LISTS = {
    "train": ("train.json", "mpii_train.json"),
    "val": ("valid.json", "mpii_val.json"),
    "test": ("test.json", "mpii_test.json"),
}
_WHOLE_LIST = "mpii_annotations.json"
_HEADS = ("gt_valid.mat", "mpii_gt_val.mat")
_PLACES = (".", "annot", "annotations", "mpii_human_pose_v1_u12_2", "mpii_human_pose_v1_u12_1")
_SAME_PLACE_PX = 1.0
_MEMBER = Literal["train", "val", "neither"]


@dataclass(frozen=True)
class PersonRules:
    """Who is taken, and how their boxes are made."""

    people: Literal["all", "single"] = "all"
    boxes: Literal["objpos", "keypoints"] = "objpos"
    min_keypoints: int = 1
    hidden_confidence: float = 1.0
    val_share: float = 0.12


@dataclass(frozen=True, eq=False)
class Person:
    """One person. `bbox` (x0, y0, x1, y1), `keypoints` (x, y, confidence) and `head_px` are px of the picture."""

    number: int
    bbox: Float[np.ndarray, "4"]
    keypoints: Float[np.ndarray, "16 3"]
    head_px: float


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture with the people that are taken of it."""

    image_id: int
    file: Path | None
    people: tuple[Person, ...]


@dataclass(frozen=True)
class Release:
    """The files that are there, and what is missing. `release` is the MATLAB file where that is to be read."""

    raw: Path
    parts: tuple[str, ...]
    release: Path | None
    lists: Mapping[str, Path]
    whole_list: Path | None
    heads: Path | None
    problems: tuple[str, ...]

    def files(self) -> list[Path]:
        """The annotation files that are read."""
        files = [self.release, *self.lists.values(), self.whole_list, self.heads]
        return sorted({file for file in files if file is not None})

    @property
    def layout(self) -> str:
        """mat or json; empty where there are no annotations."""
        return "mat" if self.release is not None else "json" if self.lists or self.whole_list is not None else ""

    @property
    def split_rule(self) -> str:
        """How the people to validate on are told from those to train on."""
        if self.layout == "json" or "val" in self.lists or self.whole_list is not None:
            files = [self.lists.get("train"), self.lists.get("val"), self.whole_list]
            return "as listed in " + ", ".join(file.name for file in files if file is not None)
        return (
            "training videos whose SHA-256 of their number is in the lowest share `val_share`; not the published split"
        )


def open_release(raw: Path, layout: str, parts: Sequence[str]) -> Release:
    """Looks for annotation files by name.

    Raises MissingFileError where there is no folder, ConfigError for parts that there are not.
    """
    if not parts or set(parts) - set(PARTS):
        raise ConfigError("parts of MPII to take", got=list(parts), accepted=list(PARTS))
    if not raw.is_dir():
        raise MissingFileError(
            "raw folder of MPII not found",
            got=raw,
            hint="Name it with --raw or in posekit.toml, or make a synthetic one with `posekit synthesize mpii`",
        )
    mat = _first_file(raw, (RELEASE_FILE,)) if layout != "json" else None
    wanted = tuple(part for part in PARTS if part in parts)
    # Lists beside the release say only who is validated on.
    asked = ("train", "val") if mat is not None else wanted
    lists = {part: file for part in asked if (file := _first_file(raw, _LISTS[part])) is not None}
    whole = None if lists else _first_file(raw, (_WHOLE_LIST,))
    problems: list[str] = []
    if layout == "mat" and mat is None:
        return Release(raw, wanted, None, {}, None, None, (f"missing: {RELEASE_FILE}",))
    if mat is None and not lists and whole is None:
        problems.append(f"missing: {RELEASE_FILE} (or lists: {', '.join(_LISTS[part][0] for part in wanted)})")
    elif mat is None:
        covered = set(lists) if whole is None else {"train", "val"}
        problems += [f"missing: {_LISTS[part][0]}" for part in wanted if part not in covered]
    heads = _first_file(raw, _HEADS) if mat is None and "val" in lists else None
    if mat is None and "val" in wanted and heads is None and (lists or whole):
        problems.append(f"missing: {_HEADS[0]} (head sizes of the people of {_LISTS['val'][0]}; PCKh needs them)")
    return Release(raw, wanted, mat, lists, whole, heads, tuple(problems))


def _first_file(raw: Path, names: Iterable[str]) -> Path | None:
    places = (raw / folder / name for name in names for folder in _PLACES)
    return next((place for place in places if place.is_file()), None)


@dataclass
class Reading:
    """The pictures of a part in the order of their numbers, and how many people were left out, by reason."""

    part: str
    pictures: list[Picture] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)


def read_people(release: Release, rules: PersonRules) -> list[Reading]:
    """Everybody whom the rules take, part by part. Raises FormatError for files that cannot be read, ConfigError where the
    files do not say who is single."""
    if rules.people == "single" and release.layout == "json":
        raise ConfigError(
            "lists do not say which people are separated from others",
            got="people = single",
            hint=f"Take all, or put {RELEASE_FILE} into the raw folder",
        )
    members = _released(release, rules) if release.layout == "mat" else _listed(release)
    find = ImageFinder(release.raw)
    return [_reading(part, members[part], rules, find) for part in release.parts]


def _listed(release: Release) -> dict[str, list[Annotation | str]]:
    members: dict[str, list[Annotation | str]] = defaultdict(list)
    if release.whole_list is not None:
        members["train"], members["val"] = read_whole_list(release.whole_list)
    for part, file in release.lists.items():
        members[part] = read_list(file, part != "test")
    if release.heads is not None:
        sizes = read_head_sizes(release.heads, len(members["val"]))
        members["val"] = [
            person if isinstance(person, str) else replace(person, head_px=float(size))
            for person, size in zip(members["val"], sizes, strict=True)
        ]
    return members


def _released(release: Release, rules: PersonRules) -> dict[str, list[Annotation | str]]:
    """The people of the release by part; those in pictures of the validation list who are on no list are on none here."""
    if release.release is None:
        raise ValueError("not a release in MATLAB's form")
    places = _listed_places(release)
    members: dict[str, list[Annotation | str]] = defaultdict(list)
    for person in read_release(release.release):
        if isinstance(person, str):
            members["train"].append(person)
        elif not person.training:
            members["test"].append(person)
        elif places is None:
            members["val" if _set_aside(person.group, rules.val_share) else "train"].append(person)
        else:
            members[_member(person, places)].append(person)
    return members


def _set_aside(group: str, share: float) -> bool:
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") < share * 2.0**64


def _listed_places(release: Release) -> dict[str, dict[str, np.ndarray]] | None:
    """Picture -> part -> positions of the people listed there; None where no list says who is validated on."""
    if release.split_rule.startswith("training videos"):
        return None
    places: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for part, people in _listed(replace(release, heads=None)).items():
        for person in people:
            if isinstance(person, Annotation):
                places[person.picture][part].append(person.position)
    return {name: {part: np.array(rows) for part, rows in parts.items()} for name, parts in places.items()}


def _member(person: Annotation, places: Mapping[str, Mapping[str, np.ndarray]]) -> _MEMBER:
    of_picture = places.get(person.picture, {})
    for part in ("val", "train"):
        listed = of_picture.get(part, np.zeros((0, 2)))
        if (np.abs(listed - person.position) < _SAME_PLACE_PX).all(axis=1).any():
            return part
    return "neither" if "val" in of_picture else "train"


def _reading(part: str, people: Sequence[Annotation | str], rules: PersonRules, find: ImageFinder) -> Reading:
    reading = Reading(part)
    taken: dict[str, list[Person]] = defaultdict(list)
    for annotation in people:
        reading.counts["people_annotated"] += 1
        person = _person(annotation, rules, needs_joints=part != "test")
        if isinstance(person, str):
            reading.counts[f"left_out_{person}"] += 1
        elif isinstance(annotation, Annotation):
            taken[annotation.picture].append(person)
    for name in sorted(taken, key=lambda name: int(Path(name).stem)):
        file = find(name)
        if file is None:
            reading.missing.append(name)
        reading.pictures.append(Picture(int(Path(name).stem), file, tuple(taken[name])))
    return reading


def _person(annotation: Annotation | str, rules: PersonRules, *, needs_joints: bool) -> Person | str:
    """Someone, or the reason why not."""
    if isinstance(annotation, str) or not Path(annotation.picture).stem.isdecimal():
        return "malformed"
    labelled = annotation.joints[:, 2] != NONE
    if rules.people == "single" and not annotation.separate:
        return "not_separated"
    if needs_joints and labelled.sum() < rules.min_keypoints:
        return "few_keypoints"
    box = published_box(annotation.position, annotation.scale)
    if rules.boxes == "keypoints":
        box = box_of_points(annotation.joints[:, :2])
    if box is None or not (box[2:] - box[:2]).max() > 0:
        return "without_box"
    confidence = np.where(annotation.joints[:, 2] == HIDDEN, rules.hidden_confidence, labelled.astype(float))
    keypoints = np.concatenate([annotation.joints[:, :2], confidence[:, None]], axis=1)
    return Person(annotation.number, box, keypoints, annotation.head_px)


def published_box(position: Float[np.ndarray, "2"], scale: float) -> Float[np.ndarray, "4"] | None:
    """The square that published code crops people by, before it is enlarged by a quarter; None without position or scale."""
    # Lists write -1 for what is not known.
    if not (np.isfinite(position).all() and scale > 0 and (position > -1).all()):
        return None
    centre, half = position + np.array([0.0, LOWERED * scale]), 0.5 * PERSON_HEIGHT_PX * scale
    return np.concatenate([centre - half, centre + half])


class ImageFinder:
    """Finds pictures by name in `images/` or the raw folder itself; None where there is none."""

    def __init__(self, raw: Path) -> None:
        self._files: dict[str, Path] = {}
        for folder in (raw / "images", raw):
            if folder.is_dir():
                for file in folder.iterdir():
                    if file.suffix.lower() in (".jpg", ".jpeg", ".png"):
                        self._files.setdefault(file.name, file)

    def __call__(self, name: str) -> Path | None:
        """The file of a picture that annotations call `name`."""
        return self._files.get(Path(name).name)

    def listing(self) -> list[str]:
        """A line with name and size for every picture, in a fixed order."""
        return sorted(f"{name}\0{file.stat().st_size}" for name, file in self._files.items())


def read_picture(picture: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """The image (RGB). Raises MissingFileError without a file, FormatError where it is damaged."""
    if picture.file is None:
        raise MissingFileError("picture not found", got=picture.image_id)
    return read_still(picture.file)


def shared_camera() -> Camera:
    """The one camera of all pictures; see `photographs.shared_camera`."""
    return photographs.shared_camera("mpii", 1280)
