"""Videos and folders of frames, read frame by frame: ``for index, rgb in open_frames(path).frames(range(0, 100, 5))``."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Float, UInt8

from posekit.errors import FormatError, InputError, MissingFileError

VIDEO_ENDINGS = frozenset({".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"})
IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
FOLDER_FPS = 25.0

_SEEK_GAIN = 8
"""Frames that a jump to a key frame must save: a jump empties the decoder's threads."""

Image = UInt8[np.ndarray, "H W 3"]


class FrameSource(ABC):
    """Frames in a fixed order, numbered from 0, all of one size (px, as seen upright); a context manager."""

    path: Path
    width: int
    height: int
    fps: float

    @property
    @abstractmethod
    def count(self) -> int:
        """One more than the number of the last frame that can be read."""

    @property
    def declared_count(self) -> int:
        """Number of frames that the source promises; more than `count` for a video that was cut short."""
        return self.count

    @property
    def available(self) -> Sequence[int]:
        """Numbers of the frames that are there."""
        return range(self.count)

    @abstractmethod
    def frames(self, indices: Iterable[int] | None = None) -> Iterator[tuple[int, Image]]:
        """(index, RGB image) of the frames asked for, in rising order; all frames when nothing is asked for.

        Raises InputError for indices that do not rise or are negative. Raises FormatError, after all frames before it were
        given, for the first frame that is not there or cannot be decoded; the message says how many can be read.
        """

    def frame(self, index: int) -> Image:
        """One frame."""
        for _, image in self.frames([index]):
            return image
        raise AssertionError("frames() yields or raises")

    @abstractmethod
    def close(self) -> None:
        """Gives back the decoder; nothing can be read afterwards."""

    def _require_size(self, image: np.ndarray, where: str) -> None:
        if image.shape[:2] != (self.height, self.width):
            raise FormatError(
                f"the size of the frames changes within {self.path}",
                got=f"{image.shape[1]}x{image.shape[0]} in {where}",
                accepted=f"{self.width}x{self.height}, as at the start",
            )

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_frames(path: Path, *, fps: float | None = None, first: int | None = None) -> FrameSource:
    """The frames of a video file or of a folder of images; `fps` overrides what the source says, `first` is for folders.

    Raises MissingFileError when there is nothing at `path`, FormatError when it holds no frames.
    """
    path = Path(path)
    if path.is_dir() or "*" in path.name:
        return FrameFolder(path, fps=fps, first=first)
    return VideoReader(path, fps=fps)


@dataclass(frozen=True)
class _Timeline:
    """What the packets of a video say without being decoded: time stamps in display order and where key frames are."""

    count: int
    declared: int
    stamps: np.ndarray | None
    keyframes: np.ndarray

    def index_of(self, stamp: int | None) -> int | None:
        if self.stamps is None or stamp is None:
            return None
        at = int(np.searchsorted(self.stamps, stamp))
        return at if at < len(self.stamps) and self.stamps[at] == stamp else None

    def keyframe_before(self, index: int) -> int:
        """The last key frame at or before a frame."""
        at = int(np.searchsorted(self.keyframes, index, side="right")) - 1
        return int(self.keyframes[at]) if at >= 0 else 0


