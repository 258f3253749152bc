"""The rows of own pictures and videos, read one by one; what `posekit.stages.pictures` writes."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from posekit.artifacts.writing import ArtifactWriter
from posekit.config.prediction import PreprocessPictures
from posekit.datasets.boxes import EVERY_FRAME, People, Person, fault_of, whole_image
from posekit.datasets.crops import crop_image, encode_image, square_crop
from posekit.datasets.media import open_frames, read_image
from posekit.datasets.pictures import Media, guessed_camera, number_people
from posekit.errors import InputError
from posekit.records import Clip, camera_columns, clip_columns

_PICTURES_AT_ONCE = 256
_FRAMES_AT_ONCE = 1000
_ROWS_AT_ONCE = 32
_IN_FLIGHT = 8
_PICTURE_FPS = 1.0

Row = dict[str, Any]
Numbered = Sequence[tuple[int, Person]]


@dataclass
class Outcome:
    """What became of pictures; kept in the file, so that later runs can report the same. The size is the largest seen."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    width: int = 0
    height: int = 0

    def plain(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"counts": dict(self.counts), "failures": self.failures, "size": [self.width, self.height]}

    def add(self, other: Mapping[str, Any]) -> None:
        """Takes in another outcome's plain values; what went wrong twice is told once."""
        self.counts.update(other["counts"])
        self.failures += [line for line in other["failures"] if line not in self.failures]
        self.sees(*other["size"])

    def sees(self, width: int, height: int) -> None:
        """Notes the size of a picture."""
        self.width, self.height = max(self.width, width), max(self.height, height)


@dataclass(frozen=True, eq=False)
class _Video:
    """What is known of a video without its pixels; `people` by frame, None: the whole image in every frame."""

    sequence: int
    width: int
    height: int
    fps: float
    count: int
    people: Mapping[int, Numbered] | None


@dataclass(frozen=True)
class Job:
    """The pictures from `begin` to `end`, or those frames of the video `medium`."""

    medium: int
    begin: int
    end: int


@dataclass
class _Found:
    """The rows of one image, and what was left out."""

    rows: list[Row] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)


