"""Masks from COCO annotations, in memory as run lengths: a few hundred bytes for each person."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from posekit.datasets.coco import open_release
from posekit.datasets.densepose_annotations import HALF_PIXEL
from posekit.datasets.json_stream import array_items, object_value
from posekit.errors import FormatError, MissingFileError
from posekit.labeling.masks import decode_counts, encode_counts, mask_of_segmentation, match_people
from posekit.stages.mask_shots import Pictures, Shot
from posekit.stages.mask_sources import NOTHING_IN_FILE, FileSource

_PERSON = "person"
_SAME_BOX = 0.99
"""Overlap from which on a region marked as a crowd is the very annotation of the data set's sample."""


@dataclass(frozen=True, eq=False)
class _Annotation:
    """One person; the box is in the package's pixels."""

    box: Float[np.ndarray, "4"]
    counts: UInt8[np.ndarray, "N"]
    size: tuple[int, int]
    crowd: bool


def annotation_files(place: Path) -> list[Path]:
    """The annotation file that is named, or the key point files of a folder of the release.

    Raises MissingFileError where there are none.
    """
    if place.is_file():
        return [place]
    files = [part.people for part in open_release(place, "all", ("train", "val")).sets]
    if not files:
        raise MissingFileError(
            "no COCO annotations there",
            got=place,
            accepted="a JSON file, or a folder with annotations/person_keypoints_*.json",
        )
    return files


class AnnotationSource(FileSource):
    """Segmentations of COCO annotations; each person gets that whose box overlaps theirs most.

    Pictures of `posekit preprocess coco` are known by their number, others by `file_name`: the path that `Pictures.name`
    says with any ending, or its last part where only one picture is called so. Raises FormatError for files that cannot be
    read; annotations that are malformed are counted in `malformed`.
    """

    def __init__(self, pictures: Pictures, files: Sequence[Path], shots: Sequence[Shot], least_overlap: float) -> None:
        super().__init__(pictures)
        self._least_overlap = least_overlap
        self.malformed: Counter[str] = Counter()
        self._wanted = self._names(shots)
        self._people: dict[str, list[_Annotation]] = defaultdict(list)
        for file in files:
            self._read(file)

    def masks(self, shot: Shot) -> list[Bool[np.ndarray, "H W"] | str]:
        people = self._people.get(self._key(shot), [])
        whole = [one for one in people if not one.crowd]
        chosen = self._matched(shot, whole, self._least_overlap)
        crowds = self._matched(shot, [one for one in people if one.crowd], _SAME_BOX)
        found = [one or other for one, other in zip(chosen, crowds, strict=True)]
        return [NOTHING_IN_FILE if one is None else decode_counts(one.counts, *one.size) for one in found]

    @staticmethod
    def _matched(shot: Shot, people: Sequence[_Annotation], least: float) -> list[_Annotation | None]:
        boxes = np.array([one.box for one in people]).reshape(-1, 4)
        return [None if row < 0 else people[row] for row in match_people(shot.boxes, boxes, least)]

    def _key(self, shot: Shot) -> str:
        return str(shot.frame) if self.pictures.of_coco else self.pictures.name(shot)

    def _names(self, shots: Sequence[Shot]) -> dict[str, str]:
        """What annotations may call a picture -> its key."""
        keys = [self._key(shot) for shot in shots]
        if self.pictures.of_coco:
            return {key: key for key in keys}
        last = Counter(Path(key).name for key in set(keys))
        names = {Path(key).name: key for key in keys if last[Path(key).name] == 1}
        return names | {key: key for key in keys}

    def _read(self, file: Path) -> None:
        people = {
            category.get("id")
            for category in object_value(file, "categories") or [{"id": 1, "name": _PERSON}]
            if isinstance(category, Mapping) and category.get("name") == _PERSON
        }
        images = dict(self._images(file))
        for annotation in array_items(file, "annotations"):
            if not isinstance(annotation, Mapping):
                raise FormatError(f"{file}: an annotation is no object", got=str(annotation)[:80])
            try:
                image = images.get(annotation["image_id"])
                if image is None or annotation.get("category_id", 1) not in people:
                    continue
                key, height, width = image
                self._people[key].append(_annotation(annotation, height, width))
            except (FormatError, KeyError, TypeError, ValueError):
                self.malformed["annotations_malformed"] += 1

    def _images(self, file: Path) -> Iterator[tuple[Any, tuple[str, int, int]]]:
        """Number -> key, height and width of the pictures that the data set has."""
        for image in array_items(file, "images"):
            try:
                number, height, width = image["id"], int(image["height"]), int(image["width"])
                name = str(number) if self.pictures.of_coco else str(Path(image["file_name"]).with_suffix(""))
            except (KeyError, TypeError, ValueError) as error:
                raise FormatError(
                    f"{file}: an entry of images lacks something",
                    got=str(image)[:80],
                    accepted=("id", "file_name", "height", "width"),
                ) from error
            key = self._wanted.get(name) or self._wanted.get(Path(name).name)
            if key is not None:
                yield number, (key, height, width)


def _annotation(annotation: Mapping[str, Any], height: int, width: int) -> _Annotation:
    left, top, box_width, box_height = (float(value) for value in annotation["bbox"])
    box = np.array([left, top, left + box_width, top + box_height]) - HALF_PIXEL
    mask = mask_of_segmentation(annotation["segmentation"], height, width)
    return _Annotation(box, encode_counts(mask), (height, width), bool(annotation.get("iscrowd")))
