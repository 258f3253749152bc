"""The truth of single pictures: bodies, masks and surface coordinates of the people in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.records import Camera, Clip, camera_columns, clip_columns
from posekit.synthetic.bodies import Take
from posekit.synthetic.snapshot import SeenPerson


class PictureTruth:
    """Writes a truth artifact with one camera for every picture; used as a context manager."""

    def __init__(self, path: Path, header: Header, clips: Sequence[Clip]) -> None:
        self._writer = ArtifactWriter(path, header)
        self._clips = clips
        self._cameras: list[Camera] = []

    def __enter__(self) -> PictureTruth:
        self._writer.__enter__()
        self._writer.append("sequences", clip_columns(self._clips))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._cameras:
            self._writer.append("cameras", camera_columns(self._cameras))
        self._writer.__exit__(kind, error, trace)

    def add_picture(self, camera: Camera) -> None:
        """Begins a picture; the people added from here on are seen by this camera."""
        self._cameras.append(camera)

    def add_person(self, sequence: int, frame: int, person: int, take: Take, seen: SeenPerson) -> None:
        """Notes the body of a take of one frame, and, when anything of it is seen, its mask and surface coordinates."""
        key = {"sequence": [sequence], "frame": [frame], "person": [person]}
        body = {"betas": take.betas[None], "pose": take.pose[:1], "translation": take.translation[:1]}
        self._writer.append("bodies", {**key, **body})
        rows, columns = np.nonzero(seen.mask)
        if not len(rows):
            return
        cut = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
        iuv = np.concatenate([seen.parts[..., None], np.rint(seen.uv * 255.0).astype(np.uint8)], axis=2)[cut]
        view = {
            "camera": [len(self._cameras) - 1],
            "origin": [[int(columns.min()), int(rows.min())]],
            "mask": [cv2.imencode(".png", seen.mask[cut].astype(np.uint8) * 255)[1].ravel()],
            # OpenCV writes the last channel first.
            "iuv": [cv2.imencode(".png", np.ascontiguousarray(iuv[..., ::-1]))[1].ravel()],
        }
        self._writer.append("views", {**key, **view})