class VideoReader(FrameSource):
    """A video file. Rotation that phones note in the container is applied.

    Raises MissingFileError or FormatError at once when there is no file or it has no readable video in it.
    """

    def __init__(self, path: Path, *, fps: float | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise MissingFileError("video not found", got=self.path)
        self._reformatter = VideoReformatter()
        self._container: av.container.InputContainer | None = None
        self._open()
        self._fresh: Iterator[av.VideoFrame] | None = self._decoded()
        try:
            first = next(self._fresh, None)
        except FormatError:
            first = None
        if first is None:
            self.close()
            raise FormatError("no frame of the video can be read", got=self.path, hint="Copy it from its source again")
        self._rotation = round(first.rotation / 90) % 4
        upright = self._rotation % 2 == 0
        self.width, self.height = (first.width, first.height) if upright else (first.height, first.width)
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(fps or rate or FOLDER_FPS)
        # Opening costs as much as decoding dozens of frames: the first reading goes on from here.
        self._fresh = chain([first], self._fresh)

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    @cached_property
    def _timeline(self) -> _Timeline:
        with _opened(self.path) as container:
            return _read_timeline(container)

    @property
    def count(self) -> int:
        return self._timeline.count

    @property
    def declared_count(self) -> int:
        return max(self._timeline.declared, self._timeline.count)

    @cached_property
    def timestamps(self) -> Float[np.ndarray, "T"]:
        """Time of every frame in seconds from the first; from `fps` where the file has no time stamps."""
        stamps = self._timeline.stamps
        if stamps is None:
            return np.arange(self.count) / self.fps
        return (stamps - stamps[0]) * float(self._stream.time_base or 1 / self.fps)

    def frames(self, indices: Iterable[int] | None = None) -> Iterator[tuple[int, Image]]:
        wanted = range(self.declared_count) if indices is None else indices
        decoder = _Decoder(self)
        for index in _rising(wanted):
            yield index, self._image(decoder.advance(index), index)

    def _image(self, frame: av.VideoFrame, index: int) -> np.ndarray:
        image: np.ndarray = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        image = np.ascontiguousarray(np.rot90(image, self._rotation)) if self._rotation else image
        self._require_size(image, f"frame {index}")
        return image

    def _open(self) -> None:
        self.close()
        self._container = _opened(self.path)
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"

    def _frames_from(self, index: int) -> Iterator[av.VideoFrame]:
        """Frames as they are decoded, beginning at or before a frame."""
        if self._container is None:
            raise InputError("the video was closed", got=self.path)
        stamps, fresh = self._timeline.stamps, self._fresh
        self._fresh = None
        if index == 0 or stamps is None:
            if fresh is not None:
                return fresh
            self._open()
        else:
            self._container.seek(int(stamps[index]), stream=self._stream, backward=True)
        return self._decoded()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        assert self._container is not None
        try:
            yield from self._container.decode(self._stream)
        except av.error.FFmpegError as error:
            raise FormatError("a frame cannot be decoded", got=error.strerror) from error


class _Decoder:
    """Walks through a video; knows which frame comes next."""

    def __init__(self, reader: VideoReader) -> None:
        self._reader = reader
        self._timeline = reader._timeline
        self._start(0)

    def _start(self, index: int) -> None:
        self._frames = self._reader._frames_from(index)
        self._next = 0
        self._counting = index == 0

    def advance(self, index: int) -> av.VideoFrame:
        timeline = self._timeline
        if index >= timeline.count:
            raise self._ends_early(index, timeline.count)
        keyframe = timeline.keyframe_before(index)
        if timeline.stamps is not None and keyframe - self._next >= _SEEK_GAIN:
            self._start(keyframe)
        try:
            found = self._walk_to(index)
        except FormatError as error:
            raise self._ends_early(index, self._next) from error
        if found is None or found.is_corrupt:
            raise self._ends_early(index, self._next if found is None else index)
        return found

    def _walk_to(self, index: int) -> av.VideoFrame | None:
        for frame in self._frames:
            at = self._next if self._counting else self._timeline.index_of(frame.pts)
            if at is None or (at > index and not self._counting):
                # The jump did not land where the time stamps said; only counting from the start is sure then.
                self._start(0)
                return self._walk_to(index)
            self._next = at + 1
            if at == index:
                return frame
        return None

    def _ends_early(self, index: int, readable: int) -> FormatError:
        declared = self._reader.declared_count
        short = declared > self._timeline.count or readable < self._timeline.count
        return FormatError(
            f"the video is cut short or damaged: {self._reader.path}" if short else f"{self._reader.path} ends early",
            got=f"{readable} of {declared} frames can be read, frame {index} was needed",
            hint="Copy it from its source again" if short else None,
        )


class FrameFolder(FrameSource):
    """A folder of images; EXIF orientation is applied.

    `path` may end in a pattern (``images/S1_*``) that picks some of a folder's images. Frames are numbered by their place
    in natural order (frame2 before frame10); with `first`, by the number that ends their names, where `first` stands for
    frame 0: then frames may be missing, and `available` says which are there.

    Raises MissingFileError when there is no folder, FormatError when it has no images or the first cannot be read.
    """

    def __init__(
        self, path: Path, *, fps: float | None = None, first: int | None = None, files: Sequence[Path] | None = None
    ) -> None:
        self.path = Path(path)
        self.fps = fps or FOLDER_FPS
        self.files = image_files(self.path) if files is None else list(files)
        if not self.files:
            raise FormatError("no images in the folder", got=self.path, accepted=sorted(IMAGE_ENDINGS))
        places = range(len(self.files)) if first is None else [trailing_number(file) - first for file in self.files]
        self._files = dict(zip(places, self.files, strict=True))
        self._places = sorted(place for place in self._files if place >= 0)
        self.height, self.width = read_image(self.files[0]).shape[:2]

    @property
    def count(self) -> int:
        return self._places[-1] + 1 if self._places else 0

    @property
    def available(self) -> Sequence[int]:
        return self._places

    def close(self) -> None:
        """Nothing to give back: each image is opened when its turn comes."""

    def frames(self, indices: Iterable[int] | None = None) -> Iterator[tuple[int, Image]]:
        for index in _rising(self.available if indices is None else indices):
            if index not in self._files:
                raise FormatError(
                    f"{self.path} lacks a frame", got=f"{len(self.files)} images, frame {index} was needed"
                )
            image = read_image(self._files[index])
            self._require_size(image, self._files[index].name)
            yield index, image


def image_files(path: Path) -> list[Path]:
    """The images of a folder, or those that a pattern in its last part picks, in natural order.

    Raises MissingFileError when there is no folder.
    """
    folder, pattern = (path.parent, path.name) if "*" in path.name else (path, "*")
    if not folder.is_dir():
        raise MissingFileError("folder of frames not found", got=folder)
    found = (file for file in folder.glob(pattern) if is_image(file.name))
    return sorted(found, key=lambda file: natural_key(file.name))


def is_image(name: str) -> bool:
    """Whether a file name is that of an image."""
    return Path(name).suffix.lower() in IMAGE_ENDINGS and not name.startswith(".")


def trailing_number(file: Path) -> int:
    """The number that ends a file's name, before its ending; FormatError when there is none."""
    digits = re.search(r"(\d+)$", file.stem)
    if digits is None:
        raise FormatError(
            "the name of a frame does not end in its number", got=file, accepted="names like frame_000001.jpg"
        )
    return int(digits[1])


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key by which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part.lower()) for part in parts if part)


