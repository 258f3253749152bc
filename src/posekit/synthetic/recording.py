"""Recording: a take in a scene, frame by frame, and the files that keep what is exactly known about it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from jaxtyping import Float

from posekit.artifacts.provenance import Header
from posekit.artifacts.writing import ArtifactWriter
from posekit.body.smpl_file import BodyData
from posekit.records import Camera, Clip, camera_columns, clip_columns
from posekit.synthetic.bodies import Take, posed
from posekit.synthetic.scene import Scene, View
from posekit.synthetic.seeding import stream

TRUTH_FILE, DENSE_FILE = "truth.h5", "dense.h5"

_BLOCK = 32


@dataclass(frozen=True)
class Frame:
    """One instant: posed body (world, m), and the view of each camera that was asked for."""

    index: int
    vertices: Float[np.ndarray, "V 3"]
    joints: Float[np.ndarray, "K 3"]
    views: Mapping[int, View]


@dataclass(frozen=True)
class Recording:
    """What is recorded: a take by some cameras of a scene, `points` visible vertices noted in every view.

    `name` tells recordings apart when points are drawn.
    """

    name: str
    take: Take
    scene: Scene
    cameras: Collection[int]
    points: int
    seed: int

    def frames(self, body: BodyData) -> Iterator[Frame]:
        """The frames in order; the views of one are rendered side by side."""
        cameras = list(self.cameras)
        with ThreadPoolExecutor(max_workers=min(len(cameras), os.cpu_count() or 1) or 1) as pool:
            for begin in range(0, len(self.take), _BLOCK):
                block = posed(body, self.take, slice(begin, begin + _BLOCK))
                for index, (vertices, joints) in enumerate(zip(block.vertices, block.joints, strict=True), start=begin):
                    views = pool.map(partial(self._view, index, vertices), cameras)
                    yield Frame(index, vertices, joints, dict(zip(cameras, views, strict=True)))

    def _view(self, frame: int, vertices: np.ndarray, camera: int) -> View:
        rng = stream(self.seed, "points", self.name, frame, self.scene.cameras[camera].name)
        return self.scene.view(camera, vertices, self.points, rng)


class TruthWriter:
    """Writes `truth.h5` and `dense.h5` into a folder; used as a context manager.

    Both number sequences and cameras by the tables in the truth; the headers' facts repeat their names, so that a data set
    made from the raw files, which may number them otherwise, can be matched.
    """

    def __init__(
        self, folder: Path, truth: Header, dense: Header, cameras: Sequence[Camera], clips: Sequence[Clip]
    ) -> None:
        self._truth = ArtifactWriter(folder / TRUTH_FILE, truth)
        self._dense = ArtifactWriter(folder / DENSE_FILE, dense)
        self._tables = {"cameras": camera_columns(cameras), "sequences": clip_columns(clips)}
        self._row_of = {(camera.session, camera.name): row for row, camera in enumerate(cameras)}

    def __enter__(self) -> TruthWriter:
        self._truth.__enter__()
        self._dense.__enter__()
        for table, columns in self._tables.items():
            self._truth.append(table, columns)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The truth is what says that the whole is there, so it comes last.
        self._dense.__exit__(kind, error, trace)
        self._truth.__exit__(kind, error, trace)

    def add(self, sequence: int, person: int, recording: Recording, frame: Frame) -> None:
        """Notes a frame."""
        take = recording.take
        key = {"sequence": [sequence], "frame": [frame.index], "person": [person]}
        self._truth.append(
            "bodies",
            {
                **key,
                "betas": take.betas[None],
                "pose": take.pose[frame.index][None],
                "translation": take.translation[frame.index][None],
            },
        )
        cameras = [recording.scene.cameras[index] for index in frame.views]
        views = list(frame.views.values())
        of_views = {name: values * len(views) for name, values in key.items()}
        of_views["camera"] = [self._row_of[camera.session, camera.name] for camera in cameras]
        self._truth.append(
            "views",
            {
                **of_views,
                "origin": [view.origin for view in views],
                "mask": [_png(view.mask) for view in views],
                "iuv": [_png(view.iuv) for view in views],
            },
        )
        self._dense.append(
            "samples",
            {
                **of_views,
                "pixels": [view.pixels for view in views],
                "vertices": [view.vertices for view in views],
                "weights": [np.ones(len(view.vertices)) for view in views],
            },
        )


def _png(image: np.ndarray) -> np.ndarray:
    ordered = image[..., ::-1] if image.ndim == 3 else image  # OpenCV writes the last channel first
    return np.asarray(cv2.imencode(".png", ordered)[1])
