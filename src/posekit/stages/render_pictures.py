"""Where `posekit render` takes its frames from and puts its pictures."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from posekit.artifacts.files import Artifact
from posekit.datasets.media import is_image, open_frames, read_image
from posekit.errors import DataError, FormatError, InputError
from posekit.evaluation.keys import Keys
from posekit.render.drawing import draw_label
from posekit.render.video import VideoWriter, write_image

Image = UInt8[np.ndarray, "_ _ 3"]
IDENTITY = np.eye(2, 3)

GAP = 6
SHEET_COLUMNS = 4
SHEET_HEIGHT = 420
"""Contact sheets show so many moments of every picture, each at most so high."""
GALLERY_CELLS = 24
"""Contact sheets of single pictures show so many of them."""
LONGEST_NAME = 40
"""Letters of a name that fit into a cell of theirs."""


class Canvas(NamedTuple):
    """A frame to draw on, and where the pixels of the original frame lie on it."""

    frame: int
    image: Image
    canvas_from_image: Float[np.ndarray, "2 3"]


def raw_root(dataset: Artifact, given: Path | None) -> Path | None:
    """The folder of the original frames: the one given, else the one that preprocess read, if it is still there."""
    if given is not None:
        if not given.is_dir():
            raise InputError("the folder of the original frames is not there", got=given, hint="Give another --raw")
        return given
    recorded = dataset.header.facts.get("raw_root")
    return Path(str(recorded)) if recorded and Path(str(recorded)).is_dir() else None


def canvases(
    dataset: Artifact, root: Path | None, sequence: int, camera: int, frames: Sequence[int]
) -> Iterator[Canvas]:
    """The original frames of a view; without them, the stored crops of the person of the lowest number.

    Raises InputError when there are neither, FormatError for a video that ends early.
    """
    videos = dataset.table("videos") if root is not None else {}
    mine = [
        str(path)
        for path, at, seen_by in zip(*(videos.get(name, ()) for name in ("path", "sequence", "camera")), strict=True)
        if (int(at), int(seen_by)) == (sequence, camera)
    ]
    if root is not None and mine:
        first = dataset.header.facts.get("first_frame_number")
        path = root / mine[0]
        if is_image(path.name) and not path.is_dir():
            # A picture by itself; read as preprocess read it, the right way up.
            for frame in frames:
                yield Canvas(frame, read_image(path), IDENTITY)
            return
        with open_frames(path, first=None if path.is_file() else first) as source:
            for index, image in source.frames(frames):
                yield Canvas(index, image, IDENTITY)
    elif dataset.has("samples", "image"):
        yield from _crops(dataset, sequence, camera, frames)
    else:
        raise InputError(
            "no frames to draw on",
            got=root or dataset.header.facts.get("raw_root") or "no raw folder",
            hint="Give the folder of the original frames with --raw, or ask for --kind side, which needs none",
        )


def _crops(dataset: Artifact, sequence: int, camera: int, frames: Sequence[int]) -> Iterator[Canvas]:
    keys = Keys.read(dataset, "samples")
    mine = np.flatnonzero((keys.sequence == sequence) & (keys.camera == camera))
    mine = mine[np.lexsort((-keys.person[mine], keys.frame[mine]))]
    row_of = dict(zip(keys.frame[mine].tolist(), mine.tolist(), strict=True))
    for frame in frames:
        if frame not in row_of:
            continue
        data = dataset.read_ragged("samples", "image", [row_of[frame]])[0]
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
        if image is None:
            raise FormatError(f"the crop of frame {frame} in {dataset.path} is no picture", hint="Make the file again")
        yield Canvas(frame, image, dataset.read("samples", "crop_from_image", [row_of[frame]])[0])


def scaled(canvas: Canvas, scale: float) -> Canvas:
    """A canvas of another size; always a copy that may be drawn on."""
    if scale == 1.0:
        return canvas._replace(image=canvas.image.copy())
    height, width = (max(2, round(side * scale)) for side in canvas.image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(canvas.image, (width, height), interpolation=method)
    # Pixel centres are whole numbers, so that it is the outer borders, half a pixel outside, which scale.
    stretch = np.array([width / canvas.image.shape[1], height / canvas.image.shape[0]])
    moved = stretch[:, None] * canvas.canvas_from_image
    moved[:, 2] += (stretch - 1) / 2
    return Canvas(canvas.frame, image, moved)


class Sink(AbstractContextManager["Sink"], ABC):
    """Takes the pictures of one view in the order of time, and keeps a few small ones for the contact sheet."""

    def __init__(self, expected: int) -> None:
        self.files: list[Path] = []
        self.samples: list[Image] = []
        count = min(SHEET_COLUMNS, expected)
        self._kept = {round(place) for place in np.linspace(0, max(0, expected - 1), count)} if count else set()
        self._taken = 0

    def take(self, frame: int, image: Image) -> None:
        """The next picture, of a frame of the recording."""
        if self._taken in self._kept:
            self.samples.append(_small(image))
        self._taken += 1
        self._write(frame, image)

    @abstractmethod
    def _write(self, frame: int, image: Image) -> None: ...


class VideoSink(Sink):
    """One mp4 file."""

    def __init__(self, path: Path, fps: float, expected: int) -> None:
        super().__init__(expected)
        self._writer = VideoWriter(path, fps)

    def _write(self, frame: int, image: Image) -> None:
        self._writer.write(image)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)
        if error is None and self._writer.frames:
            self.files.append(self._writer.path)


class FolderSink(Sink):
    """A folder of PNG images named by the frame's number in the recording."""

    def __init__(self, folder: Path, expected: int) -> None:
        super().__init__(expected)
        self._folder = folder

    def _write(self, frame: int, image: Image) -> None:
        self.files.append(self._folder / f"{frame:06d}.png")
        write_image(self.files[-1], image)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""


