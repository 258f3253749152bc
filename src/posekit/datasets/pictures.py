"""Own pictures and videos: what a folder holds, and who is who from frame to frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from posekit.datasets.boxes import MOST_PEOPLE, Person
from posekit.datasets.media import VIDEO_ENDINGS, image_files, is_image, natural_key
from posekit.errors import InputError, MissingFileError
from posekit.records import Camera

_LEAST_OVERLAP = 0.2
_PATIENCE = 10
"""Frames (of those that are read) for which someone may be away and still be known again."""


@dataclass(frozen=True)
class Media:
    """Pictures, each by itself, or videos (also a folder of the frames of one), below `root`; names are paths below it."""

    root: Path
    paths: tuple[Path, ...]
    video: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Paths below the root, with `/`."""
        return tuple(path.relative_to(self.root).as_posix() for path in self.paths)


def find_pictures(path: Path) -> Media:
    """One picture, or all of a folder and its sub-folders in natural order. MissingFileError when there are none."""
    if path.is_file() and is_image(path.name):
        return Media(path.parent, (path,), video=False)
    found = _below(path, lambda file: is_image(file.name))
    if not found:
        raise MissingFileError("no pictures there", got=path, hint="`posekit preprocess video` reads videos")
    return Media(path, found, video=False)


def find_videos(path: Path) -> Media:
    """One video, all videos of a folder and its sub-folders, or a folder of frames. MissingFileError when there are none."""
    if path.is_file() and _is_video(path):
        return Media(path.parent, (path,), video=True)
    found = _below(path, _is_video)
    if found:
        return Media(path, found, video=True)
    if path.is_dir() and image_files(path):
        return Media(path.parent, (path,), video=True)
    raise MissingFileError("no videos there", got=path, accepted=sorted(VIDEO_ENDINGS))


def find_media(path: Path) -> Media:
    """The pictures or the videos of a path. InputError where it holds both."""
    if path.is_file():
        return find_videos(path) if _is_video(path) else find_pictures(path)
    pictures, videos = _below(path, lambda file: is_image(file.name)), _below(path, _is_video)
    if pictures and videos:
        raise InputError(
            "pictures and videos in one folder",
            got=f"{len(pictures)} pictures, {len(videos)} videos in {path}",
            hint="Name one of them, or run `posekit preprocess images` or `posekit preprocess video` first",
        )
    return find_videos(path) if videos else find_pictures(path)


def guessed_camera(name: str, width: int, height: int) -> Camera:
    """An unposed camera whose focal length is a guess: the diagonal of the picture, as of a normal lens."""
    focal = max(1.0, math.hypot(width, height))
    K = np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])
    return Camera(name, width, height, K, posed=False)


def number_people(frames: Mapping[int, Sequence[Person]], step: int) -> dict[int, list[int]]:
    """The number of everyone in every frame of a video; frames are read every `step`.

    Numbers that the file gave are kept. Others follow whose boxes overlap most, from one frame to the next. People beyond
    the numbers that rows can have get -1.
    """
    tracks: dict[int, tuple[int, np.ndarray]] = {}
    taken = {person.number for people in frames.values() for person in people if person.number is not None}
    free = iter(number for number in range(MOST_PEOPLE) if number not in taken)
    numbers: dict[int, list[int]] = {}
    for frame in sorted(frames):
        people = frames[frame]
        tracks = {n: seen for n, seen in tracks.items() if frame - seen[0] <= _PATIENCE * step}
        chosen = [-1 if person.number is None else person.number for person in people]
        open_rows = [row for row, number in enumerate(chosen) if number < 0]
        overlaps = sorted(
            ((overlap(people[row].bbox, box), row, n) for row in open_rows for n, (_, box) in tracks.items()),
            reverse=True,
        )
        for share, row, n in overlaps:
            if share >= _LEAST_OVERLAP and chosen[row] < 0 and n not in chosen:
                chosen[row] = n
        for row in open_rows:
            chosen[row] = chosen[row] if chosen[row] >= 0 else next(free, -1)
            if chosen[row] >= 0:
                tracks[chosen[row]] = (frame, people[row].bbox)
        numbers[frame] = chosen
    return numbers


def overlap(first: Float[np.ndarray, "4"], second: Float[np.ndarray, "4"]) -> float:
    """Intersection of two boxes over their union."""
    size = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(size.clip(0).prod())
    whole = float((first[2:] - first[:2]).clip(0).prod() + (second[2:] - second[:2]).clip(0).prod()) - shared
    return shared / whole if whole > 0 else 0.0


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_ENDINGS and not path.name.startswith(".")


def _below(path: Path, wanted: Callable[[Path], bool]) -> tuple[Path, ...]:
    if not path.exists():
        raise MissingFileError("there is nothing at this path", got=path)
    if path.is_file():
        return ()
    found = [
        file
        for file in path.rglob("*")
        if wanted(file) and file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    return tuple(sorted(found, key=lambda file: natural_key(file.relative_to(path).as_posix())))