class PictureReader:
    """Turns pictures into rows; what goes wrong ends up in the outcome, not in an exception."""

    def __init__(self, config: PreprocessPictures, media: Media, people: People | None, joints: int) -> None:
        self.config, self.media, self.people = config, media, people
        self.outcome = Outcome()
        self._joints = joints
        self._stride: int = getattr(config, "stride", 1)
        self._videos: dict[int, _Video] = {}
        for row, path in enumerate(media.paths if media.video else ()):
            self._open(row, path)

    def jobs(self) -> list[Job]:
        """The work in pieces."""
        if not self.media.video:
            total = len(self.media.paths)
            return [Job(-1, at, min(at + _PICTURES_AT_ONCE, total)) for at in range(0, total, _PICTURES_AT_ONCE)]
        step = _FRAMES_AT_ONCE * self._stride
        return [
            Job(row, begin, min(begin + step, video.count))
            for row, video in self._videos.items()
            for begin in range(0, video.count, step)
        ]

    def write(self, job: Job, writer: ArtifactWriter) -> Outcome:
        """Writes the rows of a job."""
        outcome = Outcome()
        block: list[Row] = []
        with ThreadPoolExecutor(max_workers=2) as pool:
            for found in _in_order(pool, self._frames(job, outcome) if self.media.video else self._pictures(job)):
                outcome.add(found.outcome.plain())
                block += found.rows
                if len(block) >= _ROWS_AT_ONCE:
                    writer.append("samples", _columns(block))
                    block = []
        if block:
            writer.append("samples", _columns(block))
        outcome.counts["samples"] = writer.rows("samples")
        return outcome

    def tables(self, outcome: Outcome) -> dict[str, dict[str, Any]]:
        """The tables that belong to the file as a whole; `outcome` is that of all jobs."""
        names, videos = self.media.names, list(self._videos.items())
        if self.media.video:
            clips = [Clip(names[row], video.fps) for row, video in videos]
            cameras = [guessed_camera(names[row], video.width, video.height) for row, video in videos]
            paths, frames = [names[row] for row, _ in videos], [video.count for _, video in videos]
        else:
            clips = [Clip(name, _PICTURE_FPS) for name in names]
            cameras = [guessed_camera("pictures", outcome.width, outcome.height)]
            paths, frames = list(names), [1] * len(names)
        places = list(range(len(paths)))
        return {
            "cameras": camera_columns(cameras),
            "sequences": clip_columns(clips),
            "videos": {
                "sequence": places,
                "camera": places if self.media.video else [0] * len(paths),
                "path": paths,
                "frames": frames,
            },
        }

    def _open(self, row: int, path: Path) -> None:
        name = self.media.names[row]
        try:
            with open_frames(path, fps=getattr(self.config, "fps", None)) as source:
                count, declared = source.count, source.declared_count
                width, height, rate = source.width, source.height, source.fps
        except InputError as error:
            self.outcome.failures.append(f"{name}: {error}")
            self.outcome.counts["videos_unreadable"] += 1
            return
        if declared > count:
            self.outcome.failures.append(f"{name}: {count} of {declared} frames can be read")
            self.outcome.counts["frames_unreadable"] += declared - count
        people = None if self.people is None else self._followed(self.people, name, count)
        self._videos[row] = _Video(len(self._videos), width, height, rate, count, people)

    def _followed(self, people: People, name: str, count: int) -> Mapping[int, Numbered]:
        """Who is in which frame of a video, everyone under one number throughout."""
        frames = people.of(name)
        if not frames and len(people.frames) == len(self.media.paths) == 1:
            frames = next(iter(people.frames.values()))
        everywhere = list(frames.get(EVERY_FRAME, ()))
        numbered = [frame for frame in frames if frame >= 0]
        # Files that are numbered from 1 have one too many for a video whose frames are numbered from 0.
        first = min(numbered) if self.config.keypoints is not None and max(numbered, default=0) >= count else 0
        self.outcome.counts["frames_of_people_beyond_the_video"] += sum(frame - first >= count for frame in numbered)
        there = {t: [*everywhere, *frames.get(t + first, ())] for t in range(0, count, self._stride)}
        numbers = number_people({t: seen for t, seen in there.items() if seen}, self._stride)
        chosen = {t: list(zip(mine, there[t], strict=True)) for t, mine in numbers.items()}
        self.outcome.counts["people_too_many_to_number"] += sum(n < 0 for mine in numbers.values() for n in mine)
        return {t: [(number, person) for number, person in seen if number >= 0] for t, seen in chosen.items()}

    def _frames(self, job: Job, outcome: Outcome) -> Iterator[Callable[[], _Found]]:
        video = self._videos[job.medium]
        wanted = list(range(job.begin, job.end, self._stride))
        if video.people is not None:
            there = [t for t in wanted if video.people.get(t)]
            outcome.counts["frames_without_people"] += len(wanted) - len(there)
            wanted = there
        everyone: Numbered = [(0, whole_image(video.width, video.height))]
        read = 0
        try:
            with open_frames(self.media.paths[job.medium]) as source:
                for t, image in source.frames(wanted):
                    read += 1
                    people = everyone if video.people is None else video.people[t]
                    yield partial(self._cut, image, (video.sequence, t, video.sequence), people)
        except InputError as error:
            outcome.failures.append(f"{self.media.names[job.medium]}: {error}")
            outcome.counts["frames_unreadable"] += len(wanted) - read

    def _pictures(self, job: Job) -> Iterator[Callable[[], _Found]]:
        return (partial(self._picture, row) for row in range(job.begin, job.end))

    def _picture(self, row: int) -> _Found:
        name = self.media.names[row]
        try:
            image = read_image(self.media.paths[row])
        except InputError as error:
            return _Found([], Outcome(Counter(pictures_unreadable=1), [f"{name}: {error}"]))
        if self.people is None:
            return self._cut(image, (row, 0, 0), [(0, whole_image(image.shape[1], image.shape[0]))])
        frames = self.people.of(name)
        people = [*frames.get(EVERY_FRAME, ()), *frames.get(0, ())]
        numbers = number_people({0: people}, 1)[0]
        outcome = Counter(people_too_many_to_number=sum(number < 0 for number in numbers))
        numbered = [(number, person) for number, person in zip(numbers, people, strict=True) if number >= 0]
        found = self._cut(image, (row, 0, 0), numbered)
        found.outcome.counts.update(outcome)
        return found

    def _cut(self, image: np.ndarray, place: tuple[int, int, int], people: Numbered) -> _Found:
        """The rows of one image; `place` is sequence, frame, camera."""
        height, width = image.shape[:2]
        found = _Found(outcome=Outcome(Counter(), [], width, height))
        found.outcome.counts["pictures_without_people"] += not people
        for number, person in people:
            if fault := fault_of(person.bbox, width, height):
                found.outcome.counts[fault] += 1
                continue
            row: Row = dict(zip(("sequence", "frame", "camera"), place, strict=True)) | {"person": number}
            row["bbox"] = person.bbox
            row["keypoints2d"] = np.zeros((self._joints, 3)) if person.keypoints is None else person.keypoints
            if self.config.crops:
                row["crop_from_image"] = square_crop(person.bbox, self.config.crop_size, self.config.crop_margin)
                crop = crop_image(image, row["crop_from_image"], self.config.crop_size)
                row["image"] = encode_image(crop, "jpeg", self.config.jpeg_quality)
            found.rows.append(row)
        return found


def _columns(rows: Sequence[Row]) -> dict[str, Any]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _in_order(pool: ThreadPoolExecutor, calls: Iterable[Callable[[], _Found]]) -> Iterator[_Found]:
    """The results of calls in their order; a few of them are under way at any time."""
    pending: deque[Future[_Found]] = deque()
    for call in calls:
        pending.append(pool.submit(call))
        if len(pending) >= _IN_FLIGHT:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
