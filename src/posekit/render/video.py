"""Writing films and pictures; a file appears under its name only when it is whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from jaxtyping import UInt8

from posekit.atomic import replacing
from posekit.errors import DependencyError, OutputError

CODEC = "libx264"
CRF = 18
"""Constant rate factor of H.264: 0 is lossless, 18 looks like it."""


PICTURES = (".png", ".jpg")


class VideoWriter:
    """Writes RGB frames of one size as an H.264 mp4 that every player reads; a context manager.

    Odd sizes are made even by repeating the last row or column. Nothing is left behind when the block fails or no frame
    was written. Raises DependencyError where the codec is missing, OutputError where the file cannot be written.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if CODEC not in av.codecs_available:
            raise DependencyError(
                "PyAV cannot write H.264",
                got=f"no encoder {CODEC}",
                hint="Install the av wheel from the package index, or ask for images instead of a video",
            )
        self.path = Path(path)
        self.frames = 0
        self._rate = Fraction(fps).limit_denominator(1001 * 60)
        self._partial = self.path.with_name(f".{self.path.stem}.{os.getpid()}.partial{self.path.suffix}")
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, ...] = ()

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        """Adds a frame; ValueError if its size is not that of the first."""
        if self._container is None:
            self._open(frame.shape[:2])
        if frame.shape[:2] != self._size:
            raise ValueError(f"a frame of {frame.shape[:2]} in a video of {self._size}")
        odd_rows, odd_columns = frame.shape[0] % 2, frame.shape[1] % 2
        if odd_rows or odd_columns:
            frame = np.pad(frame, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts = self.frames
        with _writing(self.path):
            self._container.mux(self._stream.encode(picture.reformat(format="yuv420p", dst_colorspace="itu709")))
        self.frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is None:
            return
        try:
            with _writing(self.path) if error is None else contextlib.suppress(Exception):
                if error is None:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
                if error is None:
                    self._partial.replace(self.path)
        finally:
            with contextlib.suppress(OSError):
                self._partial.unlink()

    def _open(self, size: tuple[int, ...]) -> None:
        self._size = size
        with _writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "faststart"})
            options = {"crf": str(CRF), "preset": "veryfast"}
            self._stream = self._container.add_stream(CODEC, rate=self._rate, options=options)
            self._stream.width, self._stream.height = size[1] + size[1] % 2, size[0] + size[0] % 2
            self._stream.pix_fmt = "yuv420p"
            # The matrix of HD video, said in the file, so that players do not guess another from the size.
            context = self._stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = 1
            context.color_range = 1


def write_image(path: Path, image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Writes an RGB picture in the format of the name's ending (``.png``, ``.jpg``); OutputError if it cannot be."""
    path = Path(path)
    if path.suffix not in PICTURES:
        raise OutputError(f"pictures cannot be written as {path.name}", got=path.suffix, accepted=PICTURES)
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise OutputError(
            f"cannot write {path}", got=error, hint="Check that the folder is writable and has free space"
        ) from error