class Gallery:
    """Takes pictures of different sizes and keeps small ones of the first few, in rows of cells of one size."""

    def __init__(self, folder: Path, expected: int) -> None:
        self.files: list[Path] = []
        self.rows: list[list[Image]] = []
        self._folder = folder
        self._kept = {round(place) for place in np.linspace(0, max(0, expected - 1), min(GALLERY_CELLS, expected))}

    def take(self, name: str, image: Image) -> None:
        """The next picture, to be called by this name."""
        if len(self.files) in self._kept:
            if not self.rows or len(self.rows[-1]) == SHEET_COLUMNS:
                self.rows.append([])
            self.rows[-1].append(_cell(image, name))
        self.files.append(self._folder / f"{name}.png")
        write_image(self.files[-1], image)


def _cell(image: Image, name: str) -> Image:
    """A picture in the middle of a white square, with its name; in the picture itself a name might hide the person."""
    share = SHEET_HEIGHT / max(image.shape[:2])
    height, width = (max(1, round(share * side)) for side in image.shape[:2])
    method = cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR
    cell = np.full((SHEET_HEIGHT, SHEET_HEIGHT, 3), 255, dtype=np.uint8)
    y, x = (SHEET_HEIGHT - height) // 2, (SHEET_HEIGHT - width) // 2
    cell[y : y + height, x : x + width] = cv2.resize(image, (width, height), interpolation=method)
    draw_label(cell, name[:LONGEST_NAME], (4, SHEET_HEIGHT))
    return cell


def file_stem(name: str, otherwise: str) -> str:
    """A name as files can have it, or another one where nothing is left of it."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or otherwise


def contact_sheet(path: Path, rows: Iterable[Sequence[Image]]) -> Path:
    """One picture of rows of pictures. DataError when there are none."""
    lines = [
        np.concatenate(
            [np.pad(picture, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for picture in pictures], axis=1
        )
        for pictures in rows
        if pictures
    ]
    if not lines:
        raise DataError("no pictures were drawn", hint="See `posekit info` for what the artifacts hold")
    width = max(line.shape[1] for line in lines)
    whole = [np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)), constant_values=255) for line in lines]
    write_image(path, np.concatenate(whole))
    return path


def _small(image: Image) -> Image:
    share = SHEET_HEIGHT / image.shape[0]
    if share >= 1:
        return image.copy()
    size = (max(1, round(image.shape[1] * share)), SHEET_HEIGHT)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
