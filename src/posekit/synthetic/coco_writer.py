"""The raw layout of COCO 2014 with DensePose annotations, written picture by picture, with the exact truth beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import cv2
import numpy as np
from jaxtyping import Float

from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.datasets.coco import CHARTS_OF
from posekit.datasets.crops import encode_image
from posekit.datasets.densepose_annotations import (
    polygons_of,
    uncompressed_mask,
    write_masks,
    write_points,
)
from posekit.records import Camera, Clip, camera_columns, clip_columns
from posekit.skeleton.catalog import COCO17
from posekit.synthetic.bodies import Take
from posekit.synthetic.snapshot import SeenPerson, Shot, Snapshot

TRUTH_FILE = "truth.h5"
FOLDERS = {"train": "train2014", "val": "val2014"}
KEYPOINT_FILES = {split: f"annotations/person_keypoints_{folder}.json" for split, folder in FOLDERS.items()}
DENSE_FILES = {
    "train": "annotations/densepose_coco_2014_train.json",
    "val": "annotations/densepose_coco_2014_minival.json",
}

_BONES = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11), (2, 3),
    (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip


@dataclass(frozen=True)
class Annotated:
    """What is noted of one person in a picture."""

    take: Take
    seen: SeenPerson
    crowd: bool
    points: Float[np.ndarray, "N 2"] | None
    """Pixels (x, y, whole numbers) of the DensePose points; None for people without."""


def image_name(split: str, image_id: int) -> str:
    """The file of a picture."""
    folder = FOLDERS[split]
    return f"{folder}/COCO_{folder}_{image_id:012d}.jpg"


def spread_points(seen: SeenPerson, count: int, rng: np.random.Generator) -> Float[np.ndarray, "N 2"]:
    """Up to `count` pixels of a person, about as many on each part that is seen, as annotators were asked for."""
    rows, columns = np.nonzero(seen.mask & (seen.parts > 0))
    order = rng.permutation(len(rows))
    parts = seen.parts[rows[order], columns[order]]
    rank = np.zeros(len(parts), np.int64)
    for part in np.unique(parts):
        of_part = np.flatnonzero(parts == part)
        rank[of_part] = np.arange(len(of_part))
    chosen = order[np.argsort(rank, kind="stable")[:count]]
    return np.stack([columns[chosen], rows[chosen]], axis=1).astype(np.float64)


class CocoWriter:
    """Writes pictures and annotations into a folder; used as a context manager. Annotations stream to the disk.

    The truth numbers sequences as its table says (`train2014`, `val2014`), frames by picture, people by annotation within
    the picture, and has one camera for every picture.
    """

    def __init__(self, folder: Path, truth: Header, charts_of: str, quality: int) -> None:
        self._folder = folder
        self._quality = quality
        self._info = {"description": "Synthetic pictures by posekit", CHARTS_OF: charts_of}
        self._truth = ArtifactWriter(folder / TRUTH_FILE, truth)
        self._files: dict[str, _AnnotationFile] = {}
        self._cameras: list[Camera] = []
        self._next = 1

    def __enter__(self) -> CocoWriter:
        for name in ("annotations", *FOLDERS.values()):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        for names in (KEYPOINT_FILES, DENSE_FILES):
            for name in names.values():
                self._files[name] = _AnnotationFile(self._folder / name, self._info)
        self._truth.__enter__()
        clips = [
            Clip(folder, 1.0, split=split) for folder, split in zip(FOLDERS.values(), ("train", "test"), strict=True)
        ]
        self._truth.append("sequences", clip_columns(clips))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        if kind is None and self._cameras:
            self._truth.append("cameras", camera_columns(self._cameras))
        self._truth.__exit__(kind, error, trace)

    def add(self, split: str, image_id: int, shot: Shot, snapshot: Snapshot, people: Sequence[Annotated]) -> None:
        """Writes a picture with its people."""
        name = image_name(split, image_id)
        (self._folder / name).write_bytes(encode_image(snapshot.image, "jpeg", self._quality).tobytes())
        height, width = snapshot.image.shape[:2]
        record = {"id": image_id, "file_name": Path(name).name, "width": width, "height": height, "license": 1}
        has_dense = any(person.points is not None for person in people)
        files = self._files[KEYPOINT_FILES[split]], self._files[DENSE_FILES[split]]
        self._cameras.append(replace(shot.camera, name=Path(name).name))
        for number, person in enumerate(people):
            annotation = self._annotation(person, image_id)
            files[0].add({key: value for key, value in annotation.items() if not key.startswith("dp_")})
            if has_dense:
                files[1].add(annotation)
            self._note(list(FOLDERS).index(split), image_id, number, person)
        files[0].images.append(record)
        if has_dense:
            files[1].images.append(record)

    def _annotation(self, person: Annotated, image_id: int) -> dict[str, Any]:
        seen, identity = person.seen, self._next
        self._next += 1
        rows, columns = np.nonzero(seen.mask)
        left, top = int(columns.min()), int(rows.min())
        bbox = [float(left), float(top), float(columns.max() + 1 - left), float(rows.max() + 1 - top)]
        labels = np.zeros((17, 3)) if person.crowd else seen.keypoints
        annotation: dict[str, Any] = {
            "id": identity,
            "image_id": image_id,
            "category_id": 1,
            "iscrowd": int(person.crowd),
            "bbox": bbox,
            "area": float(seen.mask.sum()),
            "segmentation": uncompressed_mask(seen.mask) if person.crowd else polygons_of(seen.mask),
            "keypoints": [int(value) for value in labels.ravel()],
            "num_keypoints": int((labels[:, 2] > 0).sum()),
        }
        if person.points is not None and not person.crowd:
            x, y = person.points.T.astype(np.int64)
            parts, uv = seen.parts[y, x].astype(np.int64), seen.uv[y, x].astype(np.float64)
            annotation |= write_points(person.points, parts, uv, bbox)
            annotation["dp_masks"] = write_masks(seen.parts, bbox)
        return annotation

    def _note(self, sequence: int, image_id: int, number: int, person: Annotated) -> None:
        key = {"sequence": [sequence], "frame": [image_id], "person": [number]}
        take, seen = person.take, person.seen
        body = {"betas": take.betas[None], "pose": take.pose[:1], "translation": take.translation[:1]}
        self._truth.append("bodies", {**key, **body})
        rows, columns = np.nonzero(seen.mask)
        cut = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
        iuv = np.concatenate([seen.parts[..., None], np.rint(seen.uv * 255.0).astype(np.uint8)], axis=2)[cut]
        view = {
            "camera": [len(self._cameras) - 1],
            "origin": [[int(columns.min()), int(rows.min())]],
            "mask": [cv2.imencode(".png", seen.mask[cut].astype(np.uint8) * 255)[1].ravel()],
            # OpenCV writes the last channel first.
            "iuv": [cv2.imencode(".png", np.ascontiguousarray(iuv[..., ::-1]))[1].ravel()],
        }
        self._truth.append("views", {**key, **view})


class _AnnotationFile:
    """One JSON file of COCO; annotations go to the disk at once, the short records of pictures at the end."""

    def __init__(self, path: Path, info: Mapping[str, Any]) -> None:
        self.images: list[dict[str, Any]] = []
        self._stream: TextIO = path.open("w", encoding="utf-8")
        self._count = 0
        categories = [
            {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(COCO17.joints), "skeleton": _BONES}
        ]
        self._stream.write(
            f'{{"info": {json.dumps(info)}, "licenses": [{{"id": 1, "name": "synthetic", "url": ""}}], '
            f'"categories": {json.dumps(categories)},\n"annotations": ['
        )

    def add(self, annotation: Mapping[str, Any]) -> None:
        """Writes an annotation."""
        self._stream.write((",\n" if self._count else "\n") + json.dumps(annotation, separators=(",", ":")))
        self._count += 1

    def close(self) -> None:
        """Writes the rest."""
        self._stream.write(f'\n],\n"images": {json.dumps(self.images)}}}\n')
        self._stream.close()