def read_image(path: Path) -> Image:
    """An image file as RGB, upright; MissingFileError or FormatError."""
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise MissingFileError("image not found", got=path) from error
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    if image is None:
        raise FormatError("the image cannot be read", got=path, accepted=sorted(IMAGE_ENDINGS))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _opened(path: Path) -> av.container.InputContainer:
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        state = "an empty file" if path.stat().st_size == 0 else error.strerror
        raise FormatError(
            "no frame of the video can be read", got=f"{path} ({state})", hint="Copy it from its source again"
        ) from error
    if not container.streams.video:
        container.close()
        raise FormatError("the file has no video in it", got=path, accepted=sorted(VIDEO_ENDINGS))
    return container


def _read_timeline(container: av.container.InputContainer) -> _Timeline:
    stream = container.streams.video[0]
    stamps: list[int | None] = []
    keyframes: list[int | None] = []
    hidden = 0
    try:
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_corrupt:
                continue
            hidden += packet.is_discard
            if not packet.is_discard:
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    keyframes.append(packet.pts)
    except av.error.FFmpegError:
        pass  # what came before the damage still counts
    declared = stream.frames - hidden if stream.frames else 0
    known = [stamp for stamp in stamps if stamp is not None]
    ordered = np.unique(np.asarray(known, dtype=np.int64))
    if len(ordered) != len(stamps):
        return _Timeline(len(stamps), declared, None, np.zeros(0, dtype=np.int64))
    places = np.searchsorted(ordered, np.asarray(sorted(stamp for stamp in keyframes if stamp is not None)))
    return _Timeline(len(stamps), declared, ordered, places)


def _rising(indices: Iterable[int]) -> Iterator[int]:
    last = -1
    for index in indices:
        if index <= last:
            raise InputError("frames are read in rising order from 0", got=f"{index} after {last}")
        last = int(index)
        yield last
