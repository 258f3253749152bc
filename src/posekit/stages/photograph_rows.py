"""Data sets of single pictures: their rows and crops, written in shards so that a killed run loses at most the one in work.

Every annotation file (or part of one) is one row of `sequences`, the number of a picture is its frame, and all pictures share
one camera of unknown pose.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from posekit.artifacts.files import Artifact
from posekit.artifacts.provenance import Header
from posekit.artifacts.shards import ShardedArtifact
from posekit.artifacts.writing import ArtifactWriter, update_digest
from posekit.datasets.crops import crop_image, encode_image, square_crop
from posekit.datasets.photographs import Photo
from posekit.errors import DataError, FormatError, MissingFileError
from posekit.progress import track
from posekit.records import Camera, Clip, camera_columns, clip_columns

STILLS_PER_SECOND = 1.0

_PHOTOS_PER_SHARD = 256
_NAMED_IN_NOTES = 5

Columns = dict[str, Any]
P = TypeVar("P", bound=Photo)


@runtime_checkable
class PhotoSettings(Protocol):
    """The settings that such stages have in common."""

    @property
    def output(self) -> Path:
        """The artifact to write."""

    @property
    def force(self) -> bool:
        """Whether shards of an earlier run are thrown away."""

    @property
    def crops(self) -> bool:
        """Whether to store them."""

    @property
    def crop_size(self) -> int:
        """Their side (px)."""

    @property
    def crop_margin(self) -> float:
        """Their side over the longer side of the box."""

    @property
    def jpeg_quality(self) -> int:
        """Of their JPEG files."""


@dataclass(frozen=True)
class _Shard(Generic[P]):
    """Consecutive pictures of one sequence."""

    sequence: int
    photos: tuple[P, ...]


@dataclass(frozen=True)
class PhotoReader(Generic[P]):
    """What differs between data sets: how a picture is read, and what its rows hold besides what all have.

    `image` raises FormatError or MissingFileError where there is no whole picture.
    """

    image: Callable[[P], UInt8[np.ndarray, "H W 3"]]
    columns: Callable[[P], Columns] = lambda photo: {}


@dataclass(frozen=True)
class PhotoTables:
    """What a data set of pictures has besides its rows."""

    name: str
    cameras: Sequence[Camera]
    clips: Sequence[Clip]


def write_photographs(
    config: PhotoSettings,
    header: Header,
    sequences: Sequence[Sequence[P]],
    reader: PhotoReader[P],
    tables: PhotoTables,
    found: tuple[Mapping[str, int], Sequence[str]],
) -> None:
    """Writes the data set; the facts of its header gain `counts` and `failures`.

    `found` are counts and failures from before the pictures were read. Pictures without a file are passed over; damaged
    ones are counted and left out. Raises DataError when nobody remains.
    """
    plan = list(_shards(sequences))
    shards = ShardedArtifact(config.output, header, len(plan))
    if config.force:
        shutil.rmtree(shards.folder, ignore_errors=True)
    pending = shards.pending()
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for index in track(pending, "preprocess", total=len(pending), unit="shard"):
            with ArtifactWriter(shards.part(index), header) as writer:
                failures = []
                for rows in pool.map(partial(_rows, config, reader, plan[index].sequence), plan[index].photos):
                    if isinstance(rows, str):
                        failures.append(rows)
                    else:
                        writer.append("samples", rows)
                writer.header = replace(header, facts={**header.facts, "failures": failures})
    counts, failures = _outcome(found, shards)
    if not counts["samples"]:
        shutil.rmtree(shards.folder, ignore_errors=True)
        got = dict(counts) | {"failures": failures[:_NAMED_IN_NOTES]}
        raise DataError(f"nobody of {tables.name} remains", got=got, accepted="one person")
    facts = {**header.facts, "counts": dict(counts), "failures": failures}
    whole = {"cameras": camera_columns(tables.cameras), "sequences": clip_columns(tables.clips)}
    ShardedArtifact(config.output, replace(header, facts=facts), shards.count).join(whole)


def listing_digest(lines: Sequence[str]) -> str:
    """One digest for many lines."""
    sha = hashlib.sha256()
    update_digest(sha, np.array(lines, dtype=object))
    return sha.hexdigest()


def named(what: str, items: Sequence[str]) -> list[str]:
    """A note that names the first few items, or none where there are none."""
    if not items:
        return []
    rest = f"; and {len(items) - _NAMED_IN_NOTES} more" if len(items) > _NAMED_IN_NOTES else ""
    return [f"{what}: {'; '.join(items[:_NAMED_IN_NOTES])}{rest}"]


def _shards(sequences: Sequence[Sequence[P]]) -> Iterator[_Shard[P]]:
    for sequence, photos in enumerate(sequences):
        there = [photo for photo in photos if photo.file is not None]
        for begin in range(0, len(there), _PHOTOS_PER_SHARD):
            yield _Shard(sequence, tuple(there[begin : begin + _PHOTOS_PER_SHARD]))


def _outcome(found: tuple[Mapping[str, int], Sequence[str]], shards: ShardedArtifact) -> tuple[Counter[str], list[str]]:
    counts: Counter[str] = Counter(samples=0)
    counts.update(found[0])
    failures = list(found[1])
    for index in range(shards.count):
        with Artifact(shards.part(index)) as shard:
            counts["samples"] += shard.rows("samples")
            counts["pictures_broken"] += len(shard.header.facts["failures"])
            failures += shard.header.facts["failures"]
    return counts, failures


def _rows(config: PhotoSettings, reader: PhotoReader[P], sequence: int, photo: P) -> Columns | str:
    """The rows of a picture, or why there are none."""
    try:
        image = reader.image(photo)
    except (FormatError, MissingFileError) as error:
        return f"broken: {error}"
    people = photo.people
    columns: Columns = {
        "sequence": np.full(len(people), sequence),
        "frame": np.full(len(people), photo.image_id),
        "person": np.array([person.number for person in people]),
        "camera": np.zeros(len(people), dtype=int),
        "bbox": np.stack([person.bbox for person in people]),
        "keypoints2d": np.stack([person.keypoints for person in people]),
        **reader.columns(photo),
    }
    if config.crops:
        maps = [square_crop(person.bbox, config.crop_size, config.crop_margin) for person in people]
        crops = [crop_image(image, crop_from_image, config.crop_size) for crop_from_image in maps]
        columns["image"] = [encode_image(crop, "jpeg", config.jpeg_quality) for crop in crops]
        columns["crop_from_image"] = np.stack(maps)
    return columns
